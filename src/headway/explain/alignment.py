"""Which source tokens a model looked at while it wrote each target token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from headway.data.batch import Example
from headway.errors import RequestError
from headway.explain.recorder import record_attention
from headway.explain.svg import SPACE
from headway.tasks._model import Model
from headway.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """A source, a target and the attention between and within them.

    Row t of `weights` and `decoder` belongs to the step that writes target token t; column t of
    `decoder` is what that step was given, the start sign or the token before.

    Args:
        source: What was read.
        target: What was written, or given.
        source_tokens: S tokens, </s> included.
        target_tokens: T tokens, </s> included.
        input_tokens: T tokens that the decoder was given.
        weights: (L, H, T, S) float32. L and H are 1 in recurrent models.
        encoder: (L, H, S, S) float32. Self-attention of a Transformer's encoder, else None.
        decoder: (L, H, T, T) float32. Self-attention of a Transformer's decoder, else None.
    """

    source: str
    target: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    input_tokens: tuple[str, ...]
    weights: np.ndarray
    encoder: np.ndarray | None = None
    decoder: np.ndarray | None = None

    def mean(self) -> np.ndarray:
        """Average over layers and heads: (T, S) float32."""
        return self.weights.mean(axis=(0, 1))


def align(model: Model, source: str, target: str | None = None) -> Alignment:
    """Record what a model attends to while it writes a target.

    Args:
        model: Reads one text and writes another.
        source: Source text.
        target: Target text; by default what the model itself writes.
    Raises:
        RequestError: if the model does not write text from text, or has no attention.
    """
    check_writes_text(model)
    setting, task, tokenizer = model.setting, model.task, model.tokenizer
    body: Any = model.body
    reads, writes = task.columns
    record = {reads: source} | ({} if target is None else {writes: target})
    example = task.encode([record], setting).examples[0]
    with evaluating(body), torch.inference_mode():
        if example.target_ids is None:
            found = task.search(body, [example.input_ids], setting)  # pyright: ignore
            end = [tokenizer.end_id] if found[0][0].is_finished else []
            example = Example(0, example.input_ids, [*found[0][0].ids, *end])
        batch = task.collate([[example]], setting).to(next(body.parameters()).device)
        if batch.target is None:
            raise RequestError("the target is empty, so there is nothing to align")
        with record_attention(body) as record:
            body.decode(batch.target, body.encode(batch.source))
    maps = record.maps_of(0)
    if maps.cross is None:
        raise RequestError(f"{model.architecture} has no attention to draw")
    target_ids = example.target_ids or []
    return Alignment(
        source=source,
        target=tokenizer.decode(target_ids) if target is None else target,
        source_tokens=tuple(show_tokens(tokenizer, example.input_ids)),
        target_tokens=tuple(show_tokens(tokenizer, target_ids)),
        input_tokens=tuple(show_tokens(tokenizer, batch.target.ids[0].tolist())),
        weights=maps.cross,
        encoder=maps.encoder,
        decoder=maps.decoder,
    )


def check_writes_text(model: Model) -> None:
    """Check that a model writes a text for a text.

    Raises:
        RequestError: if it does something else.
    """
    if not hasattr(model.task, "search"):
        raise RequestError(
            f"this model does {model.task_name}, and only models that write text from text "
            "can be aligned"
        )


@contextmanager
def evaluating(body: nn.Module) -> Iterator[None]:
    """Switch dropout off while the block runs, and leave the body as it was found."""
    modes = [(module, module.training) for module in body.modules()]
    body.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def show_tokens(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Write tokens for people: spaces are marked, bytes are characters again where they can be."""
    return [_show(tokenizer, token_id) for token_id in ids]


def _show(tokenizer: Tokenizer, token_id: int) -> str:
    token, text = tokenizer.token_of(token_id), tokenizer.decode([token_id])
    if text.startswith(" "):
        return SPACE + text[1:]
    # Most vocabularies hold text, with marks for spaces or inner pieces; one of bytes holds other
    # characters in their place.
    return token if text.strip() in token else text
