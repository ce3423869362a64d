"""Multiple choice: say which of several texts goes on from, or answers, a first one.

Sentence completion, plausible causes, reading tests.

Needs: records with `text`, `choices` (a list of texts) and `label`, the place of the right one
counted from 0, or its text.
Compare: where the answers are always the same few, classification.

Example:
    >>> Choice().check_row({"text": "It rained", "choices": ["so", "but"], "label": 2}, None)
    'label is 2, but there are 2 choices, counted from 0'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.layers.losses import Loss
from headway.metrics.classes import accuracy_statistics
from headway.metrics.intervals import Statistics
from headway.tasks._task import NO_CHANCE, Body, Draw, Encoded, Head, Progress, Record, Setting
from headway.tasks._texts import (
    OnEncoder,
    batches_of,
    collate_texts,
    describe_examples,
    device_of,
    document_labels,
    encode_texts,
    length_problems,
    make_pooled_head,
    was_cut,
)


@dataclass(frozen=True, kw_only=True)
class Choice(OnEncoder):
    """Learn p(choice | text and all choices)."""

    dropout: float = 0.1
    """Rate on the pooled vector."""
    max_tokens: int = 128
    """Length of a text with one of its choices, special tokens included."""

    columns: ClassVar[tuple[str, ...]] = ("text", "choices", "label")
    inputs: ClassVar[tuple[str, ...]] = ("text", "choices")
    heads: ClassVar[tuple[str, ...]] = ("choice",)
    head: ClassVar[str] = "choice"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build the family's pooling and a layer of one result."""
        return make_pooled_head(body, 1, pooling="published", dropout=self.dropout)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return length_problems(self.max_tokens, self.dropout)

    def texts(self, rows: Sequence[Record]) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [text for row in rows for text in (row["text"], *row["choices"])]

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's choices or its label; None if nothing is."""
        if problem := _problem_of_choices(row["choices"]):
            return problem
        try:
            _place(row)
        except ValueError as error:
            return str(error)
        return None

    def encode(self, rows: Sequence[Record], setting: Setting) -> Encoded:
        """Turn records into examples, each of as many parts as there are choices."""
        examples, cut = self._encode(rows, setting)
        return describe_examples(
            "text",
            examples,
            setting.tokenizer,
            limit=max((len(example.input_ids) for example in examples), default=0),
            notes={"rows of which the text or a choice was cut": sum(cut)},
        )

    def _encode(self, rows: Sequence[Record], setting: Setting) -> tuple[list[Example], list[bool]]:
        """Give examples, and say of each whether something of it was cut."""
        flat = [
            {"text": row["text"], "text_pair": choice} for row in rows for choice in row["choices"]
        ]
        pairs = encode_texts(flat, setting, max_tokens=self.max_tokens, keep="head")
        was_pair_cut = was_cut(pairs)
        examples, cut, start = [], [], 0
        for index, row in enumerate(rows):
            stop = start + len(row["choices"])
            parts = tuple(replace(part, index=index) for part in pairs.examples[start:stop])
            ids = [token for part in parts for token in part.input_ids]
            label = _place(row) if "label" in row else None
            examples.append(Example(index, ids, label=label, parts=parts))
            cut.append(bool(was_pair_cut[start:stop].any()))
            start = stop
        return examples, cut

    def collate(
        self, rows: Sequence[Sequence[Example]], setting: Setting, draw: Draw = NO_CHANCE
    ) -> Batch:
        """Lay every choice out in a row of its own."""
        batch = collate_texts(rows, setting)
        labels = [example.label or 0 for row in rows for example in row]
        return replace(batch, document_labels=torch.tensor(labels))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the questions."""
        return {"choice": float(len(document_labels(batch)))}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the right choice among its neighbors, in nats."""
        labels = document_labels(batch)
        total = F.cross_entropy(_scores(body, head, batch), labels, reduction="sum")
        return (Loss(name="choice", total=total, count=float(len(labels))),)

    def predict(
        self,
        body: Body,
        head: Head,
        rows: Sequence[Record],
        setting: Setting,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Choose.

        Returns:
            answers: For each record "prediction", the text of the best choice, its place "choice",
                and "probabilities", one for each choice in order. "cut" where it is too long.
        """
        asked = [{key: row[key] for key in self.inputs} for row in rows]
        examples, cut = self._encode(asked, setting)
        answers: list[dict[str, Any]] = [{} for _ in rows]
        for places, batch in batches_of(examples, setting, device_of(body), progress):
            with torch.inference_mode():
                probs = _scores(body, head, batch).softmax(-1).cpu().tolist()
            for place, row in zip(places, probs, strict=True):
                choices = rows[place]["choices"]
                named = [round(p, 6) for p in row[: len(choices)]]
                best = max(range(len(choices)), key=named.__getitem__)
                answers[place] = {
                    "prediction": choices[best],
                    "choice": best,
                    "probabilities": named,
                }
                if cut[place]:
                    answers[place]["cut"] = ["source"]
        return answers

    def check_request(self, row: Record) -> str | None:
        """Say what is wrong with a row that is to be answered; None if nothing is."""
        return _problem_of_choices(row["choices"])

    def statistics(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[Statistics]:
        """Count how often the right one was chosen."""
        said = [str(answer["prediction"]) for answer in predictions]
        return [accuracy_statistics(said, [row["choices"][_place(row)] for row in rows])]

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give questions of two or three choices, of which always the same word is right."""
        words = ("red", "blue", "black")
        rows = []
        for i in range(48):
            choices = [words[i % 3], "white", words[(i + 1) % 3]][: 2 + i % 2]
            rows.append({"text": f"{words[i % 3]} one", "choices": choices, "label": "white"})
        return rows


def _problem_of_choices(choices: Any) -> str | None:
    """Say what is wrong with a row's choices; None if nothing is."""
    if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        return "choices must be a list of texts"
    return None if len(choices) > 1 else "there must be two choices or more"


def _scores(body: Body, head: Head, batch: Batch) -> Tensor:
    """Score the choices of each question, (N, C) float32, -inf where it has fewer."""
    found = head(body, body.encode(batch.source)).float()[:, 0]
    groups = batch.groups
    if groups is None:
        raise TypeError("a batch of choices knows which of them belong together")
    counts = groups.bincount()
    first = counts.cumsum(0) - counts
    places = torch.arange(len(groups), device=groups.device) - first.index_select(0, groups)
    scores = found.new_full((len(counts), int(counts.max())), -torch.inf)
    return scores.index_put((groups, places), found)


def _place(row: Record) -> int:
    """Find the right choice.

    Raises:
        ValueError: saying what is wrong with the label.
    """
    label, choices = row.get("label"), row["choices"]
    if isinstance(label, str) and label in choices:
        if choices.count(label) > 1:
            raise ValueError(f"label {label!r} is there twice among the choices")
        return choices.index(label)
    if isinstance(label, str) and label.strip().isascii() and label.strip().isdigit():
        label = int(label)
    if isinstance(label, bool) or not isinstance(label, int):
        raise ValueError(f"label is {label!r}, but must be a choice or its place")
    if not 0 <= label < len(choices):
        raise ValueError(f"label is {label}, but there are {len(choices)} choices, counted from 0")
    return label
