"""Token regression: give a number for each word of a text.

How hard a word is to read, how strongly it is stressed, how long the eye rests on it.

Needs: records with `words` and `values`, a list of as many numbers, as JSONL.
Compare: for kinds of words, tagging; for one number of the whole text, regression.

Example:
    >>> WordRegression().check_row({"words": ["a", "b"], "values": [1.0]}, None)
    'there are 2 words, but 1 values'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch

from headway.data.batch import Batch, Example
from headway.layers.losses import Loss
from headway.metrics.classes import by_group, compare_numbers
from headway.metrics.intervals import Statistics
from headway.tasks._labels import read_number
from headway.tasks._task import NO_CHANCE, Body, Draw, Encoded, Head, Progress, Record, Setting
from headway.tasks._texts import (
    OnEncoder,
    batches_of,
    collate_texts,
    describe_examples,
    device_of,
    length_problems,
    make_token_head,
)
from headway.tasks._words import are_words, count_unseen, cut_windows, read_sentences


@dataclass(frozen=True, kw_only=True)
class WordRegression(OnEncoder):
    """Learn the mean of a number, given a word in its sentence."""

    max_tokens: int = 512
    """Length of an example, special tokens included; longer sentences are read in windows."""
    overlap_tokens: int = 32
    """Pieces that two neighboring windows share."""
    dropout: float = 0.1
    """Rate on the hidden states."""

    columns: ClassVar[tuple[str, ...]] = ("words", "values")
    inputs: ClassVar[tuple[str, ...]] = ("words",)
    heads: ClassVar[tuple[str, ...]] = ("body",)
    head: ClassVar[str] = "body"
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman")

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build a layer of one result over every token."""
        return make_token_head(body, 1, dropout=self.dropout)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = length_problems(self.max_tokens, self.dropout)
        if not 0 <= self.overlap_tokens <= self.max_tokens // 2:
            problems.append(
                f"overlap_tokens is {self.overlap_tokens}, but must be from 0 to half of max_tokens"
            )
        return problems

    def texts(self, rows: Sequence[Record]) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [" ".join(row["words"]) for row in rows]

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

    def encode(self, rows: Sequence[Record], setting: Setting) -> Encoded:
        """Turn records into examples, a window of a sentence each."""
        tokenizer, longest = setting.tokenizer, min(self.max_tokens, setting.max_tokens)
        sentences = read_sentences(rows, tokenizer)
        windows = cut_windows(sentences, tokenizer, longest=longest, overlap=self.overlap_tokens)
        examples = []
        for place, window in enumerate(windows):
            values = [float("nan")] * len(window.ids)
            wanted = rows[window.sentence].get("values")
            for word, pieces in sentences[window.sentence].pieces_in(window):
                if wanted is not None and pieces:
                    values[pieces[0]] = float(wanted[word])
            examples.append(Example(place, window.ids, token_values=values))
        silent = sum(not pieces for sentence in sentences for pieces in sentence.pieces)
        return describe_examples(
            "words",
            examples,
            tokenizer,
            limit=longest,
            notes={
                "words without a token, never learned": silent,
                "words longer than a window, never learned": count_unseen(sentences, windows),
            },
        )

    def collate(
        self, rows: Sequence[Sequence[Example]], setting: Setting, draw: Draw = NO_CHANCE
    ) -> Batch:
        """Lay examples out in rows, with the number of each word at its first piece."""
        batch = collate_texts(rows, setting)
        values = torch.full(batch.source.ids.shape, float("nan"))
        found = (example.token_values or [] for row in rows for example in row)
        values[batch.source.attention_mask] = torch.tensor(list(chain.from_iterable(found)))
        return replace(batch, token_values=values)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the words."""
        return {"squared_error": float(_values(batch).isfinite().sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the squared errors."""
        wanted = _values(batch).flatten()
        places = wanted.isfinite().nonzero().squeeze(1)
        hidden = body.encode(batch.source).hidden.flatten(0, 1).index_select(0, places)
        found = head(hidden).float()[:, 0]
        total = (found - wanted.index_select(0, places)).square().sum()
        return (Loss(name="squared_error", total=total, count=float(len(places))),)

    def predict(
        self,
        body: Body,
        head: Head,
        rows: Sequence[Record],
        setting: Setting,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Give a number for each word.

        Returns:
            answers: For each record "prediction", a list with a number for each word; 0 for a word
                without a token.
        """
        tokenizer, longest = setting.tokenizer, min(self.max_tokens, setting.max_tokens)
        sentences = read_sentences(rows, tokenizer)
        windows = cut_windows(sentences, tokenizer, longest=longest, overlap=self.overlap_tokens)
        found = [[0.0] * len(sentence.words) for sentence in sentences]
        examples = [Example(place, window.ids) for place, window in enumerate(windows)]
        for chosen, batch in batches_of(examples, setting, device_of(body), progress):
            with torch.inference_mode():
                values = head(body.encode(batch.source).hidden).float()[..., 0].cpu().numpy()
            for place, row in zip(chosen, values, strict=True):
                window = windows[place]
                for word, pieces in sentences[window.sentence].pieces_in(window):
                    if pieces and word in window.counted:
                        found[window.sentence][word] = round(float(row[pieces[0]]), 6)
        return [{"prediction": numbers} for numbers in found]

    def statistics(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[Statistics]:
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


def _values(batch: Batch) -> torch.Tensor:
    """Give the number of each token, (B, T) float, nan where nothing is asked."""
    if batch.token_values is None:
        raise TypeError("this loss needs numbers of tokens")
    return batch.token_values
