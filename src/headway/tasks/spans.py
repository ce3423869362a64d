"""Marked spans: say what holds between words that are marked in a text, or in two.

Whether a word has one sense in two sentences, what a pronoun stands for, the relation of two names,
the role of an argument.

Needs: records with `text`, `spans` (a list of {"start", "end"}, in characters) and `label`; where
there is a `text_pair`, a span in it has "text": "text_pair". All rows mark as many spans.
Compare: for a class of the whole text, classification; to find spans, tagging.

Example:
    >>> row = {"text": "a bird", "spans": [{"start": 2, "end": 9}], "label": "x"}
    >>> Spans(num_spans=1).check_row(row, None)
    'span 1 ends at character 9, but its text has 6'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from headway.data.batch import Batch
from headway.layers.heads import SpanHead
from headway.layers.side import Memory
from headway.tasks._classes import GivesClasses
from headway.tasks._examples import describe_examples, encode_bare, make_example, share_room
from headway.tasks._settings import length_problems, within
from headway.tasks._task import Body, Encoded, Head, Record, Rows, Setting
from headway.tasks._texts import needed, start_head
from headway.text.align import pieces_of_spans
from headway.text.tokenizer import Tokenizer

_SIDES = ("text", "text_pair")


@dataclass(frozen=True, kw_only=True)
class Spans(GivesClasses):
    """Learn p(class | text with marked words)."""

    num_spans: int = 2
    """Spans that every row marks."""
    max_tokens: int = 256
    """Length of an example, special tokens included; longer ones are cut around the spans."""
    dropout: float = 0.1
    """Rate on the spans' vectors."""

    columns: ClassVar[tuple[str, ...]] = ("text", "spans", "label")
    inputs: ClassVar[tuple[str, ...]] = ("text", "spans")
    optional: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[tuple[str, ...]] = ("body",)
    head: ClassVar[str] = "body"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a classifier over the spans' vectors."""
        width = body.config.hidden_size
        head = SpanHead(width, len(labels), num_spans=self.num_spans, dropout=self.dropout)
        return start_head(head, body)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return length_problems(self) + within(self, "num_spans", 1, 8)

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's spans or its label; None if nothing is."""
        return self.check_request(row) or super().check_row(row, labels)

    def read(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn marked texts into examples, those that are too long cut around their spans."""
        tokenizer = setting.tokenizer
        longest = self.longest(setting)
        sides = [_encode_side(rows, side, tokenizer) for side in _SIDES]
        examples, cut, lost = [], [], 0
        for index in range(len(rows)):
            found = [marked for side in sides if (marked := side[index]) is not None]
            sizes = [len(marked.ids) for marked in found]
            room = longest - setting.marks.count(paired=len(found) == 2)
            rooms = share_room(*sizes, room) if len(found) == 2 else (room,)
            kept = [m.around_marks(size) for m, size in zip(found, rooms, strict=True)]
            cut.append([len(marked.ids) for marked in kept] != sizes)
            marks = [0, *kept[0].marks]
            for marked in kept[1:]:
                marks += [*[0] * len(tokenizer.between), *marked.marks]
            lost += any(not any(m >> n & 1 for m in marks) for n in range(self.num_spans))
            example = make_example(index, *(m.ids for m in kept), marks=setting.marks)
            examples.append(replace(example, token_labels=[*marks, 0]))
        notes = {
            "rows cut around their spans": sum(cut),
            "rows with a span that no token stands for": lost,
        }
        return describe_examples("text", examples, tokenizer, limit=longest, cut=cut, notes=notes)

    def logits(self, body: Body, head: Head, memory: Memory, batch: Batch) -> Tensor:
        """Score the classes of every row; bit n of a token's label says that it is in span n."""
        return head(memory, needed(batch.labels)).float()

    def check_request(self, row: Record) -> str | None:
        """Say what is wrong with a row's spans; None if nothing is."""
        spans = row["spans"]
        if not isinstance(spans, list) or not all(isinstance(span, Mapping) for span in spans):
            return "spans must be a list of objects with start and end"
        if len(spans) != self.num_spans:
            return f"there are {len(spans)} spans, but task.num-spans is {self.num_spans}"
        for number, span in enumerate(spans, 1):
            side, start, end = span.get("text", "text"), span.get("start"), span.get("end")
            if side not in _SIDES or not isinstance(row.get(side), str):
                return f"span {number} is in {side!r}, but the row has no such text"
            if not all(type(value) is int for value in (start, end)) or not 0 <= start < end:
                return f"span {number} must have start and end, in characters, and not be empty"
            if end > len(row[side]):
                size = len(row[side])
                return f"span {number} ends at character {end}, but its text has {size}"
        return None

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give pairs of texts whose class is the word that is marked in the first."""
        words = ("red", "blue")
        rows = []
        for i in range(48):
            marked, text = words[i % 2], " ".join(words if i % 4 < 2 else words[::-1])
            start = text.index(marked)
            spans = [
                {"start": start, "end": start + len(marked)},
                {"start": 0, "end": 3, "text": "text_pair"},
            ]
            rows.append({"text": text, "text_pair": "two one", "spans": spans, "label": marked})
        return rows


@dataclass(frozen=True)
class _Marked:
    """One text as pieces.

    Args:
        ids: Its pieces.
        marks: For each, bit n set where it is in span n.
    """

    ids: list[int]
    marks: list[int]

    def around_marks(self, room: int) -> _Marked:
        """Cut to a length, around the marked pieces, or the first where not all fit."""
        if len(self.ids) <= room:
            return self
        places = [place for place, mark in enumerate(self.marks) if mark] or [0]
        last = places[-1] if places[-1] - places[0] < room else places[0]
        middle = (places[0] + last + 1) // 2
        start = min(max(0, middle - room // 2), len(self.ids) - room)
        return _Marked(self.ids[start : start + room], self.marks[start : start + room])


def _encode_side(rows: Rows, side: str, tokenizer: Tokenizer) -> list[_Marked | None]:
    """Cut one of the two texts of each row into pieces, and mark those of its spans."""
    places = [place for place, row in enumerate(rows) if row.get(side) is not None]
    found: list[_Marked | None] = [None] * len(rows)
    encoded = encode_bare([rows[place][side] for place in places], tokenizer)
    for place, item in zip(places, encoded, strict=True):
        marks = [0] * len(item.ids)
        for number, span in enumerate(rows[place]["spans"]):
            if span.get("text", "text") != side:
                continue
            for spot in pieces_of_spans([(span["start"], span["end"])], item.offsets)[0]:
                marks[spot] |= 1 << number
        found[place] = _Marked(item.ids, marks)
    return found
