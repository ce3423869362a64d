"""Learning-rate schedules: the rate at a step as a share of the highest rate.

One function for each, one row in the table: to add a schedule, add both here and its name to
SCHEDULES in `recipe.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from headway.sections import PLAIN, Playbook, Training

# Highest rates where the recipe leaves them open: for a network from nothing (Adam's own default),
# for one that goes on at a width of 768 (Devlin et al. 2019, appendix A.3), and for any such.
_FRESH_RATE, _BASE_RATE, _HIGHEST_RATE = 1e-3, 5e-5, 5e-4


def _warm_up(step: int, total: int, options: Training) -> float:
    """Rise linearly from 0, and stay: the first update already has a share of the rate."""
    return min(1.0, (step + 1) / (_warm_up_steps(total, options) + 1))


def _warm_up_steps(total: int, options: Training) -> int:
    """Count the updates in which the rate rises."""
    return round(options.warmup_ratio * total) if options.warmup_ratio else options.warmup_steps


def _after_warm_up(step: int, total: int, options: Training) -> float:
    """Give how much of the run after warm-up has passed, 0 to 1."""
    start = _warm_up_steps(total, options)
    return min(1.0, max(0.0, (step - start) / max(1, total - start)))


def step_decay(step: int, total: int, options: Training) -> float:
    """Multiply by decay_ratio every cycle_steps."""
    return options.decay_ratio ** (step // options.cycle_steps)


def exponential(step: int, total: int, options: Training) -> float:
    """Fall by the same factor at every step, to decay_ratio at the end of the run."""
    return options.decay_ratio ** (step / max(1, total))


def cyclical(step: int, total: int, options: Training) -> float:
    """Swing as a triangle between a tenth of the rate and the rate (Smith 2017, 1506.01186)."""
    place = (step % options.cycle_steps) / options.cycle_steps
    return 0.1 + 0.9 * (1 - abs(2 * place - 1))


def one_cycle(step: int, total: int, options: Training) -> float:
    """Rise for 30 % of the run, fall to nearly nothing, both along a cosine (Smith 2018)."""
    peak = 0.3 * total
    if step < peak:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * step / peak)) / 2
    share = min(1.0, (step - peak) / max(1.0, total - peak))
    return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * share)) / 2


def linear(step: int, total: int, options: Training) -> float:
    """Fall in a straight line to 0 after warm-up (Devlin et al. 2019)."""
    return _warm_up(step, total, options) * (1 - _after_warm_up(step, total, options))


def cosine(step: int, total: int, options: Training) -> float:
    """Fall along half a cosine to 0 after warm-up (Loshchilov and Hutter 2017, 1608.03983)."""
    share = _after_warm_up(step, total, options)
    return _warm_up(step, total, options) * (1 + math.cos(math.pi * share)) / 2


def inverse_sqrt(step: int, total: int, options: Training) -> float:
    """Fall with the square root of the step after warm-up (Vaswani et al. 2017, section 5.3)."""
    start = _warm_up_steps(total, options) + 1
    return min((step + 1) / start, math.sqrt(start / (step + 1)))


def slanted_triangular(step: int, total: int, options: Training) -> float:
    """Rise for a tenth of the run (or warmup_ratio) from 1/32, fall to it again in a straight line.

    Howard and Ruder 2018 (arXiv 1801.06146), equation 3; T is `total`, t counts from 0.
    """
    lowest = 1 / 32
    peak = max(1.0, (options.warmup_ratio or 0.1) * total)
    share = step / peak if step < peak else 1 - (step - peak) / max(1.0, total - peak)
    return lowest + (1 - lowest) * max(0.0, share)


SCHEDULES: Mapping[str, Callable[[int, int, Training], float]] = MappingProxyType(
    {
        "constant": _warm_up,
        "step": step_decay,
        "exponential": exponential,
        "cyclical": cyclical,
        "one-cycle": one_cycle,
        "linear": linear,
        "cosine": cosine,
        "inverse-sqrt": inverse_sqrt,
        "slanted-triangular": slanted_triangular,
    }
)


def spell_out(options: Training, *, width: int | None, lora: bool = False) -> Training:
    """Put a number in place of a highest rate of "auto".

    A network that goes on learning wants a lower rate the wider it is: what moves a hidden state
    is a sum over its width. The published rates are for 768; at 384 the same rate had learned next
    to nothing in as many updates, and four times as much was best on three sets
    (benchmarks/RESULTS.md, "Learning rates").

    Args:
        options: The recipe's section.
        width: Hidden size of a model that goes on; None where one starts from nothing.
        lora: Adapters learn, which take ten times the rate (benchmarks/RESULTS.md, "Learning
            rates").
    """
    if options.peak_lr != "auto":
        return options
    rate = _FRESH_RATE if width is None else min(_HIGHEST_RATE, _BASE_RATE * (768 / width) ** 2)
    return replace(options, peak_lr=float(f"{rate * (10 if lora else 1):.2g}"))


def learning_rate(step: int, total: int, options: Training, playbook: Playbook = PLAIN) -> float:
    """Give the rate of an update.

    With stochastic weight averaging the schedule is that of the time before it, and the rate never
    falls below the constant one that follows (Izmailov et al. 2018, arXiv 1803.05407, section 3.2).

    Args:
        step: Updates before this one.
        total: Updates of the whole run.
        options: The recipe's training section.
        playbook: The recipe's playbook section.
    """
    schedule = SCHEDULES[options.schedule]
    if playbook.swa_start is None:
        return options.rate * schedule(step, total, options)
    before = max(1, round(playbook.swa_start * total))
    if step >= before:
        return options.rate * playbook.swa_rate
    # Warm-up may be below that rate.
    share = schedule(step, before, options)
    is_rising = share < playbook.swa_rate and schedule(step + 1, before, options) > share
    return options.rate * (share if is_rising else max(share, playbook.swa_rate))
