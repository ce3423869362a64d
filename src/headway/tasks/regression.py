"""Regression: give a number for a text, or for a pair of texts.

Similarity of two sentences, the strength of a sentiment.

Needs: records with `text` and a number in `label`, and `text_pair` where two texts are compared.
Compare: for one of several classes, classification.

Example:
    >>> Regression(low=-1.0, high=1.0).check()
    []
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.metrics.classes import compare_numbers
from headway.metrics.intervals import Statistics
from headway.tasks._labels import read_number
from headway.tasks._task import Answer, Answers, Body, Head, Record, Rows, Setting
from headway.tasks._texts import OnPooledTexts, needed


@dataclass(frozen=True, kw_only=True)
class Regression(OnPooledTexts):
    """Learn the mean of a number, given a text."""

    low: float | None = None
    """Lowest number there is; answers below are raised to it."""
    high: float | None = None
    """Highest number there is; answers above are lowered to it."""
    pooling: str = "published"
    """published (the family's own: of the first token, a decoder's of the last), mean, attention or
    attention-fixed."""
    dropout: float = 0.1
    """Rate on the pooled vector."""
    max_tokens: int = 512
    """Length of an example, special tokens included."""
    keep: str = "head"
    """What stays of a longer text: head; head-tail (its first quarter and its end); or all of it in
    windows, whose results are averaged."""
    both_orders: bool = False
    """Read pairs in both orders, and take the mean of what is said: for similarity."""
    next_word_weight: float = 0.0
    """Weight of learning next words beside, on decoders; GPT's authors took 0.5."""

    metrics: ClassVar[tuple[str, ...]] = ("spearman", "pearson")
    loss_name: ClassVar[str] = "squared_error"
    problem_type: ClassVar[str] = "regression"

    @staticmethod
    def settings_of(
        kind: str, architecture: str, labels: Sequence[str], problem: str
    ) -> dict[str, Any] | None:
        """Work with a published head of one result as it is."""
        is_number = len(labels) == 1 and problem in ("", "regression")
        return {} if kind == "sequence" and is_number else None

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build pooling and a layer of one result."""
        return self.make_pooled_head(body, 1)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = super().check()
        if self.low is not None and self.high is not None and self.low >= self.high:
            problems.append(f"low is {self.low}, but must be below high, {self.high}")
        return problems

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's number; None if nothing is."""
        try:
            value = read_number(row.get("label"))
        except ValueError as error:
            return str(error)
        low, high = self._range
        if not low <= value <= high:
            return f"label is {value:g}, which is outside of task.low and task.high"
        return None

    @property
    def _range(self) -> tuple[float, float]:
        low = -math.inf if self.low is None else self.low
        return low, math.inf if self.high is None else self.high

    def target(self, example: Example, row: Record, setting: Setting) -> Example:
        """Give an example its number."""
        return replace(example, value=read_number(row["label"]))

    def with_targets(self, batch: Batch, examples: Sequence[Example], setting: Setting) -> Batch:
        """Give a batch the number of each example."""
        return replace(batch, document_labels=torch.tensor([item.value for item in examples]))

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum the squared errors."""
        return (logits[:, 0] - needed(batch.document_labels)).square().sum()

    def answers(self, logits: Tensor, rows: Rows, setting: Setting) -> list[Answer]:
        """Give a number for each text.

        Returns:
            answers: For each record "prediction".
        """
        values = logits[:, 0].clamp(*self._range).tolist()
        return [{"prediction": round(value, 6)} for value in values]

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare numbers: both correlations and the squared error."""
        said = [float(answer["prediction"]) for answer in predictions]
        wanted = [read_number(row["label"]) for row in rows]
        return compare_numbers(said, wanted, self.metrics)

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give texts whose number is the sum of what their words stand for."""
        words = {"bad": -1.0, "plain": 0.0, "good": 1.0}
        names = list(words)
        rows = [[names[i % 3], names[i // 3 % 3]] for i in range(48)]
        return [{"text": " ".join(row), "label": sum(words[w] for w in row)} for row in rows]
