"""Translation: write a target text for a source text.

Any sequence-to-sequence task with text on both sides fits: translation between languages, written
dates to ISO dates, spelling to pronunciation.

Needs: `source`, `target`.
Compare: for long articles and short summaries use a summarization task, which scores by ROUGE.

Example:
    >>> task = Translation(num_beams=1)
    >>> task.texts([{"source": "ja", "target": "yes"}])
    ['ja', 'yes']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from headway.metrics.generated import bleu_statistics, chrf_statistics, exact_match_statistics
from headway.metrics.intervals import Statistics
from headway.tasks._task import Answers, Rows
from headway.tasks._text_to_text import TextToText


@dataclass(frozen=True, kw_only=True)
class Translation(TextToText):
    """Learn p(target | source), one target token after the other."""

    metrics: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "exact_match", "perplexity")

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare with `target`: BLEU, chrF and the share of exact matches."""
        texts = [item["prediction"] for item in predictions]
        references = [self.references(row) for row in rows]
        return [
            score(texts, references)
            for score in (bleu_statistics, chrf_statistics, exact_match_statistics)
        ]

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give records that are learned in seconds."""
        pairs = {"red": "rot", "blue": "blau", "black": "schwarz", "white": "weiss"}
        words = list(pairs)
        chosen = [
            [words[i % 4], words[i // 4 % 4], words[i // 3 % 4]][: 1 + i % 3] for i in range(24)
        ]
        return [
            {"source": " ".join(row), "target": " ".join(pairs[word] for word in row)}
            for row in chosen
        ]
