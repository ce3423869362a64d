"""The data report: lengths, truncation, padding, unknown tokens, duplicates and leaks, in numbers.

It is written to `data.json` of a run before training starts, and says what was lost or is doubtful
before anybody wonders about a score.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headway.data.leaks import Leak, digest, find_leaks
from headway.data.read import BadRow, Records
from headway.data.store import Store

_NUM_BINS = 20
_NUM_BAD_EXAMPLES = 20
# More classes make no table that anybody reads; data.json has them all.
_MOST_CLASSES = 20
# Shares from which on a warning is given. Not from a paper: one in a hundred is enough to move a
# score, and a few captions or phrases repeat in any honest corpus.
_LARGE_SHARE = 0.01
_MANY_DUPLICATES = 0.05
_SPLIT_HEADS = ["split", "rows", "bad", "blank", "repeated", "same source", "padding"]
# Those of the lengths stand in the order of SideReport.
_SIDE_HEADS = [
    *("split", "side", "tokens", "min", "median", "mean", "p95", "p99", "max"),
    *("rows cut", "tokens cut", "unknown"),
]


@dataclass(frozen=True, kw_only=True)
class SideReport:
    """Lengths of one side of a split, in tokens before truncation.

    Args:
        name: The side, such as "source".
        num_tokens: Tokens of all rows.
        min, median, mean, p95, p99, max: Of the lengths; 0 where there are no rows.
        histogram: About 20 pairs [upper edge, rows]: so many rows are no longer than the edge and
            longer than the edge before. The last holds the long tail beyond p99.
        truncated_rows: Rows longer than the limit.
        truncated_tokens: Tokens beyond the limit.
        unknown_tokens: Tokens that the vocabulary does not cover.
    """

    name: str
    num_tokens: int
    min: int
    median: float
    mean: float
    p95: float
    p99: float
    max: int
    histogram: list[list[int]]
    truncated_rows: int
    truncated_tokens: int
    unknown_tokens: int


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """One split.

    Args:
        name: Such as "train".
        files: What it was read from.
        num_rows: Usable rows.
        bad_rows: Rows left out because they cannot be used.
        bad_examples: The first 20 of them.
        empty_rows: Blank lines.
        duplicate_rows: Rows that repeat an earlier row in every column.
        duplicate_sources: Rows that repeat an earlier row in the column of the first side.
        sides: Lengths of each side.
        padding_ratio: Way of making batches ("sorted", "unsorted") -> share of padding cells.
        notes: What else was lost or mended -> how often.
        classes: Class -> its rows, where rows have classes.
    """

    name: str
    files: list[str]
    num_rows: int
    bad_rows: int = 0
    bad_examples: list[BadRow] = field(default_factory=list)
    empty_rows: int
    duplicate_rows: int
    duplicate_sources: int
    sides: list[SideReport]
    padding_ratio: dict[str, float] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """All splits and what they share."""

    splits: list[SplitReport]
    leaks: list[Leak]

    def to_json(self) -> dict[str, Any]:
        """Give plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    def warnings(self) -> list[str]:
        """Say what may spoil a score: one sentence for each split and kind of trouble."""
        found = [warning for split in self.splits for warning in _split_warnings(split)]
        return found + [
            f"rows of {leak.second} whose source is in {leak.first} too: {leak.sources:,}, and of "
            f"these the whole row: {leak.rows:,} (such as: {leak.examples[0]}); scores on "
            f"{leak.second} may be too good"
            for leak in self.leaks
        ]

    def tables(self) -> dict[str, list[list[str]]]:
        """Write the report as tables: title -> names of the columns, then rows of cells."""
        splits: list[list[Any]] = [_SPLIT_HEADS]
        sides: list[list[Any]] = [_SIDE_HEADS]
        for split in self.splits:
            counts = (split.num_rows, split.bad_rows, split.empty_rows)
            repeats = (split.duplicate_rows, split.duplicate_sources)
            padding = [f"{way} {ratio:.1%}" for way, ratio in split.padding_ratio.items()]
            splits.append([split.name, *counts, *repeats, ", ".join(padding)])
            for side in split.sides:
                numbers = [value for key, value in vars(side).items() if key != "histogram"]
                sides.append([split.name, *numbers])
        tables = {"Splits": splits, "Lengths in tokens": sides}
        found = [split for split in self.splits if split.classes]
        if found and len(found[0].classes) <= _MOST_CLASSES:
            # The rows of each class, those of each split beside each other.
            heads = ["class", *(split.name for split in found)]
            rows = [[n, *(split.classes.get(n, 0) for split in found)] for n in found[0].classes]
            tables["Classes"] = [heads, *rows]
        if self.leaks:
            rows = [[f"{k.first}, {k.second}", k.rows, k.sources] for k in self.leaks]
            tables["In two splits"] = [["in both", "rows", "sources"], *rows]
        return {title: [[*map(_write, row)] for row in table] for title, table in tables.items()}

    def lines(self) -> list[str]:
        """Write the report as tables of plain text, a line each."""
        lines = [line for table in self.tables().values() for line in (*_align(table), "")]
        lines += [f"{split.name}: {', '.join(split.files)}" for split in self.splits if split.files]
        return lines + [f"warning: {warning}" for warning in self.warnings()]


