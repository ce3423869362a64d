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
# Segments of a corpus with fewer tokens are headings, exclamations, page marks.
_SHORT_TOKENS = 8
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
    """Find segments of one corpus that another has too, to the letter.

    Headings and the like, which any text repeats, are passed over.

    Args:
        a_name: The split that is trained on, or comes earlier.
        a: Its corpus.
        b_name: The split whose text should be new.
        b: Its corpus.
    Returns:
        leak: None where nothing is shared.
    """
    is_long = np.diff(b.segments) >= _SHORT_TOKENS
    shared = np.flatnonzero(is_long & np.isin(b.digests, a.digests))
    if not len(shared):
        return None
    shown = shared[:_NUM_LEAK_EXAMPLES]
    return Leak(
        first=a_name,
        second=b_name,
        rows=len(shared),
        sources=len(shared),
        examples=[f"segment {place + 1:,} of {', '.join(b.info.files)}" for place in shown],
    )


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
