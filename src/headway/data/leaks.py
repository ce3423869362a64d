"""Leaks: rows and texts that are in two splits, apart from case and white space."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headway.data.read import Records
from headway.data.store import Store

_NUM_LEAK_EXAMPLES = 5
# Looked up at once: a corpus may be larger than memory.
_DIGESTS_AT_ONCE = 1 << 20
_ENCODER = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Rows of a second split that are in a first one too.

    Args:
        first: The split that is trained on, or comes earlier.
        second: The split whose rows were known before.
        rows: Rows of the second that equal a row of the first in all columns compared.
        sources: Rows of the second that equal a row of the first in the first column.
        examples: Where some of them are in both.
    """

    first: str
    second: str
    rows: int
    sources: int
    examples: list[str]


def find_leaks(
    a_name: str, a: Records, b_name: str, b: Records, *, columns: Sequence[str]
) -> Leak | None:
    """Find rows of one split that another has too, apart from case and white space.

    Args:
        a_name: The split that is trained on, or comes earlier.
        a: Its rows.
        b_name: The split whose rows should be new.
        b: Its rows.
        columns: What is compared; the first is the source.
    Returns:
        leak: None where nothing is shared.
    """
    same_row = _match(a, b, columns)
    same_source = _match(a, b, columns[:1])
    if not same_source:
        return None
    # Whole rows are the worse leak, so they are shown first.
    shown = itertools.islice((same_row | same_source).items(), _NUM_LEAK_EXAMPLES)
    return Leak(
        first=a_name,
        second=b_name,
        rows=len(same_row),
        sources=len(same_source),
        examples=[f"{b.where(i)} is {a.where(same_row.get(i, j))}" for i, j in shown],
    )


def find_shared_text(a_name: str, a: Store, b_name: str, b: Store) -> Leak | None:
    """Find lines of one corpus that another has too, apart from case and white space.

    Short ones, which any text repeats, are passed over.

    Args:
        a_name: The split that is trained on, or comes earlier.
        a: Its corpus.
        b_name: The split whose text should be new.
        b: Its corpus.
    Returns:
        leak: None where nothing is shared.
    """
    lines, counts = np.unique(b.lines, return_counts=True)
    is_shared = np.zeros(len(lines), dtype=bool)
    for start in range(0, len(a.lines) if len(lines) else 0, _DIGESTS_AT_ONCE):
        part = a.lines[start : start + _DIGESTS_AT_ONCE]
        places = np.searchsorted(lines, part).clip(max=len(lines) - 1)
        is_shared[places[lines[places] == part]] = True
    count = int(counts[is_shared].sum())
    if not count:
        return None
    where = f"lines of {', '.join(b.info.files)} are in {', '.join(a.info.files)}"
    return Leak(first=a_name, second=b_name, rows=count, sources=count, examples=[where])


def _match(a: Records, b: Records, columns: Sequence[str]) -> dict[int, int]:
    """Find for rows of b the first equal row of a."""
    known: dict[bytes, int] = {}
    for index, digest in _digests(a, columns):
        known.setdefault(digest, index)
    return {index: known[digest] for index, digest in _digests(b, columns) if digest in known}


def _digests(records: Records, columns: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    for index, row in enumerate(records.rows):
        # An optional column may be absent; without a source there is nothing to compare.
        if row.get(columns[0]) is not None:
            yield index, digest([_normalize(row.get(column)) for column in columns])


def _normalize(value: Any) -> Any:
    return " ".join(value.casefold().split()) if isinstance(value, str) else value


def digest(value: Any) -> bytes:
    """Give the same few bytes for the same value: text, numbers, lists, objects."""
    # 16 bytes in place of a text, and no two texts share them by chance.
    return hashlib.blake2b(_ENCODER.encode(value).encode(), digest_size=16).digest()
