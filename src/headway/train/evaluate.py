"""Score a model on records: predictions against references, and the loss of the references."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headway.data.batch import pad_rows
from headway.data.order import inference_batches
from headway.metrics.generated import perplexity
from headway.metrics.intervals import Statistics
from headway.tasks._model import Model
from headway.tasks._task import Encoded, Progress, Record
from headway.train.guard import Interrupted

# Cells of a batch without gradients.
_BATCH_TOKENS = 16384


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a model is on some records.

    Args:
        scores: Name -> value, such as {"bleu": 36.2, "perplexity": 4.1}.
        statistics: What each score was computed from, row by row; empty if nothing was predicted.
        losses: Name -> mean loss in nats.
        predictions: The answers, in order; empty if nothing was predicted.
        cut_targets: References that are cut for the losses, as they are in training.
    """

    scores: dict[str, float]
    statistics: list[Statistics]
    losses: dict[str, float]
    predictions: list[dict[str, Any]]
    cut_targets: int = 0


@dataclass(frozen=True)
class MeanLosses:
    """Losses over all examples.

    Args:
        losses: Name -> mean in nats.
        accuracies: Name -> share of the targets that got the highest score, where it was counted.
        num_targets: Of the first loss.
    """

    losses: dict[str, float]
    accuracies: dict[str, float]
    num_targets: float


def mean_losses(
    model: Model, examples: Encoded, *, stopping: Callable[[], bool] = lambda: False
) -> MeanLosses:
    """Compute each loss of the task over examples, without dropout or label smoothing.

    Raises:
        Interrupted: as soon as `stopping` says so.
    """
    totals: dict[str, float] = {}
    counts: dict[str, float] = {}
    correct: dict[str, float] = {}
    setting, device = model.setting, next(model.body.parameters()).device
    lengths = examples.lengths.sum(1).tolist()
    model.stop_training()
    with torch.inference_mode():
        for part in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=512):
            if stopping():
                raise Interrupted
            rows = pad_rows([examples.examples[index] for index in part])
            batch = model.task.collate(rows, setting).to(device)
            for loss in model.task.losses(model.body, model.head, batch):
                totals[loss.name] = totals.get(loss.name, 0.0) + float(loss.total)
                counts[loss.name] = counts.get(loss.name, 0.0) + loss.count
                if loss.correct is not None:
                    correct[loss.name] = correct.get(loss.name, 0.0) + loss.correct
    return MeanLosses(
        {name: totals[name] / max(counts[name], 1e-9) for name in totals},
        {name: correct[name] / max(counts[name], 1e-9) for name in correct},
        next(iter(counts.values()), 0.0),
    )


def evaluate(
    model: Model,
    rows: Sequence[Record],
    *,
    examples: Encoded | None = None,
    scorer: Model | None = None,
    predicting: bool = True,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Score a model on records with references.

    Args:
        model: Makes the predictions.
        rows: Records with the task's columns.
        examples: The same rows, encoded, if that is already done.
        scorer: Computes the losses; by default the model itself. Of use where the model is
            packed for inference, as losses want full precision.
        predicting: Make predictions; else only the losses are computed.
        settings: Fields of the task to change, such as {"num_beams": 1}.
        progress: Told how far it is.
        stopping: Asked now and then; True gives up.
    Raises:
        Interrupted: if `stopping` asked for it.
    """
    scorer = scorer or model
    examples = examples or scorer.task.encode(rows, scorer.setting)
    means = mean_losses(scorer, examples, stopping=stopping)
    losses = means.losses
    # "masked_lm" is scored by "masked_accuracy".
    scores = {
        f"{name.removesuffix('_lm')}_accuracy": 100 * value
        for name, value in means.accuracies.items()
    }
    predictions: list[dict[str, Any]] = []
    statistics: list[Statistics] = []

    def note(state: Progress) -> None:
        if stopping():
            raise Interrupted
        if progress is not None:
            progress(state)

    if predicting:
        predictions = model.predict(rows, progress=note, **(settings or {}))
        statistics = model.task.statistics(predictions, rows)
        scores |= {item.name: item.value() for item in statistics}
    if "perplexity" in model.task.metrics:
        # Of the first loss, which is that of words.
        scores["perplexity"] = perplexity(next(iter(losses.values())))
    if "bits_per_byte" in model.task.metrics and examples.num_bytes:
        bits = next(iter(losses.values())) * means.num_targets / math.log(2)
        scores["bits_per_byte"] = bits / examples.num_bytes
    cut = 0
    if "target" in examples.full_lengths:
        cut = int((examples.full_lengths["target"] > examples.limits["target"]).sum())
    return Evaluation(
        scores=scores,
        statistics=statistics,
        losses=losses,
        predictions=predictions,
        cut_targets=cut,
    )
