"""The learning-rate range test: raise the rate at every update and watch the loss.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3;
the rise by a constant factor, the smoothing and both rules of reading it are those of fastai
(Howard and Gugger 2020, arXiv 2002.04688, section 4.3). For Transformers neither held up beside a
sweep of rates on three tasks (benchmarks/RESULTS.md, "Learning rates"): the smoothed curve comes
late, by a factor of five in the rate, so that it overestimates, and where the loss is noisy the
steepest fall is noise. The suggestion is the steepest fall of a curve that is smoothed to both
sides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headway.errors import ConfigError, TrainError
from headway.sections import Playbook, Training
from headway.tasks._model import Model
from headway.tasks._task import Encoded, Progress
from headway.train.loop import Trainer

# Weight of the past in the smoothed loss.
_SMOOTHING = 0.9
# The test is over when the smoothed loss is so many times its lowest value.
_TOO_HIGH = 4.0
# Width of the smoothing to both sides, in decades of the rate; and how far above the highest loss
# of the beginning a loss counts, so that the end does not smear into the fall before it.
_WIDTH_DECADES = 0.35
_HIGHEST_SHARE = 1.5
# Updates at the beginning in which the smoothed loss says little.
_SETTLING_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """What a range test saw.

    Args:
        rates: Learning rate of each update.
        losses: Training loss before it.
        smoothed: The same, as a mean that forgets.
        steepest: Rate at which the smoothed loss falls fastest.
        before_rise: A tenth of the rate at which it is lowest, before it shoots up.
        suggestion: Rate to train with.
        epochs: Passes over the data that the test took.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float
    before_rise: float
    suggestion: float
    epochs: float


def find_rate(
    model: Model,
    examples: Encoded,
    options: Training,
    *,
    playbook: Playbook,
    low: float = 1e-7,
    high: float = 1.0,
    num_steps: int = 100,
    progress: Callable[[Progress], None] | None = None,
) -> RangeTest:
    """Train a copy of a model with a rate that grows by the same factor at every update.

    Args:
        model: Left as it is.
        examples: What it shall learn from.
        options: The recipe's training section; its schedule and rate are not looked at.
        playbook: The recipe's playbook section: parts frozen by name stay so.
        low: First rate.
        high: Last rate, unless the loss shoots up before.
        num_steps: Updates.
        progress: Told how far it is.
    Raises:
        ConfigError: for rates or a number of updates that make no curve.
    """
    check_range(low, high, num_steps)
    growth = (high / low) ** (1 / (num_steps - 1))
    kept = {name: vars(playbook)[name] for name in ("freeze", "layer_decay", "stage_rates")}
    trainer = Trainer(
        copy.deepcopy(model),
        examples,
        options,
        playbook=Playbook(**kept),
        rates=lambda step: low * growth**step,
    )
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    for step in range(num_steps):
        try:
            update = trainer.take_step()
        except TrainError:
            # The loss is not a number any more: there is nothing more to see.
            break
        loss = trainer.total(update.losses)
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
        rates.append(update.learning_rate)
        losses.append(loss)
        smoothed.append(mean / (1 - _SMOOTHING ** (step + 1)))
        if progress is not None:
            progress(Progress(done=step + 1, total=num_steps))
        if smoothed[-1] > _TOO_HIGH * min(smoothed) and step > _SETTLING_SHARE * num_steps:
            break
    return read_curve(rates, losses, smoothed, epochs=trainer.epoch)


def check_range(low: float, high: float, num_steps: int) -> None:
    """Raise a ConfigError for rates or a number of updates that make no curve."""
    if not (0 < low < high and math.isfinite(high)):
        raise ConfigError(f"the rates go from {low:g} to {high:g}, but must grow from above 0")
    if not 10 <= num_steps <= 100_000:
        raise ConfigError(f"{num_steps} updates are asked for, but 10 to 100,000 make a curve")


def read_curve(
    rates: list[float], losses: list[float], smoothed: list[float], *, epochs: float
) -> RangeTest:
    """Read both published rules, and the one that we suggest, from a curve.

    Raises:
        TrainError: if the curve is too short to be read.
    """
    first = round(_SETTLING_SHARE * len(rates))
    lowest = first + int(np.argmin(smoothed[first:])) if len(rates) > first + 3 else 0
    if lowest - first < 2:
        raise TrainError(
            f"the loss did not fall in {len(rates)} updates: no rate can be read from it",
            hint="begin with a lower rate, or look at the data",
        )
    slopes = np.gradient(np.array(smoothed[first : lowest + 1]))
    steepest = rates[first + int(np.argmin(slopes))]
    return RangeTest(
        rates=rates,
        losses=losses,
        smoothed=smoothed,
        steepest=steepest,
        before_rise=rates[lowest] / 10,
        suggestion=suggest(rates, losses),
        epochs=epochs,
    )


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Give the rate at which the loss falls fastest, each smoothed with those around it.

    Args:
        rates: Learning rate of each update, growing by the same factor.
        losses: Training loss before it.
    """
    first = round(_SETTLING_SHARE * len(rates))
    places = np.log10(rates)
    kept = np.minimum(losses, _HIGHEST_SHARE * max(losses[: max(1, first)]))
    weights = np.exp(-(((places[:, None] - places) / _WIDTH_DECADES) ** 2) / 2)
    centered = weights @ kept / weights.sum(1)
    lowest = max(first + 2, first + int(np.argmin(centered[first:])))
    return rates[first + int(np.argmin(np.gradient(centered)[first:lowest]))]
