"""Summarization: say in a sentence or a few what a longer text says.

Needs: `text`, `summary`; a list of summaries are several that would be right, the first is learned.
Compare: translation writes as much as it reads, and is scored by BLEU.

Example:
    >>> task = Summarization(prefix="summarize: ")
    >>> task.texts([{"text": "It rained all day.", "summary": ["Rain.", "It rained."]}])
    ['summarize: It rained all day.', 'Rain.']
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headway.metrics.intervals import Statistics
from headway.metrics.rouge import rouge_statistics
from headway.tasks._settings import at_least
from headway.tasks._task import Answers, Baseline, Record, Rows
from headway.tasks._text_to_text import TextToText

# A sentence ends with a mark, and what follows begins anew.
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")


@dataclass(frozen=True, kw_only=True)
class Summarization(TextToText):
    """Learn p(summary | text); a text longer than the model reads is cut, which is reported."""

    max_source_tokens: int = 512
    """Texts are cut to this length, which is counted and reported."""
    max_target_tokens: int = 128
    """Summaries are cut to this length in training, and never decoded beyond it."""
    num_beams: int = 4
    """Beams in decoding; 1 is greedy."""
    lead_sentences: int = 1
    """Sentences from the beginning of a text that the baseline takes for its summary."""

    columns: ClassVar[tuple[str, ...]] = ("text", "summary")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    metrics: ClassVar[tuple[str, ...]] = ("rouge1", "rouge2", "rougeL", "perplexity")

    @staticmethod
    def settings_of(kind: str, architecture: str, labels: Sequence[str], problem: str) -> None:
        """Leave published folders to translation: what a T5 does depends on the prefix."""
        return

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        return super().check() + at_least(self, {"lead_sentences": 1})

    def check_row(self, row: Record, labels: Any) -> str | None:
        """Say what is wrong with a summary."""
        texts = self.references(row)
        if texts and all(isinstance(text, str) and text.strip() for text in texts):
            return None
        return "summary must be a text, or a list of texts"

    def references(self, row: Record) -> list[str]:
        """Give the summaries that would be right; the first is learned."""
        summary = row["summary"]
        return summary if isinstance(summary, list) else [summary]

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare with the summaries: ROUGE-1, ROUGE-2 and ROUGE-L, with stemming."""
        texts = [item["prediction"] for item in predictions]
        return rouge_statistics(texts, [self.references(row) for row in rows])

    def baseline(self, train: Rows, rows: Rows) -> Baseline:
        """Take the first sentences of each text for its summary."""
        leads = [
            " ".join(_END_OF_SENTENCE.split(row["text"].strip())[: self.lead_sentences])
            for row in rows
        ]
        return Baseline(name="lead", predictions=[{"prediction": text} for text in leads])

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give records that are learned in seconds: the first word is all that counts."""
        words = ["red", "blue", "black", "white"]
        return [
            {"text": f"{words[i % 4]} and {words[i // 4 % 4]}", "summary": f"it is {words[i % 4]}"}
            for i in range(24)
        ]
