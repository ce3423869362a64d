"""Characters, words and pieces: which of them stand for the same stretch of a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# A run of letters and digits, or one mark.
_WORD = re.compile(r"\w+|[^\w\s]")


def word_spans(text: str) -> list[tuple[int, int]]:
    """Find the words of a text, marks on their own: characters [start, end) of each."""
    spans: list[tuple[int, int]] = []
    for found in _WORD.finditer(text):
        start, end = found.span()
        # Accents and vowel signs written as characters of their own belong to their word.
        if (
            spans
            and spans[-1][1] == start
            and (_combines(text[start]) or _goes_on(text[start], text[start - 1]))
        ):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _goes_on(letter: str, before: str) -> bool:
    return _combines(before) and (letter.isalnum() or letter == "_")


def _combines(letter: str) -> bool:
    return unicodedata.category(letter).startswith("M")


def begins_word(text: str) -> bool:
    """Say whether a text's first character is a word's first, whatever stands before it."""
    first = text[:1]
    # A part of a character's bytes is written as U+FFFD.
    if first in ("", "\ufffd"):
        return False
    return (
        first.isspace()
        or unicodedata.category(first)[0] in "PS"
        or unicodedata.name(first, "").startswith(("CJK ", "HIRAGANA ", "KATAKANA "))
    )


def pieces_of_spans(
    spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]
) -> list[list[int]]:
    """Find the pieces that share a character with each span.

    Args:
        spans: Characters [start, end), in order, none overlapping another.
        offsets: The same of each piece, in order; special tokens are empty.
    Returns:
        pieces: For each span the numbers of its pieces; none where the text was cut before it.
    """
    found: list[list[int]] = [[] for _ in spans]
    first = 0
    for piece, (start, end) in enumerate(offsets):
        if start == end:
            continue
        while first < len(spans) and spans[first][1] <= start:
            first += 1
        place = first
        while place < len(spans) and spans[place][0] < end:
            found[place].append(piece)
            place += 1
    return found
