"""Token regression: give a number for each word of a text.

How hard a word is to read, how strongly it is stressed, how long the eye rests on it.

Needs: records with `words` and `values`, a list of as many numbers, as JSONL.
Compare: for kinds of words, tagging; for one number of the whole text, regression.

Example:
    >>> WordRegression().check_row({"words": ["a", "b"], "values": [1.0]}, None)
    'there are 2 words, but 1 values'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.layers.losses import Loss
from headway.metrics.classes import by_group, compare_numbers
from headway.metrics.intervals import Statistics
from headway.tasks._examples import describe_examples
from headway.tasks._labels import read_number
from headway.tasks._task import Answer, Answers, Body, Encoded, Head, Record, Rows, Setting
from headway.tasks._texts import make_token_head, needed, where_asked
from headway.tasks._words import OnWords, Sentence, are_words, count_unseen, read_sentences


@dataclass(frozen=True, kw_only=True)
class WordRegression(OnWords):
    """Learn the mean of a number, given a word in its sentence."""

    max_tokens: int = 512
    """Length of an example, special tokens included; longer sentences are read in windows."""
    overlap_tokens: int = 32
    """Pieces that two neighboring windows share."""
    dropout: float = 0.1
    """Rate on the hidden states."""

    columns: ClassVar[tuple[str, ...]] = ("words", "values")
    heads: ClassVar[tuple[str, ...]] = ("body",)
    head: ClassVar[str] = "body"
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman")

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a layer of one result over every token."""
        return make_token_head(body, 1, dropout=self.dropout)

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's words and values; None if nothing is."""
        words, values = row["words"], row["values"]
        if not are_words(words) or not isinstance(values, list):
            return "words must be a list of words, and values a list of numbers"
        if len(words) != len(values):
            return f"there are {len(words)} words, but {len(values)} values"
        if not words:
            return "there are no words"
        try:
            for value in values:
                read_number(value, "a value")
        except ValueError as error:
            return str(error)
        return None

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples, a window of a sentence each."""
        sentences = read_sentences(rows, setting.tokenizer)
        windows = self.windows(sentences, setting)
        wanted = [
            [float(value) for value in row.get("values", [math.nan] * len(sentence.words))]
            for row, sentence in zip(rows, sentences, strict=True)
        ]
        examples = []
        for place, window in enumerate(windows):
            values = sentences[window.sentence].over_pieces(
                window, wanted[window.sentence], fill=math.nan
            )
            examples.append(Example(place, window.ids, token_values=values))
        silent = sum(not pieces for sentence in sentences for pieces in sentence.pieces)
        notes = {
            "words without a token, never learned": silent,
            "words longer than a window, never learned": count_unseen(sentences, windows),
        }
        limit = self.longest(setting)
        return describe_examples("words", examples, setting.tokenizer, limit=limit, notes=notes)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the words."""
        return {"squared_error": float(needed(batch.token_values).isfinite().sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the squared errors."""
        values = needed(batch.token_values)
        hidden, wanted = where_asked(body.encode(batch.source).hidden, values, values.isfinite())
        total = (head(hidden).float()[:, 0] - wanted).square().sum()
        return (Loss(name="squared_error", total=total, count=float(len(wanted))),)

    def results(self, logits: Tensor) -> Tensor:
        """Give the number of each token."""
        return logits[..., 0]

    def answer(self, sentence: Sentence, results: Sequence[Any], setting: Setting) -> Answer:
        """Give a number for each word.

        Returns:
            answer: "prediction", a list with a number for each word; 0 for a word without a token.
        """
        return {"prediction": [0.0 if x is None else round(float(x), 6) for x in results]}

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare numbers, word by word: both correlations and the squared error."""
        said = np.concatenate([answer["prediction"] for answer in predictions]).tolist()
        wanted = [read_number(value, "a value") for row in rows for value in row["values"]]
        found = compare_numbers(said, wanted, self.metrics)
        return [by_group(item, [len(row["values"]) for row in rows]) for item in found]

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give sentences whose words have always the same numbers."""
        values = {"one": 1.0, "two": -1.0, "three": 0.5}
        names = list(values)
        rows = [
            [names[i % 3], names[i // 3 % 3], names[(i + 1) % 3]][: 2 + i % 2] for i in range(48)
        ]
        return [{"words": row, "values": [values[word] for word in row]} for row in rows]
