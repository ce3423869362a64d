"""Tags of words <-> spans of words, in the schemes IOB2 and IOBES; or each word a span."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OUTSIDE = "O"
# A tag for each word, such as its part of speech.
WORDS = "words"
SCHEMES = ("iob2", "iobes", WORDS)
# What other schemes call the last word of a span, and a span of one word.
_OTHER_NAMES = {"L": "E", "U": "S", "M": "I"}
_PREFIXES = "BIES"


@dataclass(frozen=True)
class TagSpan:
    """Words that belong together.

    Args:
        label: Kind of the span, such as "PER".
        start: First word.
        end: Word after the last.
    """

    label: str
    start: int
    end: int


def split_tag(tag: str) -> tuple[str, str]:
    """Take a tag apart: "B-PER" -> ("B", "PER"); "O" -> ("O", "").

    Raises:
        ValueError: if it is no tag of any scheme.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, separator, label = tag.partition("-")
    prefix = _OTHER_NAMES.get(prefix, prefix)
    if not separator or not label or len(prefix) != 1 or prefix not in _PREFIXES:
        raise ValueError(f"{tag!r} is no tag: B-, I-, E- or S- and a label, or O")
    return prefix, label


def read_spans(tags: Sequence[str], *, scheme: str = "iob2") -> tuple[list[TagSpan], int]:
    """Find the spans that tags mark, as conlleval reads them.

    A tag that goes on with what was not begun begins a span itself.

    Args:
        tags: Of the words of a sentence, in IOB1, IOB2 or IOBES; or, with "words", any.
        scheme: One of SCHEMES.
    Returns:
        spans, repaired: In order; and how many tags were read as a beginning without saying so.
    Raises:
        ValueError: for a word that is no tag.
    """
    if scheme == WORDS:
        return [TagSpan(tag, place, place + 1) for place, tag in enumerate(tags)], 0
    spans: list[TagSpan] = []
    repaired = 0
    start, label = 0, ""
    for place, tag in enumerate(tags):
        prefix, kind = split_tag(tag)
        goes_on = prefix in ("I", "E") and kind == label
        if label and not goes_on:
            spans.append(TagSpan(label, start, place))
            label = ""
        if prefix != OUTSIDE and not goes_on:
            repaired += prefix in ("I", "E")
            start, label = place, kind
        if prefix in ("E", "S"):
            spans.append(TagSpan(label, start, place + 1))
            label = ""
    if label:
        spans.append(TagSpan(label, start, len(tags)))
    return spans, repaired


def write_tags(spans: Iterable[TagSpan], count: int, *, scheme: str = "iob2") -> list[str]:
    """Mark spans with tags.

    Args:
        spans: None overlapping another.
        count: Words of the sentence.
        scheme: One of SCHEMES.
    """
    tags = [OUTSIDE] * count
    for span in spans:
        size = span.end - span.start
        if scheme == WORDS:
            tags[span.start : span.end] = [span.label] * size
            continue
        prefixes = ("B" + "I" * size)[:size]
        if scheme == "iobes" and prefixes:
            prefixes = "S" if size == 1 else prefixes[:-1] + "E"
        tags[span.start : span.end] = [f"{prefix}-{span.label}" for prefix in prefixes]
    return tags


def list_tags(labels: Iterable[str], *, scheme: str) -> tuple[str, ...]:
    """List every tag of some labels, "O" first where there are words outside of spans."""
    prefixes = "BI" if scheme == "iob2" else _PREFIXES
    kinds = sorted(set(labels))
    if scheme == WORDS:
        return tuple(kinds)
    return (OUTSIDE, *(f"{prefix}-{label}" for label in kinds for prefix in prefixes))
