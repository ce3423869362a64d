"""Sequence classification: say to which class a text, or a pair of texts, belongs.

Sentiment, topics, entailment, paraphrases. With several labels a row each class is decided alone.

Needs: records with `text` and `label`, and `text_pair` where two texts are compared. A label is a
word or a number; with `multi-label` a list, or in a table words with "|" between them.
Compare: for a number in place of a class, regression; for a class of each word, tagging.

Example:
    >>> task = Classification()
    >>> task.find_labels([{"text": "good", "label": "yes"}, {"text": "bad", "label": "no"}])
    ('no', 'yes')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from headway.data.batch import Batch, Example
from headway.tasks._classes import GivesClasses
from headway.tasks._settings import must_be
from headway.tasks._task import Body, Head, Setting
from headway.tasks._texts import OnPooledTexts


@dataclass(frozen=True, kw_only=True)
class Classification(GivesClasses, OnPooledTexts):
    """Learn p(class | text)."""

    multi_label: bool = False
    """A row may have several classes, or none."""
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
    threshold: float = 0.5
    """With multi-label, the probability from which a class is given."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, the one that chooses the best model first."""
        if self.multi_label:
            macro, micro = ("macro_precision", "macro_recall"), ("micro_precision", "micro_recall")
            return ("micro_f1", "macro_f1", *macro, *micro)
        return ("accuracy", "macro_f1", "matthews", "macro_precision", "macro_recall")

    @property
    def may_be_blank(self) -> tuple[str, ...]:
        """Where a row may have several classes it may have none."""
        return ("label",) if self.multi_label else ()

    @staticmethod
    def settings_of(
        kind: str, architecture: str, labels: Sequence[str], problem: str
    ) -> dict[str, Any] | None:
        """Work with a published classifier as it is."""
        if kind != "sequence" or problem == "regression" or (len(labels) == 1 and not problem):
            return None
        return {"multi_label": problem == "multi_label_classification"}

    @property
    def problem_type(self) -> str:
        """Say what published configs call this."""
        return f"{'multi' if self.multi_label else 'single'}_label_classification"

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build pooling and classifier."""
        return self.make_pooled_head(body, len(labels))

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        fits = 0 < self.threshold < 1
        return super().check() + must_be(self, "threshold", "between 0 and 1", is_right=fits)

    def with_targets(self, batch: Batch, examples: Sequence[Example], setting: Setting) -> Batch:
        """Give a batch the class, or classes, of each example."""
        if not self.multi_label:
            return super().with_targets(batch, examples, setting)
        wanted = torch.zeros(len(examples), len(setting.labels))
        for place, example in enumerate(examples):
            wanted[place, list(example.classes)] = 1
        return replace(batch, document_labels=wanted)

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give texts whose class is the word that they repeat."""
        words = ("red", "blue", "black")
        return [
            {"text": " ".join([words[i % 3]] * (2 + i % 4) + ["one"]), "label": words[i % 3]}
            for i in range(48)
        ]
