"""Sentences of words as pieces, and long ones in windows that overlap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from headway.data.batch import Example
from headway.tasks._examples import batches_of, encode_bare
from headway.tasks._settings import length_problems, within
from headway.tasks._task import Answer, Body, Head, OnProgress, Rows, Setting
from headway.tasks._texts import OnEncoder
from headway.text.align import pieces_of_spans, word_spans
from headway.text.tokenizer import Tokenizer


class OnWords(OnEncoder):
    """What tasks share that say something of each word; long sentences are read in windows."""

    overlap_tokens: int
    dropout: float

    inputs: ClassVar[tuple[str, ...]] = ("words",)

    def results(self, logits: Tensor) -> Tensor:
        """Give the result of each token: (B, T, Y) float32 -> (B, T)."""
        raise NotImplementedError

    def answer(self, sentence: Sentence, results: Sequence[Any], setting: Setting) -> Answer:
        """Say what the results of a sentence's words mean; None stands for a word not read."""
        raise NotImplementedError

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        most = self.max_tokens // 2
        problems = length_problems(self)
        return problems + within(self, "overlap_tokens", 0, most, "half of max_tokens")

    def texts(self, rows: Rows) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return [" ".join(row["words"]) for row in rows]

    def windows(self, sentences: Sequence[Sentence], setting: Setting) -> list[Window]:
        """Cut sentences into what is read at once."""
        tokenizer, longest = setting.tokenizer, self.longest(setting)
        return cut_windows(sentences, tokenizer, longest=longest, overlap=self.overlap_tokens)

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Answer sentences; a text given in place of words is cut into them, marks on their own."""
        sentences = read_sentences(rows, setting.tokenizer)
        windows = self.windows(sentences, setting)
        found: list[list[Any]] = [[None] * len(sentence.words) for sentence in sentences]
        examples = [Example(place, window.ids) for place, window in enumerate(windows)]
        for chosen, batch in batches_of(examples, setting, body, progress):
            with torch.inference_mode():
                logits = head(body.encode(batch.source).hidden).float()
                results = self.results(logits).cpu().numpy()
            for place, row in zip(chosen, results, strict=True):
                window = windows[place]
                for word, pieces in sentences[window.sentence].pieces_in(window):
                    if pieces and word in window.counted:
                        found[window.sentence][word] = row[pieces[0]]
        return [
            self.answer(sentence, said, setting)
            for sentence, said in zip(sentences, found, strict=True)
        ]


@dataclass(frozen=True)
class Sentence:
    """A sentence and the pieces of its words.

    Args:
        text: The words, as they stood or with spaces between them.
        words: Characters [start, end) of each word.
        ids: Pieces of the whole text, without special tokens.
        pieces: For each word the places of its pieces in `ids`.
    """

    text: str
    words: list[tuple[int, int]]
    ids: list[int]
    pieces: list[list[int]]

    @cached_property
    def _seen(self) -> tuple[list[int], list[int], list[int]]:
        """List the words that have pieces, with the first and the last piece of each."""
        seen = [word for word, pieces in enumerate(self.pieces) if pieces]
        firsts, lasts = ([self.pieces[word][side] for word in seen] for side in (0, -1))
        return seen, firsts, lasts

    def words_between(self, start: int, end: int) -> range:
        """Find the words all of whose pieces lie in [start, end)."""
        words, firsts, lasts = self._seen
        low, high = bisect_left(firsts, start), bisect_left(lasts, end)
        return range(words[low], words[high - 1] + 1) if low < high else range(0)

    def cut_at(self, end: int) -> int:
        """Give the first piece of the word that goes on beyond `end`; `end` where none does."""
        _, firsts, lasts = self._seen
        place = bisect_left(lasts, end)
        return min(end, firsts[place]) if place < len(firsts) else end

    def pieces_in(self, window: Window) -> Iterator[tuple[int, list[int]]]:
        """Give the words that a window holds whole, with the places of their pieces in it."""
        # Before the first piece stands a special token.
        shift = 1 - window.first
        for word in window.words:
            yield word, [piece + shift for piece in self.pieces[word]]

    def over_pieces(
        self, window: Window, values: Sequence[Any], *, fill: float, all_pieces: bool = False
    ) -> list[Any]:
        """Give the tokens of a window what is learned of their words.

        Args:
            window: Of this sentence.
            values: Of each word.
            fill: What the other tokens have.
            all_pieces: All pieces of a word have its value; else the first alone.
        """
        found = [fill] * len(window.ids)
        for word, pieces in self.pieces_in(window):
            for piece in pieces if all_pieces else pieces[:1]:
                found[piece] = values[word]
        return found


@dataclass(frozen=True)
class Window:
    """A stretch of a sentence that is read at once.

    Args:
        sentence: Which sentence.
        first: Its first piece.
        ids: Its pieces, between special tokens.
        words: Words all of whose pieces it holds.
        counted: Those of them whose answer is taken from here: each word has one such window.
    """

    sentence: int
    first: int
    ids: list[int]
    words: range
    counted: range


def read_sentences(rows: Rows, tokenizer: Tokenizer) -> list[Sentence]:
    """Cut rows into words and pieces.

    Args:
        rows: With "words": a list of words, or a text, whose marks are words of their own.
        tokenizer: Cuts texts into pieces.
    """
    texts, words = [], []
    for row in rows:
        given = row["words"]
        if isinstance(given, str):
            texts.append(given)
            words.append(word_spans(given))
            continue
        texts.append(" ".join(given))
        ends = []
        for word in given:
            start = ends[-1][1] + 1 if ends else 0
            ends.append((start, start + len(word)))
        words.append(ends)
    return [
        Sentence(text, spans, item.ids, pieces_of_spans(spans, item.offsets))
        for text, spans, item in zip(texts, words, encode_bare(texts, tokenizer), strict=True)
    ]


def are_words(value: Any) -> bool:
    """Say whether a value is a list of words."""
    return isinstance(value, list) and all(isinstance(x, str) and x.strip() for x in value)


def cut_windows(
    sentences: Sequence[Sentence], tokenizer: Tokenizer, *, longest: int, overlap: int
) -> list[Window]:
    """Cut sentences into windows; one that fits is one window.

    Args:
        sentences: Any.
        tokenizer: Knows the special tokens.
        longest: Pieces of a window, special tokens included.
        overlap: Pieces that two neighboring windows share, at least.
    """
    room = longest - 2
    windows = []
    for number, sentence in enumerate(sentences):
        last = max(0, len(sentence.ids) - room)
        starts = [0]
        while starts[-1] < last:
            starts.append(min(_next_start(sentence, starts[-1], room, overlap), last))
        held = [(start, sentence.words_between(start, start + room)) for start in starts]
        # A window inside a word that is longer than it has nothing to say.
        held = [(start, words) for start, words in held if words or not last]
        for place, (start, words) in enumerate(held):
            # Of two windows that hold a word, each gives the half that is nearer to its middle.
            low = words.start if place == 0 else _middle(held[place - 1][1], words)
            high = words.stop
            if place < len(held) - 1:
                high = min(high, _middle(words, held[place + 1][1]))
            ids = [tokenizer.start_id, *sentence.ids[start : start + room], tokenizer.end_id]
            windows.append(Window(number, start, ids, words, range(low, max(low, high))))
    return windows


def _next_start(sentence: Sentence, start: int, room: int, overlap: int) -> int:
    """Begin the next window so that it holds the first word that this one holds a part of."""
    end = start + room
    cut = sentence.cut_at(end)
    return min(max(start + 1, end - overlap), cut if cut > start else end)


def seen_words(sentences: Sequence[Sentence], windows: Sequence[Window]) -> list[set[int]]:
    """Give the words of each sentence that a window holds whole."""
    seen: list[set[int]] = [set() for _ in sentences]
    for window in windows:
        seen[window.sentence].update(window.words)
    return seen


def count_unseen(sentences: Sequence[Sentence], windows: Sequence[Window]) -> int:
    """Count the words with pieces that no window holds whole."""
    return sum(
        bool(pieces) and word not in words
        for sentence, words in zip(sentences, seen_words(sentences, windows), strict=True)
        for word, pieces in enumerate(sentence.pieces)
    )


def _middle(before: range, after: range) -> int:
    """Give the word from which on the later of two windows answers."""
    if after.start >= before.stop:
        return after.start
    return (after.start + before.stop + 1) // 2
