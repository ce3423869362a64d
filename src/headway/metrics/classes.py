"""Scores of classes and of numbers, row by row, so that intervals and paired tests come with them.

Shares are in per cent; Matthews' and both correlations are between -100 and 100.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Protocol

import numpy as np

from headway.metrics.intervals import Statistics, check_sides, mean_statistics

# The classes of each row: one, or any number where rows have several.
Classes = Sequence[Sequence[str]]


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


def accuracy_statistics(predictions: Sequence, references: Sequence) -> Statistics:
    """Mark the rows whose class, or classes, were told.

    Returns:
        statistics: rows are (rows, 2) float: 1 for a hit, else 0; and 1 to count the row.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    check_sides(predictions, references)
    hits = [a == b for a, b in zip(predictions, references, strict=True)]
    return mean_statistics("accuracy", hits)


# What a share is of, out of the decisions for a class that are right, said and wanted.
_SHARES: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray], tuple]] = MappingProxyType(
    {
        "f1": lambda right, said, wanted: (2 * right, said + wanted),
        "precision": lambda right, said, wanted: (right, said),
        "recall": lambda right, said, wanted: (right, wanted),
    }
)


def class_statistics(
    predictions: Classes,
    references: Classes,
    names: Sequence[str],
    *,
    average: str,
    kind: str = "f1",
) -> Statistics:
    """Count for every class what was found, said and wanted.

    Args:
        predictions: Classes of each row.
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

    def score(sums: np.ndarray) -> float:
        counts = sums.reshape(3, -1)
        if average == "micro":
            counts = counts.sum(1, keepdims=True)
        occurring = counts[:, counts[1] + counts[2] > 0]
        if not occurring.size:
            return 0.0
        part, whole = _SHARES[kind](*occurring)
        shares = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        return 100.0 * float(shares.mean())

    rows = _count_classes(predictions, references, names)
    return Statistics(name=f"{average}_{kind}", rows=rows, score=score)


def _count_classes(predictions: Classes, references: Classes, names: Sequence[str]) -> np.ndarray:
    """Mark for each row which classes were found, said and wanted, (rows, 3 * classes) float."""
    check_sides(predictions, references)
    number = {name: place for place, name in enumerate(names)}
    rows = np.zeros((len(references), 3, len(names)))
    for row, (said, wanted) in enumerate(zip(predictions, references, strict=True)):
        for name in said:
            rows[row, 1, number[name]] = 1
        for name in wanted:
            rows[row, 2, number[name]] = 1
    rows[:, 0] = rows[:, 1] * rows[:, 2]
    return rows.reshape(len(rows), -1)


def matthews_statistics(
    predictions: Classes, references: Classes, names: Sequence[str]
) -> Statistics:
    """Count what Matthews' correlation of any number of classes is made of.

    Args:
        predictions: The class of each row, in a list.
        references: Likewise.
        names: Of the classes.
    Returns:
        statistics: rows are (rows, 3 * classes) float: right, predicted, wanted.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
        coefficient".
    """

    def score(sums: np.ndarray) -> float:
        right, said, wanted = sums.reshape(3, -1)
        total = said.sum()
        spread = (total**2 - (said**2).sum()) * (total**2 - (wanted**2).sum())
        shared = right.sum() * total - said @ wanted
        return 100.0 * float(shared / np.sqrt(spread)) if spread else 0.0

    rows = _count_classes(predictions, references, names)
    return Statistics(name="matthews", rows=rows, score=score)


def compare_classes(
    predictions: Classes, references: Classes, names: Sequence[str], scores: Sequence[str]
) -> list[Statistics]:
    """Compute the scores of classes that are asked for by name.

    Args:
        predictions: Classes of each row.
        references: Likewise.
        names: Of the classes.
        scores: "accuracy" and "matthews", of one class a row; or an average and what it is of,
            such as "macro_f1" or "micro_recall".
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """

    def compute(score: str) -> Statistics:
        if score == "accuracy":
            return accuracy_statistics(predictions, references)
        if score == "matthews":
            return matthews_statistics(predictions, references, names)
        average, _, kind = score.partition("_")
        return class_statistics(predictions, references, names, average=average, kind=kind)

    return [compute(score) for score in scores]


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
    from scipy.stats import rankdata

    check_sides(predictions, references)
    x, y = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
    if kind == "spearman":
        x, y = rankdata(x), rankdata(y)
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
    check_sides(predictions, references)
    errors = np.asarray(predictions, np.float64) - np.asarray(references, np.float64)
    return mean_statistics("squared_error", errors**2, scale=1.0)


def compare_numbers(
    predictions: Sequence[float], references: Sequence[float], kinds: Sequence[str]
) -> list[Statistics]:
    """Compute correlations of some kinds, and the squared error.

    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    found = [correlation_statistics(predictions, references, kind=kind) for kind in kinds]
    return [*found, squared_error_statistics(predictions, references)]


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
    check_sides(predictions, references)
    counts = [
        (len(set(said) & set(wanted)), len(set(said)), len(set(wanted)))
        for said, wanted in zip(predictions, references, strict=True)
    ]
    rows = np.array(counts, dtype=np.float64)
    return [
        Statistics(name=f"entity_{kind}", rows=rows, score=partial(_percent, kind))
        for kind in _SHARES
    ]


def _percent(kind: str, counts: np.ndarray) -> float:
    """Give a share of what was right, said and wanted, in per cent; 0 where it is undefined."""
    part, whole = _SHARES[kind](*counts)
    return 100.0 * float(part / whole) if whole else 0.0


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
    predictions: Classes, references: Classes, names: Sequence[str]
) -> list[ClassScore]:
    """Score every class apart; what is undefined is 0."""
    sums = _count_classes(predictions, references, names).sum(0)
    scores = []
    for name, counts in zip(names, sums.reshape(3, -1).T, strict=True):
        shares = {kind: _percent(kind, counts) for kind in _SHARES}
        scores.append(ClassScore(name, **shares, support=int(counts[2])))
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
