"""Score a model on records: predictions against references, and the loss of the references."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from headway.data.batch import Batch, pad_rows
from headway.data.order import inference_batches
from headway.metrics.generated import perplexity
from headway.metrics.intervals import Statistics
from headway.tasks._model import Model
from headway.tasks._task import Encoded, Progress, Record
from headway.train.guard import Interrupted

# Cells and rows of a batch without gradients.
_BATCH_TOKENS = 16384
_BATCH_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good a model is on some records.

    Args:
        scores: Name -> value, such as {"bleu": 36.2, "perplexity": 4.1}.
        statistics: What each score was computed from, row by row; empty if nothing was predicted.
        losses: Name -> mean loss in nats.
        weights: Name -> factor of that loss in the objective.
        predictions: The answers, in order; empty if nothing was predicted.
        cut_targets: References that are cut for the losses, as they are in training.
    """

    scores: dict[str, float]
    statistics: list[Statistics]
    losses: dict[str, float]
    weights: dict[str, float]
    predictions: list[dict[str, Any]]
    cut_targets: int = 0

    @property
    def all_scores(self) -> dict[str, float]:
        """Give the scores, and before them the loss of all terms together, as it is trained."""
        total = sum(self.weights[name] * value for name, value in self.losses.items())
        return {"loss": total, **self.scores}


def batches_without_gradients(
    model: Model, examples: Encoded, stopping: Callable[[], bool]
) -> Iterator[Batch]:
    """Lay examples out in batches of rows of like length, longest first.

    Raises:
        Interrupted: as soon as `stopping` says so.
    """
    device = next(model.body.parameters()).device
    lengths = examples.lengths.sum(1).tolist()
    for part in inference_batches(lengths, batch_tokens=_BATCH_TOKENS, batch_rows=_BATCH_ROWS):
        if stopping():
            raise Interrupted
        rows = pad_rows([examples.examples[index] for index in part])
        yield model.task.collate(rows, model.setting).to(device)


@dataclass(frozen=True)
class MeanLosses:
    """Losses over all examples.

    Args:
        losses: Name -> mean in nats.
        accuracies: Name -> share of the targets that got the highest score, where it was counted.
        num_targets: Of the first loss.
        weights: Name -> factor of that loss in the objective.
    """

    losses: dict[str, float]
    accuracies: dict[str, float]
    num_targets: float
    weights: dict[str, float]


def mean_losses(
    model: Model, examples: Encoded, *, stopping: Callable[[], bool] = lambda: False
) -> MeanLosses:
    """Compute each loss of the task over examples, without dropout or label smoothing.

    Raises:
        Interrupted: as soon as `stopping` says so.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, float] = defaultdict(float)
    correct: defaultdict[str, float] = defaultdict(float)
    weights: dict[str, float] = {}
    model.stop_training()
    with torch.inference_mode():
        for batch in batches_without_gradients(model, examples, stopping):
            for loss in model.task.losses(model.body, model.head, batch):
                totals[loss.name] += float(loss.total)
                counts[loss.name] += loss.count
                weights[loss.name] = loss.weight
                if loss.correct is not None:
                    correct[loss.name] += loss.correct
    return MeanLosses(
        {name: totals[name] / max(counts[name], 1e-9) for name in totals},
        {name: correct[name] / max(counts[name], 1e-9) for name in correct},
        next(iter(counts.values()), 0.0),
        weights,
    )


def evaluate(
    model: Model,
    rows: Sequence[Record],
    *,
    examples: Encoded | None = None,
    precision: str | None = None,
    predicting: bool = True,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Score a model on records with references.

    Args:
        model: Left as it is.
        rows: Records with the task's columns.
        examples: The same rows, encoded, if that is already done.
        precision: Of the predictions, as in `Model.to_precision`; None: the model's own. Losses
            are always computed by the model as it is.
        predicting: Make predictions; else only the losses are computed.
        settings: Fields of the task to change, such as {"num_beams": 1}.
        progress: Told how far it is.
        stopping: Asked now and then; True gives up.
    Raises:
        Interrupted: if `stopping` asked for it.
    """
    fast = model if precision is None or not predicting else model.to_precision(precision)
    examples = examples or model.task.encode(rows, model.setting)
    means = mean_losses(model, examples, stopping=stopping)
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
        predictions = fast.predict(rows, progress=note, **(settings or {}))
        statistics = model.task.statistics(predictions, rows)
        scores |= {item.name: item.value() for item in statistics}
    if "perplexity" in model.task.metrics:
        # Of the first loss, which is that of words.
        scores["perplexity"] = perplexity(next(iter(means.losses.values())))
    if "bits_per_byte" in model.task.metrics and examples.num_bytes:
        bits = next(iter(means.losses.values())) * means.num_targets / math.log(2)
        scores["bits_per_byte"] = bits / examples.num_bytes
    written = examples.full_lengths.keys() & {*model.task.columns} - {*model.task.inputs}
    cut = sum(int((examples.full_lengths[n] > examples.limits[n]).sum()) for n in written)
    return Evaluation(
        scores=scores,
        statistics=statistics,
        losses=means.losses,
        weights=means.weights,
        predictions=predictions,
        cut_targets=cut,
    )
