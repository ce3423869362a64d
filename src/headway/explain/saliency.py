"""Which tokens a decision rests on: integrated gradients, and attention.

Sundararajan, Taly, Yan 2017, "Axiomatic Attribution for Deep Networks" (arXiv 1703.01365). The
network is followed from an empty text, whose words are all [PAD], to the real one; what each
token's vector adds on the way sums up to the difference of the two results. Attention says where
the network looked, which is not the same: Jain and Wallace 2019 (arXiv 1902.10186).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from headway.data.batch import Batch
from headway.errors import RequestError
from headway.explain.recorder import record_attention
from headway.layers.heads import PooledHead
from headway.layers.packed import is_packed
from headway.layers.side import Start
from headway.tasks._model import Model

_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """What each token of a text counted.

    Args:
        tokens: As the vocabulary writes them.
        gradients: What each added to the result; together `difference`, but for the error of the
            integral.
        attention: Share of the first token's attention in the last layer, the mean of its heads;
            empty where the network has none.
        difference: The result's logit (or number) for this text, less that for the empty one.
    """

    tokens: list[str]
    gradients: list[float]
    attention: list[float]
    difference: float


def explain(model: Model, record: Mapping[str, Any], *, num_steps: int = _STEPS) -> Saliency:
    """Say what each token counted for the class that a model gives, or its number.

    Args:
        model: A classifier of texts, or a regression.
        record: With the task's inputs.
        num_steps: Points of the integral.
    Raises:
        RequestError: for a model of another kind.
    """
    has_text = model.task.inputs == ("text",)
    if not (has_text and isinstance(model.head, PooledHead) and hasattr(model.body, "depth_of")):
        raise RequestError(
            f"a {model.architecture} that does {model.task_name} cannot be explained yet: only "
            "Transformers that give a class or a number to a text"
        )
    if is_packed(model.body):
        raise RequestError(
            "a model packed for inference has no gradients", hint='load it with precision="fp32"'
        )
    asked = {key: value for key, value in record.items() if key != "label"}
    # It looks at the record, too.
    model.predict([asked])
    example = model.task.encode([asked], model.setting).examples[0]
    if example.parts:
        raise RequestError("a text in several windows, or in both orders, cannot be explained")
    batch = model.task.collate([[example]], model.setting)
    gradients, difference = _integrate(model, batch, num_steps)
    tokenizer = model.tokenizer
    return Saliency(
        tokens=[tokenizer.write_piece(number).strip() for number in example.input_ids],
        gradients=[round(value, 6) for value in gradients],
        attention=_attention(model, batch),
        difference=difference,
    )


def _integrate(model: Model, batch: Batch, num_steps: int) -> tuple[list[float], float]:
    """Sum up gradients along the way from the empty text, by the midpoint rule."""
    body, head, source = model.body, model.head, batch.source
    special = torch.from_numpy(model.tokenizer.is_special)[source.ids]
    empty_ids = torch.where(special, source.ids, model.tokenizer.pad_id)
    with torch.no_grad():
        full = body.embeddings(source)
        empty = body.embeddings(replace(source, input_ids=empty_ids))

    def score(hidden: Tensor) -> Tensor:
        side = replace(source, start=Start(hidden, 0))
        return head(body, body.encode(side)).float()[0]

    with torch.no_grad():
        results = score(full)
        place = int(results.argmax()) if len(results) > 1 else 0
        difference = float(results[place] - score(empty)[place])
    total = torch.zeros_like(full)
    for step in range(num_steps):
        point = empty + (full - empty) * (step + 0.5) / num_steps
        point.requires_grad_(True)
        total += torch.autograd.grad(score(point)[place], point)[0]
    added = ((full - empty) * total / num_steps).sum(-1)[0]
    return added.tolist(), difference


def _attention(model: Model, batch: Batch) -> list[float]:
    with record_attention(model.body) as record, torch.no_grad():
        model.body.encode(batch.source)
    found = record.maps_of(0)
    maps = found.encoder if model.body.kind == "encoder" else found.decoder
    if maps is None:
        return []
    # The token whose state is looked at: the first, a decoder's last.
    row = 0 if model.body.kind == "encoder" else -1
    return [round(float(value), 6) for value in maps[-1].mean(0)[row]]
