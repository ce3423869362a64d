"""Which stretches of a corpus make an example: single texts, next sentences, sentence order.

A plan is an array of token ranges in a store, so it costs a few bytes an example; it is a pure
function of the store, the seed and the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headway.data.order import generator
from headway.data.store import Store

# Chance that an example is made shorter than it could be, as published: pretraining then sees
# short inputs too, and fine-tuning is no surprise.
_SHORT_RATIO = 0.1
# Draws of a second text before one that follows by accident would be taken.
_DRAWS = 20

PAIRS = ("none", "next-sentence", "sentence-order")


@dataclass(frozen=True)
class Plan:
    """Examples as token ranges of a store.

    Args:
        ranges: (N, 4) int64. First text [0]:[1], second text [2]:[3]; equal where there is none.
        labels: (N) int64. 0 where the second text follows (or both are in order), else 1.
    """

    ranges: np.ndarray
    labels: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Count the tokens of each example, special tokens left out."""
        return self.ranges[:, 1] - self.ranges[:, 0] + self.ranges[:, 3] - self.ranges[:, 2]


def plan_texts(store: Store, *, budget: int) -> Plan:
    """Fill examples with whole segments of one document; longer segments are cut.

    Args:
        store: The corpus.
        budget: Tokens of an example, special tokens left out.
    Paper: Liu et al. 2019 (arXiv 1907.11692), section 4.2, DOC-SENTENCES.
    """
    ranges = []
    if budget < 1:
        return Plan(np.zeros((0, 4), np.int64), np.zeros(0, np.int64))
    segments, documents = np.asarray(store.segments), np.asarray(store.documents)
    for document in range(store.num_documents):
        first, last = documents[document], documents[document + 1]
        start = segments[first]
        for number in range(first, last):
            end = segments[number + 1]
            if end - start > budget and segments[number] > start:
                ranges.append((start, segments[number]))
                start = segments[number]
            while end - start > budget:
                ranges.append((start, start + budget))
                start += budget
        if segments[last] > start:
            ranges.append((start, segments[last]))
    whole = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    ends = whole[:, 1:]
    return Plan(np.concatenate([whole, ends, ends], axis=1), np.zeros(len(whole), np.int64))


def plan_pairs(store: Store, *, budget: int, kind: str, seed: int, epoch: int) -> Plan:
    """Make pairs of texts, half of them as they follow each other.

    next-sentence: the other half takes its second text from another document.
    sentence-order: the other half has the two texts swapped.

    Args:
        store: The corpus.
        budget: Tokens of both texts, special tokens left out.
        kind: "next-sentence" or "sentence-order".
        seed: Of the run.
        epoch: Another epoch makes other pairs.
    Paper: Devlin et al. 2019 (arXiv 1810.04805), appendix A.2, and the authors'
        create_pretraining_data.py; Lan et al. 2020 (arXiv 1909.11942), section 3.1.
    Differs: a false second text is as long as the true one would have been, where the authors'
        code fills the example up, so that the ends of documents are told by their length; a
        second text that happens to equal what follows is drawn again; segments longer than
        half an example are cut into pieces, so that nothing of them is lost; a document of one
        segment is cut in two, where the authors' code always makes it a false pair.
    """
    maker = _PairMaker(store, budget, kind, generator(seed, epoch, 2))
    for document in range(len(maker.documents) - 1):
        maker.add_document(document)
    ranges = np.array(maker.ranges, dtype=np.int64).reshape(-1, 4)
    return Plan(ranges, np.array(maker.labels, dtype=np.int64))


