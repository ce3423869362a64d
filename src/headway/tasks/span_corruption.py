"""Span corruption: write what was cut out of running text, as T5 is pretrained.

Spans of a text are cut out, and each is replaced by a sentinel of its own; the target is the
sentinels, each followed by what it stands for.

Needs: running text, plain or JSONL with `text`; a vocabulary with sentinels, <extra_id_0> on.
Compare: a masked language model fills single tokens in, and has no decoder.

Example:
    >>> task = SpanCorruption(mean_span=2.0)
    >>> task.head
    'translation'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from headway.data.batch import Batch, Example
from headway.data.corrupt import Spans
from headway.data.order import generator
from headway.data.pairs import plan_texts
from headway.data.store import Store
from headway.decode.beam import Hypothesis
from headway.errors import ConfigError
from headway.tasks._corpus import OnCorpus, OnDemand, no_text
from headway.tasks._settings import at_least, must_be
from headway.tasks._task import (
    NO_CHANCE,
    Answer,
    Draw,
    Encoded,
    Layout,
    Record,
    Rows,
    Setting,
)
from headway.tasks._text_to_text import TextToText
from headway.text.specials import SENTINELS
from headway.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SpanCorruption(OnCorpus, TextToText):
    """Learn p(what was cut out | the rest); then fill the gaps of texts."""

    mask_ratio: float = 0.15
    """Share of tokens that are cut out."""
    mean_span: float = 3.0
    """Tokens of a span, on average."""
    max_tokens: int = 256
    """Length of a window of text, before anything is cut out."""
    label_smoothing: float = 0.0
    """Share of the target distribution spread over the vocabulary, 0 to below 1."""
    num_beams: int = 1
    """Beams in decoding; 1 is greedy."""

    metrics: ClassVar[tuple[str, ...]] = ("perplexity",)

    @staticmethod
    def settings_of(kind: str, architecture: str, labels: Sequence[str], problem: str) -> None:
        """Leave published folders to translation."""
        return

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = must_be(self, "mask_ratio", "between 0 and 1", is_right=0 < self.mask_ratio < 1)
        problems += must_be(self, "mean_span", "at least 1", is_right=self.mean_span >= 1)
        problems += at_least(self, {"max_tokens": 8})
        if not problems and (count := self.spans.sizes(self.max_tokens)[1]) > len(SENTINELS):
            problems.append(
                f"{count} spans would be cut out of {self.max_tokens} tokens, but there are "
                f"{len(SENTINELS)} sentinels: make max_tokens smaller, or mean_span larger"
            )
        if self.num_best != 1:
            problems.append(f"num_best is {self.num_best}, but gaps are filled in one way")
        return super().check() + problems

    @property
    def spans(self) -> Spans:
        """Say how much is cut out."""
        return Spans(ratio=self.mask_ratio, mean_length=self.mean_span)

    def texts(self, rows: Rows) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [row["text"] for row in rows]

    def to_ids(self, texts: Sequence[str], setting: Setting) -> list[list[int]]:
        """Turn texts with gaps into ids that end in </s>."""
        return setting.tokenizer.encode_ids(texts, special=True)

    def encode_corpus(
        self, store: Store, setting: Setting, *, seed: int = 0, is_training: bool = False
    ) -> Encoded:
        """Cut a corpus into windows; what is cut out of them is drawn when they are laid out.

        Raises:
            DataError: if there is no text.
            ConfigError: if the vocabulary has no sentinels.
        """
        _sentinels(setting.tokenizer)
        longest = min(self.max_tokens, setting.max_tokens - 1)
        ranges = plan_texts(store, budget=longest).ranges[:, :2]
        full = ranges[:, 1] - ranges[:, 0]
        # Of a single token nothing would be left.
        ranges, full = ranges[full > 1], full[full > 1]
        if not len(ranges):
            raise no_text()

        def make(index: int, window: list[int]) -> Example:
            first, last = window
            return Example(index, store.ids[first:last].tolist())

        cut, count = self.spans.sizes(full)
        # Each side has the sentinels, and ends with </s>.
        lengths = np.stack([full - cut, cut], axis=1) + count[:, None] + 1
        return Encoded(
            examples=OnDemand(ranges, make),
            lengths=lengths,
            full_lengths={"text": full},
            limits={"text": longest},
            unknown={"text": store.info.unknown},
        )

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Cut spans out of the windows."""
        tokenizer = setting.tokenizer
        sentinels, end = _sentinels(tokenizer), tokenizer.end_id

        def cut(example: Example) -> Example:
            random = generator(draw.seed, draw.epoch, example.index, 5)
            source, target = self.spans.cut(np.asarray(example.input_ids), sentinels, random)
            return replace(example, input_ids=[*source, end], target_ids=[*target, end])

        return super().collate([[cut(example) for example in row] for row in rows], setting, draw)

    def to_answer(self, hypotheses: list[Hypothesis], row: Record, setting: Setting) -> Answer:
        """Give the text with its gaps filled, and what fills each of them."""
        answer = super().to_answer(hypotheses[:1], row, setting)
        tokenizer = setting.tokenizer
        places = {number: place for place, number in enumerate(_sentinels(tokenizer).tolist())}
        found: dict[int, list[int]] = {}
        place = -1
        for token in hypotheses[0].ids:
            place = places.get(token, place)
            if token not in places:
                found.setdefault(place, []).append(token)
        filled = {place: tokenizer.decode(ids).strip() for place, ids in found.items()}

        def fill(match: re.Match[str]) -> str:
            return filled.get(int(match[1]), "")

        text = re.sub(r"<extra_id_(\d+)>", fill, row["text"])
        spans = {SENTINELS[place]: filled[place] for place in sorted(filled) if place >= 0}
        return {**answer, "prediction": text, "spans": spans}

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give documents that are learned in seconds: all words of a line are the same."""
        words = ("red", "blue", "black", "white")
        return [{"text": " ".join([words[i % 4]] * (8 + i % 5))} for i in range(32)]


def _sentinels(tokenizer: Tokenizer) -> np.ndarray:
    """Give the ids of the sentinels, (100) int64."""
    found = [tokenizer.find(name) for name in SENTINELS]
    if None in found:
        raise ConfigError(
            f"the vocabulary has no {SENTINELS[found.index(None)]}, which stands for what is cut "
            "out",
            hint="take a T5 with its own vocabulary, or learn one for it",
        )
    return np.array(found)
