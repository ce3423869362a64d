"""Scores of classes and of numbers, row by row, so that intervals and paired tests come with them.

Shares are in per cent; Matthews' and both correlations are between -100 and 100.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import numpy as np

from headway.errors import DataError
from headway.metrics.intervals import Statistics


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told.

    Args:
        name: Of the class.
        precision: Share of the predictions of this class that are right, in per cent.
        recall: Share of the rows of this class that were found, in per cent.
        f1: Harmonic mean of both.
        support: Rows of this class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class Span(Hashable, Protocol):
    """Something marked in a text, of a kind."""

    @property
    def label(self) -> str:
        """Name the kind."""
        ...


def accuracy_statistics(predictions: Sequence[str], references: Sequence[str]) -> Statistics:
    """Mark the rows whose class was told.

    Returns:
        statistics: rows are (rows, 2) float: 1 for a hit, else 0; and 1 to count the row.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    _check(predictions, references)
    hits = [(a == b, 1) for a, b in zip(predictions, references, strict=True)]
    return Statistics(
        name="accuracy",
        rows=np.array(hits, dtype=np.float64),
        score=lambda sums: 100.0 * float(sums[0] / sums[1]),
    )


# What a share is of, out of the decisions for a class that are right, said and wanted.
_SHARES: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray], tuple]] = MappingProxyType(
    {
        "f1": lambda right, said, wanted: (2 * right, said + wanted),
        "precision": lambda right, said, wanted: (right, said),
        "recall": lambda right, said, wanted: (right, wanted),
    }
)


def class_statistics(
    predictions: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    names: Sequence[str],
    *,
    average: str,
    kind: str = "f1",
) -> Statistics:
    """Count for every class what was found, said and wanted.

    Args:
        predictions: Classes of each row; one, or any number where rows have several.
        references: Likewise.
        names: Of the classes.
        average: "macro" (the mean over classes that occur in either; what is undefined counts 0)
            or "micro" (over all decisions).
        kind: "f1", "precision" or "recall".
    Returns:
        statistics: rows are (rows, 3 * classes) float: right, predicted, wanted.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    _check(predictions, references)
    number = {name: place for place, name in enumerate(names)}
    rows = np.zeros((len(references), 3, len(names)))
    for row, (said, wanted) in enumerate(zip(predictions, references, strict=True)):
        for name in said:
            rows[row, 1, number[name]] = 1
        for name in wanted:
            rows[row, 2, number[name]] = 1
    rows[:, 0] = rows[:, 1] * rows[:, 2]

    def score(sums: np.ndarray) -> float:
        right, said, wanted = sums.reshape(3, -1)
        if average == "micro":
            right, said, wanted = right.sum(keepdims=True), said.sum(), wanted.sum()
        occurs = np.atleast_1d(said + wanted) > 0
        if not occurs.any():
            return 0.0
        part, whole = (np.atleast_1d(x)[occurs] for x in _SHARES[kind](right, said, wanted))
        shares = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        return 100.0 * float(shares.mean())

    return Statistics(name=f"{average}_{kind}", rows=rows.reshape(len(rows), -1), score=score)


def matthews_statistics(
    predictions: Sequence[str], references: Sequence[str], names: Sequence[str]
) -> Statistics:
    """Count what Matthews' correlation of any number of classes is made of.

    Returns:
        statistics: rows are (rows, 2 + 2 * classes) float: a hit, the row, predicted, wanted.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
        coefficient".
    """
    _check(predictions, references)
    number = {name: place for place, name in enumerate(names)}
    count = len(names)
    rows = np.zeros((len(references), 2 + 2 * count))
    for row, (said, wanted) in enumerate(zip(predictions, references, strict=True)):
        rows[row, :2] = said == wanted, 1
        rows[row, 2 + number[said]] = 1
        rows[row, 2 + count + number[wanted]] = 1

    def score(sums: np.ndarray) -> float:
        (right, total), said, wanted = sums[:2], sums[2 : 2 + count], sums[2 + count :]
        spread = (total**2 - (said**2).sum()) * (total**2 - (wanted**2).sum())
        return 100.0 * float((right * total - said @ wanted) / np.sqrt(spread)) if spread else 0.0

    return Statistics(name="matthews", rows=rows, score=score)


def correlation_statistics(
    predictions: Sequence[float], references: Sequence[float], *, kind: str
) -> Statistics:
    """Sum up what a correlation of numbers is made of.

    Args:
        kind: "pearson", or "spearman", the same over ranks. Draws of a bootstrap keep the ranks
            that the rows have among all.
    Returns:
        statistics: rows are (rows, 6) float: 1, x, y, xx, yy, xy.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    _check(predictions, references)
    x, y = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
    if kind == "spearman":
        x, y = _ranks(x), _ranks(y)
    # Around the mean, as sums of large squares lose digits.
    x, y = x - x.mean(), y - y.mean()
    rows = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    def score(sums: np.ndarray) -> float:
        n, x, y, xx, yy, xy = sums
        spread = (n * xx - x * x) * (n * yy - y * y)
        return 100.0 * float((n * xy - x * y) / np.sqrt(spread)) if spread > 0 else 0.0

    return Statistics(name=kind, rows=rows, score=score)


