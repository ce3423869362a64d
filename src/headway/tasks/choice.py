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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.layers.side import Memory
from headway.metrics.classes import accuracy_statistics
from headway.metrics.intervals import Statistics
from headway.tasks._examples import describe_examples, encode_texts, join_parts
from headway.tasks._settings import length_problems
from headway.tasks._task import Answer, Answers, Body, Encoded, Head, Record, Rows, Setting
from headway.tasks._texts import OnTexts, needed


@dataclass(frozen=True, kw_only=True)
class Choice(OnTexts):
    """Learn p(choice | text and all choices)."""

    dropout: float = 0.1
    """Rate on the pooled vector."""
    max_tokens: int = 128
    """Length of a text with one of its choices, special tokens included."""
    next_word_weight: float = 0.0
    """Weight of learning next words beside, on decoders; GPT's authors took 0.5."""

    bodies: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    columns: ClassVar[tuple[str, ...]] = ("text", "choices", "label")
    inputs: ClassVar[tuple[str, ...]] = ("text", "choices")
    heads: ClassVar[tuple[str, ...]] = ("choice",)
    head: ClassVar[str] = "choice"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    loss_name: ClassVar[str] = "choice"

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build the family's pooling and a layer of one result."""
        return self.make_pooled_head(body, 1)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return length_problems(self)

    def texts(self, rows: Rows) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [text for row in rows for text in (row["text"], *row["choices"])]

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's choices or its label; None if nothing is."""
        if problem := self.check_request(row):
            return problem
        try:
            _place(row)
        except ValueError as error:
            return str(error)
        return None

    def read(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples, each of as many parts as there are choices."""
        flat = [
            {"text": row["text"], "text_pair": choice} for row in rows for choice in row["choices"]
        ]
        pairs = encode_texts(flat, setting, max_tokens=self.max_tokens, keep="head")
        examples, cut, start = [], [], 0
        for index, row in enumerate(rows):
            stop = start + len(row["choices"])
            examples.append(join_parts(index, pairs.examples[start:stop]))
            cut.append(any(pairs.cut[start:stop]))
            start = stop
        tokenizer = setting.tokenizer
        notes = {"rows of which the text or a choice was cut": sum(cut)}
        limit = max((len(example.input_ids) for example in examples), default=0)
        return describe_examples("text", examples, tokenizer, limit=limit, cut=cut, notes=notes)

    def target(self, example: Example, row: Record, setting: Setting) -> Example:
        """Give an example the place of the right choice."""
        return replace(example, label=_place(row))

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum the cross-entropy of the right choice among its neighbors, in nats."""
        return F.cross_entropy(logits, needed(batch.document_labels), reduction="sum")

    def logits(self, body: Body, head: Head, memory: Memory, batch: Batch) -> Tensor:
        """Score the choices of each question, (N, C) float32, -inf where it has fewer."""
        found = head(body, memory).float()[:, 0]
        groups = needed(batch.groups)
        counts = groups.bincount()
        first = counts.cumsum(0) - counts
        places = torch.arange(len(groups), device=groups.device) - first.index_select(0, groups)
        scores = found.new_full((len(counts), int(counts.max())), -torch.inf)
        return scores.index_put((groups, places), found)

    def answers(self, logits: Tensor, rows: Rows, setting: Setting) -> list[Answer]:
        """Choose.

        Returns:
            answers: For each record "prediction", the text of the best choice, its place "choice",
                and "probabilities", one for each choice in order.
        """
        answers = []
        for row, probs in zip(rows, logits.softmax(-1).tolist(), strict=True):
            choices = row["choices"]
            shown = [round(p, 6) for p in probs[: len(choices)]]
            best = max(range(len(choices)), key=shown.__getitem__)
            answers.append({"prediction": choices[best], "choice": best, "probabilities": shown})
        return answers

    def check_request(self, row: Record) -> str | None:
        """Say what is wrong with a row that is to be answered; None if nothing is."""
        choices = row["choices"]
        if not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
            return "choices must be a list of texts"
        return None if len(choices) > 1 else "there must be two choices or more"

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
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