def describe_split(
    name: str,
    records: Records,
    lengths: Mapping[str, np.ndarray],
    *,
    limit: Mapping[str, int],
    unknown: Mapping[str, int],
    padding: Mapping[str, float] | None = None,
    notes: Mapping[str, int] | None = None,
    classes: Mapping[str, int] | None = None,
) -> SplitReport:
    """Count what is in a split.

    Args:
        name: Such as "train".
        records: Its rows.
        lengths: Side -> (N,) int. Tokens of each row before truncation; the first side is the one
            whose repetitions are counted.
        limit: Side -> longest length that is used; a side without one is not cut.
        unknown: Side -> tokens that the vocabulary does not cover.
        padding: Way of making batches -> share of padding cells, from `padding_ratio`.
        notes: What else was lost or mended -> how often.
        classes: Class -> its rows, where rows have classes.
    """
    first = next(iter(lengths), "")
    whole = [digest(row) for row in records.rows]
    sources = [digest(row[first]) for row in records.rows if first in row]
    return SplitReport(
        name=name,
        files=list(records.files),
        num_rows=len(records),
        bad_rows=len(records.bad),
        bad_examples=records.bad[:_NUM_BAD_EXAMPLES],
        empty_rows=records.empty_rows,
        duplicate_rows=len(whole) - len(set(whole)),
        duplicate_sources=len(sources) - len(set(sources)),
        sides=[
            _describe_side(side, np.asarray(counts), limit.get(side), unknown.get(side, 0))
            for side, counts in lengths.items()
        ],
        padding_ratio=dict(padding or {}),
        notes={what: count for what, count in (notes or {}).items() if count},
        classes=dict(classes or {}),
    )


def describe_corpus(
    name: str, store: Store, *, padding: Mapping[str, float] | None = None
) -> SplitReport:
    """Count what is in a tokenized corpus; its segments are the rows.

    Args:
        name: Such as "train".
        store: The corpus.
        padding: Way of making batches -> share of padding cells.
    """
    info = store.info
    return SplitReport(
        name=name,
        files=list(info.files),
        num_rows=store.num_segments,
        empty_rows=info.blank_lines,
        duplicate_rows=info.repeated,
        duplicate_sources=info.repeated,
        sides=[_describe_side("text", np.diff(store.segments), None, info.unknown)],
        padding_ratio=dict(padding or {}),
    )


def padding_ratio(lengths: np.ndarray, batches: Iterable[np.ndarray | Sequence[int]]) -> float:
    """Compute the share of cells that are padding when each batch is as wide as its longest row.

    Args:
        lengths: (N,) or (N, sides) int. Tokens of each row.
        batches: Indices of the rows of each batch.
    Returns:
        ratio: From 0 to below 1; 0 without any cells.
    """
    real = cells = 0
    for batch in batches:
        part = np.asarray(lengths)[np.asarray(batch, dtype=np.int64)]
        if len(part):
            real += int(part.sum())
            cells += len(part) * int(part.max(axis=0).sum())
    return 1 - real / cells if cells else 0.0