def squared_error_statistics(
    predictions: Sequence[float], references: Sequence[float]
) -> Statistics:
    """Square the error of each row; the score is their mean.

    Returns:
        statistics: rows are (rows, 2) float: the squared error, and 1 to count the row.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    _check(predictions, references)
    errors = np.asarray(predictions, np.float64) - np.asarray(references, np.float64)
    return Statistics(
        name="squared_error",
        rows=np.stack([errors**2, np.ones_like(errors)], axis=1),
        score=lambda sums: float(sums[0] / sums[1]),
    )


def span_statistics(
    predictions: Sequence[Iterable[Hashable]], references: Sequence[Iterable[Hashable]]
) -> list[Statistics]:
    """Count spans that are right, said and wanted: a span counts if it is right in every part.

    Args:
        predictions: Spans of each row, such as (label, start, end).
        references: Likewise.
    Returns:
        statistics: F1, precision and recall; rows are (rows, 3) float each.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Tjong Kim Sang and De Meulder 2003, as conlleval computes them.
    """
    _check(predictions, references)
    counts = [
        (len(set(said) & set(wanted)), len(set(said)), len(set(wanted)))
        for said, wanted in zip(predictions, references, strict=True)
    ]
    rows = np.array(counts, dtype=np.float64)

    def share(part: float, whole: float) -> float:
        return 100.0 * float(part / whole) if whole else 0.0

    return [
        Statistics(name="entity_f1", rows=rows, score=lambda s: share(2 * s[0], s[1] + s[2])),
        Statistics(name="entity_precision", rows=rows, score=lambda s: share(s[0], s[1])),
        Statistics(name="entity_recall", rows=rows, score=lambda s: share(s[0], s[2])),
    ]


def span_scores(
    predictions: Sequence[Iterable[Span]], references: Sequence[Iterable[Span]]
) -> list[ClassScore]:
    """Score the spans of every label apart, as `span_statistics` counts them."""
    rows = [row for side in (predictions, references) for row in side]
    labels = sorted({span.label for row in rows for span in row})
    scores = []
    for label in labels:
        said, wanted = (
            [[span for span in row if span.label == label] for row in side]
            for side in (predictions, references)
        )
        f1, precision, recall = (item.value() for item in span_statistics(said, wanted))
        scores.append(ClassScore(label, precision, recall, f1, sum(map(len, wanted))))
    return scores


def confusion_matrix(
    predictions: Sequence[str], references: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """Count rows by class wanted and class said.

    Returns:
        counts: (Y, Y) int64. Row: the reference; column: the prediction.
    """
    number = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for said, wanted in zip(predictions, references, strict=True):
        counts[number[wanted], number[said]] += 1
    return counts


def class_scores(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]], names: Sequence[str]
) -> list[ClassScore]:
    """Score every class apart; what is undefined is 0."""
    sums = class_statistics(predictions, references, names, average="macro").rows.sum(0)
    scores = []
    for name, right, said, wanted in zip(names, *sums.reshape(3, -1), strict=True):
        precision = 100.0 * float(right / said) if said else 0.0
        recall = 100.0 * float(right / wanted) if wanted else 0.0
        f1 = 200.0 * float(right / (said + wanted)) if said + wanted else 0.0
        scores.append(ClassScore(name, precision, recall, f1, int(wanted)))
    return scores


def by_group(item: Statistics, sizes: Sequence[int]) -> Statistics:
    """Take rows that stand together, such as the words of a sentence, as one row.

    Draws of a bootstrap then take or leave whole sentences, whose words are not independent.

    Args:
        item: Of which sums make the score.
        sizes: Rows of each group, in order.
    """
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.zeros((len(sizes), item.rows.shape[1]))
    np.add.at(rows, groups, item.rows)
    return replace(item, rows=rows)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Number values by size from 1 on; equal ones share the mean of their numbers."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]


def _check(predictions: Sequence, references: Sequence) -> None:
    if len(predictions) != len(references):
        raise DataError(
            f"there are {len(predictions)} predictions, but {len(references)} references"
        )
    if not len(references):
        raise DataError("there is no row to score")
