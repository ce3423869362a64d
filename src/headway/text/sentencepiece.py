"""What a SentencePiece model says: its pieces, and how it writes a text before it cuts it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Of a whole model.
UNIGRAM, BPE = 1, 2
# Of a piece.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4


@dataclass
class SentencePiece:
    """What the file says, as far as it is of use.

    Args:
        pieces: Each with its score, in the order of their ids.
        learned: Those that are cut from a text.
        control: Those that never are, with the unknown one.
        defined: Those that are cut out whole, before anything else.
        unknown: Id of the unknown piece.
        kind: UNIGRAM, BPE, or another that nobody uses.
        characters: Table of characters that are written otherwise.
        begins_with_space: A text is cut as if a space stood before it.
        drops_spaces: Spaces at the ends of a text, and all but one elsewhere, are left out.
    """

    pieces: list[tuple[str, float]] = field(default_factory=list)
    learned: list[tuple[str, float]] = field(default_factory=list)
    control: list[str] = field(default_factory=list)
    defined: list[str] = field(default_factory=list)
    unknown: int | None = None
    kind: int = UNIGRAM
    characters: bytes = b""
    begins_with_space: bool = True
    drops_spaces: bool = True

    def merges(self) -> list[tuple[str, str]]:
        """List the pairs that BPE joins, those with the best result first.

        The file has no pairs: any two pieces are joined that make a third. Pieces that are not
        learned are never made, so that "</s>" typed by a user stays text.
        """
        known = {piece for piece, _ in self.learned}
        # The sort keeps the order of the ids where scores are equal.
        return [
            (piece[:cut], piece[cut:])
            for piece, _ in sorted(self.learned, key=lambda item: -item[1])
            for cut in range(1, len(piece))
            if piece[:cut] in known and piece[cut:] in known
        ]


def read_sentencepiece(content: bytes) -> SentencePiece:
    """Read the fields that matter of sentencepiece_model.proto, which is stable since 2018.

    Raises:
        ValueError: if it is no such file, or damaged.
    """
    model = SentencePiece()
    for number, value in _fields(content):
        # Of a field that is given twice the last counts, as the format asks.
        parts = dict(_fields(value)) if number in (1, 2, 3) else {}
        if number == 1:
            _add_piece(model, parts)
        elif number == 2:
            model.kind = parts.get(3, UNIGRAM)
        elif number == 3:
            model.characters = parts.get(2, b"")
            model.begins_with_space = bool(parts.get(3, True))
            model.drops_spaces = bool(parts.get(4, True))
    return model


def _add_piece(model: SentencePiece, parts: dict[int, Any]) -> None:
    piece, kind = parts.get(1, b"").decode("utf-8"), parts.get(3, _NORMAL)
    scored = (piece, struct.unpack("<f", parts.get(2, bytes(4)))[0])
    if kind == _UNKNOWN:
        model.unknown = len(model.pieces)
    if kind in (_UNKNOWN, _CONTROL):
        model.control.append(piece)
    elif kind == _USER_DEFINED:
        model.defined.append(piece)
    elif kind == _NORMAL:
        model.learned.append(scored)
    model.pieces.append(scored)


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Give the fields of a protocol buffer: numbers as int, everything else as bytes."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(content, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if place + size > len(content):
            raise ValueError("the file is cut short")
        yield number, content[place : place + size]
        place += size


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(content) or shift > 63:
            raise ValueError("the file is cut short")
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