def _cut_long(starts: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut long segments into pieces of about the same length.

    Args:
        starts: (S + 1) int64. Where each segment begins, and the end of the last.
        longest: Tokens of a piece.
    Returns:
        pieces: (P + 1) int64. Where each piece begins, and the end of the last.
        places: (S + 1) int64. The piece that each segment begins with.
    """
    lengths = np.diff(starts)
    counts = np.maximum(1, -(-lengths // longest))
    places = np.concatenate([[0], counts.cumsum()])
    number = np.arange(places[-1]) - np.repeat(places[:-1], counts)
    begins = np.repeat(starts[:-1], counts) + np.repeat(lengths, counts) * number // np.repeat(
        counts, counts
    )
    return np.append(begins, starts[-1]), places


class _PairMaker:
    """Walks through a corpus and cuts it into pairs."""

    def __init__(self, store: Store, budget: int, kind: str, random: np.random.Generator) -> None:
        self.store, self.budget, self.kind, self.random = store, budget, kind, random
        # Segments of no token, of a script that the vocabulary lacks, are left out.
        starts = np.unique(store.segments)
        documents = np.searchsorted(starts, np.asarray(store.segments)[store.documents])
        pieces, places = _cut_long(starts, max(1, budget // 2))
        self.segments: list[int] = pieces.tolist()
        self.documents: list[int] = np.unique(places[documents]).tolist()
        self.ranges: list[tuple[int, int, int, int]] = []
        self.labels: list[int] = []

    def add_document(self, document: int) -> None:
        """Cut a document into chunks of about the length wanted, and each chunk into a pair."""
        first, last = self.documents[document], self.documents[document + 1]
        target = self._draw_length()
        start = first
        number = first
        while number < last:
            number += 1
            if number < last and self.segments[number] - self.segments[start] < target:
                continue
            # Segments whose place a foreign text took are used again.
            start = number = self._add_chunk(document, start, number, target)
            target = self._draw_length()

    def _draw_length(self) -> int:
        if self.random.random() < _SHORT_RATIO:
            return int(self.random.integers(2, max(3, self.budget + 1)))
        return self.budget

    def _add_chunk(self, document: int, start: int, end: int, target: int) -> int:
        """Make a pair of segments start to end; give the first segment that is still unused."""
        tokens = self.segments
        middle = start + 1
        if end - start > 2:
            middle = start + int(self.random.integers(1, end - start))
        # A document of one segment has two halves.
        is_single = end - start == 1
        cut = (tokens[start] + tokens[end]) // 2 if is_single else tokens[middle]
        # What really follows: the rest of that segment, or the segment that begins there.
        truth = (cut, tokens[end] if is_single else tokens[middle + 1])
        is_true = bool(self.random.random() < 0.5)
        if self.kind == "sentence-order":
            self._add((tokens[start], cut), (cut, tokens[end]), swapped=not is_true)
            return end
        if not is_true:
            # A chunk that filled the example grew until it did; the last of a document is as long
            # as it is, and so shall be what takes its place.
            is_full = not is_single and tokens[end] - tokens[start] >= target
            wanted = target - (cut - tokens[start]) if is_full else tokens[end] - cut
            other = self._draw_other(document, middle, truth, wanted, is_single, is_full)
            if other is not None:
                self._add((tokens[start], cut), other, label=1)
                return middle
        self._add((tokens[start], cut), (cut, tokens[end]), label=0)
        return end

    def _draw_other(
        self,
        document: int,
        following: int,
        truth: tuple[int, int],
        wanted: int,
        halved: bool,
        is_full: bool,
    ) -> tuple[int, int] | None:
        """Draw a text from another document that is not what follows; None if there is none.

        It has whole segments, as a true one has: enough of them to reach the length wanted where
        the example is full, else as many as come closest, so that lengths and ends say little. A
        corpus of one document gives one from elsewhere in it.
        """
        tokens, documents = self.segments, self.documents
        for _ in range(_DRAWS):
            other = document
            if len(documents) > 2:
                other = int(self.random.integers(len(documents) - 2))
                other += other >= document
            number = int(self.random.integers(documents[other], documents[other + 1]))
            if other == document and abs(number - following) < 2:
                continue
            start, end = tokens[number], tokens[number + 1]
            if halved:
                # As long as the other half, and as far into its segment.
                if end - start < wanted:
                    continue
                start = end - wanted
            else:
                end = self._reach(number, documents[other + 1], wanted, is_full)
            if end > start and not self._is_alike((start, end), truth):
                return start, end
        return None

    def _reach(self, first: int, last: int, wanted: int, is_full: bool) -> int:
        """Give the end of the segments from `first` on that have about the length wanted."""
        tokens, number = self.segments, first + 1
        while number < last:
            # What is reached with this segment, and whether the next would come closer.
            half = 0 if is_full else (tokens[number + 1] - tokens[number]) // 2
            if tokens[number] - tokens[first] + half >= wanted:
                break
            number += 1
        return tokens[number]

    def _is_alike(self, drawn: tuple[int, int], truth: tuple[int, int]) -> bool:
        """Say whether a drawn text begins as what really follows."""
        count = min(drawn[1] - drawn[0], truth[1] - truth[0])
        ids = self.store.ids
        found, real = ids[drawn[0] : drawn[0] + count], ids[truth[0] : truth[0] + count]
        return count > 0 and bool((found == real).all())

    def _add(
        self, a: tuple[int, int], b: tuple[int, int], *, label: int = 0, swapped: bool = False
    ) -> None:
        a, b = self._shorten(a, b)
        if a[0] == a[1] or b[0] == b[1]:
            return
        self.ranges.append((*b, *a) if swapped else (*a, *b))
        self.labels.append(1 if swapped else label)

    def _shorten(self, a: tuple[int, int], b: tuple[int, int]) -> tuple[tuple, tuple]:
        """Cut the longer text, at its front or its end by chance, until both fit."""
        (a_start, a_end), (b_start, b_end) = a, b
        surplus = (a_end - a_start) + (b_end - b_start) - self.budget
        if surplus <= 0:
            return a, b
        # First what the longer one has more, then from both alike.
        gap = abs((a_end - a_start) - (b_end - b_start))
        from_long = min(gap, surplus)
        rest = surplus - from_long
        if a_end - a_start >= b_end - b_start:
            cut_a, cut_b = from_long + (rest + 1) // 2, rest // 2
        else:
            cut_a, cut_b = rest // 2, from_long + (rest + 1) // 2
        front_a, front_b = (int(self.random.binomial(cut, 0.5)) for cut in (cut_a, cut_b))
        return (
            (a_start + front_a, a_end - (cut_a - front_a)),
            (b_start + front_b, b_end - (cut_b - front_b)),
        )
