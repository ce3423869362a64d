"""How sure we are of a score: bootstrap intervals, and a test of one system against another.

A corpus score such as BLEU is no mean over rows, so its spread is found by drawing rows again and
again and scoring each draw. That is fast because a metric first boils every row down to a few
numbers (`Statistics`): the score of any draw is a function of their sum.

    Koehn 2004, Statistical significance tests for machine translation evaluation
    Riezler and Maxwell 2005, On some pitfalls in automatic evaluation and significance testing
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from headway.errors import DataError, join_problems

# Share of the draws inside an interval.
LEVEL = 0.95
# Row numbers drawn at a time: bounds the memory of a bootstrap to a few tens of megabytes.
CHUNK_DRAWS = 1_000_000
# Scores that differ by less than this share of their size are ties, not evidence.
TIE_RATIO = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """What a metric needs to know of each row, and the score of any sum of rows."""

    name: str
    """Name of the metric, such as "bleu"; two systems are compared only under one name."""
    rows: np.ndarray
    """(rows, k) float. k numbers for each row, such as matches and lengths; they add up."""
    score: Callable[[np.ndarray], float]
    """From the sums over rows, (k,) float, to the score."""
    signature: str = ""
    """The settings behind the score, as sacreBLEU writes them; empty where there are none."""

    def value(self) -> float:
        """Score all rows together."""
        return self.score(self.rows.sum(axis=0))


def mean_statistics(
    name: str, values: Sequence[float] | np.ndarray, *, scale: float = 100.0
) -> Statistics:
    """Make a score of numbers, one for each row: their mean, times a scale.

    Returns:
        statistics: rows are (rows, 2) float: the number, and 1 to count the row.
    """
    numbers = np.asarray(values, np.float64)
    return Statistics(
        name=name,
        rows=np.stack([numbers, np.ones_like(numbers)], axis=1),
        score=lambda sums: scale * float(sums[0] / sums[1]),
    )


def check_sides(predictions: Sequence, references: Sequence) -> None:
    """Find out whether predictions and references can be compared.

    Raises:
        DataError: if they differ in number, or are empty.
    """
    if len(predictions) != len(references):
        raise DataError(
            f"there are {len(predictions)} predictions, but {len(references)} references"
        )
    if not len(references):
        raise DataError("there is no row to score")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where the score would lie for other test rows of the same kind."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two systems compared on the same rows."""

    name: str
    """Name of the metric."""
    first: float
    """Score of the first system on all rows."""
    second: float
    """Score of the second system on all rows."""
    difference: float
    """first - second."""
    low: float
    """Lower end of the 95 per cent bootstrap interval of the difference."""
    high: float
    """Upper end of the 95 per cent bootstrap interval of the difference."""
    p_value: float
    """Two-sided: how often chance alone gives a difference at least this large, in (0, 1]."""


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """The mean of a few values that chance moves, such as a score over several seeds."""

    mean: float
    deviation: float
    """Standard deviation of the values."""
    low: float
    """Lower end of the 95 per cent interval of the mean, by Student's t."""
    high: float
    """Upper end of it."""


def mean_interval(values: Sequence[float]) -> MeanInterval:
    """Say where the mean of values lies, and how sure that is.

    Args:
        values: Two or more.
    Raises:
        DataError: if there are fewer.
    """
    from scipy.stats import t as student

    if len(values) < 2:
        raise DataError(f"{len(values)} values have no spread: two are needed")
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = float(student.ppf(0.975, len(values) - 1)) * deviation / len(values) ** 0.5
    return MeanInterval(mean=mean, deviation=deviation, low=mean - reach, high=mean + reach)


def bootstrap(statistics: Statistics, *, samples: int = 1000, seed: int = 0) -> Interval:
    """Score many draws of rows with replacement and keep the middle 95 per cent.

    Args:
        samples: Number of draws; 1000 is customary.
    Paper: Koehn 2004 (percentile bootstrap).
    Differs: sacreBLEU reports the mean of the draws and half the width of this interval; here the
        two ends are given, which need not lie symmetrically around the score.
    """
    sums = _draw_sums(statistics.rows, samples, seed)
    return _middle(_score_all(statistics, sums))


def paired_bootstrap(
    first: Statistics, second: Statistics, *, samples: int = 1000, seed: int = 0
) -> PairedTest:
    """Test two systems by drawing the same rows with replacement for both.

    Under the null hypothesis the differences of the draws spread around 0 as they now spread
    around their mean:  p = (1 + #{|d_i - mean(d)| >= |difference|}) / (1 + samples)

    Args:
        second: The other system, on the same rows in the same order.
    Raises:
        DataError: if the two are not the same metric over the same number of rows.
    Paper: Koehn 2004; Riezler and Maxwell 2005 for the shift to 0.
    Differs: sacreBLEU's --paired-bs takes |d_i| first and subtracts the mean then, and counts
        ties as no evidence for the null hypothesis. In simulations without a difference 11 per cent
        of its comparisons come out below 0.05, and a system differs from itself (p = 0.001).
        Signed differences with ties counted keep to 5 per cent and agree with the interval; a
        clear difference has twice sacreBLEU's p-value or a little more.
    """
    _check_pair(first, second)
    sums = _draw_sums(np.hstack([first.rows, second.rows]), samples, seed)
    width = first.rows.shape[1]
    differences = _score_all(first, sums[:, :width]) - _score_all(second, sums[:, width:])
    score_first, score_second = first.value(), second.value()
    difference = score_first - score_second
    slack = TIE_RATIO * max(abs(score_first), abs(score_second))
    # "Not smaller" rather than "larger or equal", so that a nan is never significant.
    chance = differences - differences.mean()
    smaller = int(np.sum(np.abs(chance) < abs(difference) - slack))
    interval = _middle(differences)
    return PairedTest(
        name=first.name,
        first=score_first,
        second=score_second,
        difference=difference,
        low=interval.low,
        high=interval.high,
        p_value=(samples - smaller + 1) / (samples + 1),
    )


def _draw_sums(rows: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Add up random draws of rows with replacement, each draw as long as the data.

    Returns:
        sums: (samples, k) float.
    """
    count = len(rows)
    at_once = max(1, CHUNK_DRAWS // count)
    random = np.random.default_rng(seed)
    sums = []
    for start in range(0, samples, at_once):
        size = min(at_once, samples - start)
        drawn = random.integers(count, size=(size, count))
        # How often each row was drawn, all draws in one count: draw i owns the numbers from
        # i * count on.
        drawn += np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        sums.append(times.astype(np.float64) @ rows)
    return np.concatenate(sums)


def _score_all(statistics: Statistics, sums: np.ndarray) -> np.ndarray:
    return np.array([statistics.score(row) for row in sums], dtype=np.float64)


def _middle(values: np.ndarray) -> Interval:
    """Find the two ends between which 95 per cent of the values lie."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))


def _check_pair(first: Statistics, second: Statistics) -> None:
    problems = []
    if (first.name, first.signature) != (second.name, second.signature):
        problems.append(
            f"the metrics differ: {first.name} {first.signature}".rstrip()
            + f" and {second.name} {second.signature}".rstrip()
        )
    if len(first.rows) != len(second.rows):
        problems.append(f"the systems have {len(first.rows)} and {len(second.rows)} rows")
    if problems:
        raise DataError(
            join_problems(problems),
            hint="Score both systems with the same metric on the same rows in the same order",
        )