def build_report(
    splits: Sequence[SplitReport], records: Mapping[str, Records], *, columns: Sequence[str]
) -> DataReport:
    """Put splits together and look for leaks between each two of them.

    Args:
        splits: From `describe_split`.
        records: Name of a split -> its rows, the one that is trained on first.
        columns: What is compared; the first is the source.
    """
    pairs = itertools.combinations(records.items(), 2)
    leaks = [find_leaks(*first, *second, columns=columns) for first, second in pairs]
    return DataReport(splits=list(splits), leaks=[leak for leak in leaks if leak is not None])


def _describe_side(name: str, lengths: np.ndarray, limit: int | None, unknown: int) -> SideReport:
    beyond = np.maximum(lengths - limit, 0) if limit is not None else np.zeros_like(lengths)
    # Without rows every number is 0, since there is no JSON for "not a number".
    some = lengths if len(lengths) else np.zeros(1, dtype=np.int64)
    median, p95, p99 = (float(value) for value in np.percentile(some, [50, 95, 99]))
    return SideReport(
        name=name,
        num_tokens=int(lengths.sum()),
        min=int(some.min()),
        median=median,
        mean=float(some.mean()),
        p95=p95,
        p99=p99,
        max=int(some.max()),
        histogram=_histogram(lengths, p99),
        truncated_rows=int((beyond > 0).sum()),
        truncated_tokens=int(beyond.sum()),
        unknown_tokens=int(unknown),
    )


def _histogram(lengths: np.ndarray, p99: float) -> list[list[int]]:
    if not len(lengths):
        return []
    low, high, most = int(lengths.min()), int(np.ceil(p99)), int(lengths.max())
    width = -(-(high - low + 1) // (_NUM_BINS - 1))
    # One very long row must not push all others into the first bin, so bins end at p99.
    edges = [min(edge, most) for edge in range(low + width - 1, high + width, width)]
    if edges[-1] < most:
        edges.append(most)
    counts = np.bincount(np.searchsorted(edges, lengths), minlength=len(edges))
    return [[edge, int(count)] for edge, count in zip(edges, counts, strict=True)]


def _split_warnings(split: SplitReport) -> Iterator[str]:
    if split.bad_rows:
        shown = "; ".join(f"{row.where}: {row.problem}" for row in split.bad_examples[:1])
        yield f"rows of {split.name} left out because they are bad: {split.bad_rows:,} ({shown})"
    if split.duplicate_rows > _MANY_DUPLICATES * split.num_rows:
        share = split.duplicate_rows / split.num_rows
        count = f"{split.duplicate_rows:,} ({share:.1%})"
        yield f"rows of {split.name} that repeat an earlier row: {count}"
    absent = [name for name, count in split.classes.items() if not count]
    if split.classes and len(absent) == len(split.classes) - 1:
        yield f"all rows of {split.name} are of one class: there is nothing to tell apart"
    elif absent:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        yield f"classes without a row in {split.name}: {len(absent)} ({shown})"
    for what, count in split.notes.items():
        yield f"{split.name}: {what}: {count:,}"
    for side in split.sides:
        name = f"{split.name} {side.name}"
        rows = side.truncated_rows / max(1, split.num_rows)
        tokens = side.truncated_tokens / max(1, side.num_tokens)
        unknown = side.unknown_tokens / max(1, side.num_tokens)
        if max(rows, tokens) > _LARGE_SHARE:
            yield (
                f"{name} is cut: rows {side.truncated_rows:,} ({rows:.1%}), tokens "
                f"{side.truncated_tokens:,} ({tokens:.1%}); the longest has {side.max:,}"
            )
        if unknown > _LARGE_SHARE:
            yield f"{name} tokens not in the vocabulary: {side.unknown_tokens:,} ({unknown:.1%})"


def _write(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.1f}"


def _align(table: Sequence[Sequence[str]]) -> list[str]:
    """Set columns of numbers to the right and columns of words to the left."""
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [not all(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    return [
        "  ".join(
            cell.ljust(width) if word else cell.rjust(width)
            for cell, width, word in zip(row, widths, words, strict=True)
        ).rstrip()
        for row in table
    ]
