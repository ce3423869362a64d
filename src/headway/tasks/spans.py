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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.layers.heads import SpanHead
from headway.layers.losses import Loss
from headway.metrics.baseline import BAG_OF_WORDS, predict_classes
from headway.metrics.classes import (
    ClassScore,
    class_scores,
    compare_classes,
)
from headway.metrics.intervals import Statistics
from headway.tasks._labels import label_names, order_labels
from headway.tasks._task import (
    NO_CHANCE,
    Baseline,
    Body,
    Draw,
    Encoded,
    Head,
    Progress,
    Record,
    Setting,
)
from headway.tasks._texts import (
    OnEncoder,
    batches_of,
    class_loss,
    collate_texts,
    describe_examples,
    device_of,
    length_problems,
    pair_example,
    share_room,
    start_head,
    texts_of,
    token_labels,
    weights_of,
)
from headway.text.tokenizer import Tokenizer

_SIDES = ("text", "text_pair")


@dataclass(frozen=True, kw_only=True)
class Spans(OnEncoder):
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
    weighs_classes: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a classifier over the spans' vectors."""
        width = body.config.hidden_size
        head = SpanHead(width, len(labels), num_spans=self.num_spans, dropout=self.dropout)
        return start_head(head, body)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = length_problems(self.max_tokens, self.dropout)
        if not 1 <= self.num_spans <= 8:
            problems.append(f"num_spans is {self.num_spans}, but must be from 1 to 8")
        return problems

    def texts(self, rows: Sequence[Record]) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return texts_of(rows)

    def find_labels(self, rows: Sequence[Record]) -> tuple[str, ...]:
        """List the classes of the training rows."""
        return order_labels(label_names(row.get("label"), several=False)[0] for row in rows)

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's spans or its label; None if nothing is."""
        if problem := _span_problem(row, self.num_spans):
            return problem
        try:
            name = label_names(row.get("label"), several=False)[0]
        except ValueError as error:
            return str(error)
        if labels is not None and name not in labels:
            return f"label {name!r} is none of the classes in training ({', '.join(labels[:8])})"
        return None

    def encode(self, rows: Sequence[Record], setting: Setting) -> Encoded:
        """Turn records into examples."""
        longest = min(self.max_tokens, setting.max_tokens)
        found, cut = self._encode(rows, setting)
        number = {name: place for place, name in enumerate(setting.labels)}
        examples, lost = [], 0
        for example, row in zip(found, rows, strict=True):
            marks = example.token_labels or ()
            lost += any(not any(m >> n & 1 for m in marks) for n in range(self.num_spans))
            if "label" in row:
                name = label_names(row["label"], several=False)[0]
                example = replace(example, label=number[name])
            examples.append(example)
        return describe_examples(
            "text",
            examples,
            setting.tokenizer,
            limit=longest,
            notes={
                "rows cut around their spans": sum(cut),
                "rows with a span that no token stands for": lost,
            },
        )

    def _encode(self, rows: Sequence[Record], setting: Setting) -> tuple[list[Example], list[bool]]:
        """Give examples without labels, and say of each whether something of it was cut."""
        tokenizer = setting.tokenizer
        longest = min(self.max_tokens, setting.max_tokens)
        sides = [_encode_side(rows, side, tokenizer) for side in _SIDES]
        examples, cut = [], []
        for index in range(len(rows)):
            found = [marked for side in sides if (marked := side[index]) is not None]
            sizes = [len(marked.ids) for marked in found]
            room = [longest - 2]
            if len(found) == 2:
                room = [*share_room(*sizes, longest - 2 - len(tokenizer.between))]
            kept = [m.around_marks(size) for m, size in zip(found, room, strict=True)]
            cut.append([len(marked.ids) for marked in kept] != sizes)
            examples.append(_join(index, kept, tokenizer))
        return examples, cut

    def collate(
        self, rows: Sequence[Sequence[Example]], setting: Setting, draw: Draw = NO_CHANCE
    ) -> Batch:
        """Lay examples out in rows; bit n of a token's label says that it is in span n."""
        batch = collate_texts(rows, setting)
        examples = [example for row in rows for example in row]
        marks = torch.zeros_like(batch.source.ids)
        flat = chain.from_iterable(example.token_labels or () for example in examples)
        marks[batch.source.attention_mask] = torch.tensor(list(flat))
        return replace(
            batch,
            labels=marks,
            document_labels=torch.tensor([example.label or 0 for example in examples]),
            document_weights=torch.tensor([example.weight for example in examples]),
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the rows, by weight."""
        return {"class": float(weights_of(batch).sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the classes, in nats."""
        return (class_loss(_logits(body, head, batch), batch),)

    def predict(
        self,
        body: Body,
        head: Head,
        rows: Sequence[Record],
        setting: Setting,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Classify marked texts.

        Returns:
            answers: For each record "prediction", the most probable class, and "probabilities",
                class -> p. "cut" where the text is longer than an example.
        """
        asked = [{key: value for key, value in row.items() if key != "label"} for row in rows]
        examples, cut = self._encode(asked, setting)
        answers: list[dict[str, Any]] = [{} for _ in rows]
        device = device_of(body)
        for places, batch in batches_of(examples, setting, device, progress, collate=self.collate):
            with torch.inference_mode():
                probs = _logits(body, head, batch).softmax(-1).cpu().tolist()
            for place, row in zip(places, probs, strict=True):
                named = dict(zip(setting.labels, (round(p, 6) for p in row), strict=True))
                best = max(named, key=named.__getitem__)
                answers[place] = {"prediction": best, "probabilities": named}
                if cut[place]:
                    answers[place]["cut"] = ["source"]
        return answers

    def check_request(self, row: Record) -> str | None:
        """Say what is wrong with a row that is to be answered; None if nothing is."""
        return _span_problem(row, self.num_spans)

    def statistics(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[Statistics]:
        """Compare classes: accuracy and F1."""
        return compare_classes(*_both_sides(predictions, rows), self.metrics)

    def class_scores(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[ClassScore]:
        """Score every class apart."""
        return class_scores(*_both_sides(predictions, rows))

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> Baseline:
        """Answer rows by a bag of their words, marks left out."""
        texts, asked = ([" ".join(texts_of([row])) for row in part] for part in (train, rows))
        wanted = [label_names(row["label"], several=False)[0] for row in train]
        found = [{"prediction": said} for said in predict_classes(texts, wanted, asked)]
        return Baseline(name=BAG_OF_WORDS, predictions=found)

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


def _both_sides(
    predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
) -> tuple[list[list[str]], list[list[str]], tuple[str, ...]]:
    """Give the class said of each row, the one wanted, and the names of all."""
    said = [[str(answer["prediction"])] for answer in predictions]
    wanted = [label_names(row["label"], several=False) for row in rows]
    return said, wanted, order_labels(name for side in (said, wanted) for (name,) in side)


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


def _encode_side(rows: Sequence[Record], side: str, tokenizer: Tokenizer) -> list[_Marked | None]:
    """Cut one of the two texts of each row into pieces, and mark those of its spans."""
    places = [place for place, row in enumerate(rows) if row.get(side) is not None]
    found: list[_Marked | None] = [None] * len(rows)
    encoded = tokenizer.encode_batch([rows[place][side] for place in places])
    for place, item in zip(places, encoded, strict=True):
        kept = [spot for spot, token in enumerate(item.ids) if not tokenizer.is_special[token]]
        marks = [0] * len(kept)
        for number, span in enumerate(rows[place]["spans"]):
            if span.get("text", "text") != side:
                continue
            for spot, piece in enumerate(kept):
                start, end = item.offsets[piece]
                if start < span["end"] and end > span["start"] and end > start:
                    marks[spot] |= 1 << number
        found[place] = _Marked([item.ids[spot] for spot in kept], marks)
    return found


def _join(index: int, found: Sequence[_Marked], tokenizer: Tokenizer) -> Example:
    first = found[0]
    if len(found) == 1:
        ids = [tokenizer.start_id, *first.ids, tokenizer.end_id]
        return Example(index, ids, token_labels=[0, *first.marks, 0])
    example = pair_example(index, first.ids, found[1].ids, tokenizer)
    between = [0] * len(tokenizer.between)
    return replace(example, token_labels=[0, *first.marks, *between, *found[1].marks, 0])


def _logits(body: Body, head: Head, batch: Batch) -> Tensor:
    return head(body.encode(batch.source), token_labels(batch)).float()


def _span_problem(row: Record, count: int) -> str | None:
    """Say what is wrong with a row's spans; None if nothing is."""
    spans = row["spans"]
    if not isinstance(spans, list) or not all(isinstance(span, Mapping) for span in spans):
        return "spans must be a list of objects with start and end"
    if len(spans) != count:
        return f"there are {len(spans)} spans, but task.num-spans is {count}"
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
