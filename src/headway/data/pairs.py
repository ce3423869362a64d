"""Which stretches of a corpus make an example: single texts, next sentences, sentence order.

A plan is an array of token ranges in a store, so it costs a few bytes an example; it is a pure
function of the store, the seed and the epoch. Pairs are drawn block by block: what one block draws
does not depend on the blocks before it, and the corpus stays in its files.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headway.data.order import generator
from headway.data.store import Store

# Chance that an example is made shorter than it could be, as published: pretraining then sees
# short inputs too, and fine-tuning is no surprise.
_SHORT_RATIO = 0.1
# Draws of a second text before one that follows by accident would be taken.
_DRAWS = 20
# Pieces planned at once, each block with chances of its own: only their places are in memory.
_BLOCK_PIECES = 1 << 16
_SEGMENTS_AT_ONCE = 1 << 18
_CHANCES_AT_ONCE = 1 << 12

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
    ranges = array("q")
    segments, documents = store.segments.data, store.documents.data
    for first, last in pairwise(documents if budget > 0 else ()):
        start, number = segments[first], first
        while start < segments[last]:
            # The last segment that ends within the budget; none does where the next is longer.
            number = bisect_right(segments, start + budget, number, last + 1) - 1
            end = segments[number]
            if end <= start:
                end = start + budget
            ranges.extend((start, end, end, end))
            start = end
    return Plan(_rows_of(ranges), np.zeros(len(ranges) // 4, np.int64))


def _rows_of(ranges: array) -> np.ndarray:
    """Give numbers collected four by four as rows, without a copy."""
    return np.asarray(ranges).reshape(-1, 4)


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
    maker = _PairMaker(store, budget=budget, kind=kind)
    for number, (first, last) in enumerate(maker.blocks()):
        maker.add_block(first, last, random=generator(seed, epoch, 2, number))
    return Plan(_rows_of(maker.ranges), np.asarray(maker.labels))


class _Pieces:
    """Where the pieces of a corpus begin: its segments, long ones cut into about equal pieces.

    Pieces are numbered through the whole corpus. Only segments that are not one piece each are
    kept in memory; of the others a piece's number tells the segment.

    Args:
        store: The corpus.
        longest: Tokens of a piece.
    """

    def __init__(self, store: Store, *, longest: int) -> None:
        self.array = store.segments
        self.segments = self.array.data
        # Segments of several pieces or, being empty, of none; before them one that is neither.
        odd, counts = [np.array([-1])], [np.array([1])]
        for first in range(0, store.num_segments, _SEGMENTS_AT_ONCE):
            lengths = np.diff(self.array[first : first + _SEGMENTS_AT_ONCE + 1])
            found = -(-lengths // longest)
            places = np.flatnonzero(found != 1)
            odd.append(places + first)
            counts.append(found[places])
        self.odd_array, self.counts_array = np.concatenate(odd), np.concatenate(counts)
        # By how much the number of a piece behind it is larger than that of its segment.
        self.shift_array = (self.counts_array - 1).cumsum()
        self.begin_array = self.odd_array + self.shift_array - self.counts_array + 1
        self.odd, self.counts = self.odd_array.data, self.counts_array.data
        self.shifts, self.begins = self.shift_array.data, self.begin_array.data

    def first_of(self, segment: int) -> int:
        """Give the piece that a segment begins with, or the next one that there is."""
        return segment + self.shifts[bisect_left(self.odd, segment) - 1] if segment else 0

    def segment_of(self, piece: int) -> int:
        """Give the segment that a piece is of."""
        place = bisect_right(self.begins, piece) - 1
        return max(piece - self.shifts[place], self.odd[place])

    def start(self, piece: int) -> int:
        """Give the token that a piece begins with; the end of the corpus behind the last."""
        place = bisect_right(self.begins, piece) - 1
        segment = piece - self.shifts[place]
        if segment > self.odd[place]:
            return self.segments[segment]
        segment, inside = self.odd[place], piece - self.begins[place]
        start, end = self.segments[segment], self.segments[segment + 1]
        return start + (end - start) * inside // self.counts[place]

    def starts(self, first: int, last: int) -> list[int]:
        """Give the tokens that pieces begin with, from `first` to `last` itself."""
        pieces = np.arange(first, last + 1)
        place = np.searchsorted(self.begin_array, pieces, side="right") - 1
        segment = np.maximum(pieces - self.shift_array[place], self.odd_array[place])
        starts = self.array[segment]
        cut = np.flatnonzero(segment == self.odd_array[place])
        place, segment = place[cut], segment[cut]
        lengths = self.array[segment + 1] - starts[cut]
        inside = pieces[cut] - self.begin_array[place]
        starts[cut] += lengths * inside // self.counts_array[place]
        return starts.tolist()


class _PairMaker:
    """Walks through a corpus block by block and cuts it into pairs."""

    def __init__(self, store: Store, *, budget: int, kind: str) -> None:
        self.budget, self.kind = budget, kind
        self.ids, self.tokens = np.asarray(store.ids), store.ids.data
        self.pieces = _Pieces(store, longest=max(1, budget // 2))
        documents = np.asarray(store.documents)
        # Documents of no token, of a script that the vocabulary lacks, are left out.
        is_filled = np.diff(store.segments[documents]) > 0
        if not is_filled.all():
            documents = np.append(documents[:-1][is_filled], documents[-1])
        self.documents = documents.data
        self.ranges, self.labels = array("q"), array("q")

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Cut the corpus into blocks of whole documents; one longer than a block is cut.

        Returns:
            blocks: First piece, and the one behind the last.
        """
        start, total = 0, self._bounds_of(len(self.documents) - 1)
        while start < total:
            end = min(start + _BLOCK_PIECES, total)
            if end < total:
                at_document = self._bounds_of(self._document_of(end))
                end = at_document if at_document > start else end
            yield start, end
            start = end

    def _bounds_of(self, document: int) -> int:
        """Give the piece that a document begins with."""
        return self.pieces.first_of(self.documents[document])

    def _document_of(self, piece: int) -> int:
        return bisect_right(self.documents, self.pieces.segment_of(piece)) - 1

    def add_block(self, first: int, last: int, *, random: np.random.Generator) -> None:
        """Cut the documents of a block, pieces `first` to `last`, into pairs."""
        self.random, self.chances = random, _chances(random)
        self.base, self.starts = first, self.pieces.starts(first, last)
        document, start = self._document_of(first), first
        while start < last:
            end = min(self._bounds_of(document + 1), last)
            self._add_document(document, start - first, end - first)
            document, start = document + 1, end

    def _add_document(self, document: int, start: int, last: int) -> None:
        """Cut a document into chunks of about the length wanted, and each chunk into a pair."""
        tokens = self.starts
        while start < last:
            target = self._draw_length()
            end = min(bisect_left(tokens, tokens[start] + target, start + 1, last), last)
            # Segments whose place a foreign text took are used again.
            start = self._add_chunk(document, start, end, target)

    def _below(self, count: int) -> int:
        """Draw a number from 0 to `count` - 1."""
        return int(next(self.chances) * count)

    def _draw_length(self) -> int:
        if next(self.chances) < _SHORT_RATIO:
            return 2 + self._below(max(1, self.budget - 1))
        return self.budget

    def _add_chunk(self, document: int, start: int, end: int, target: int) -> int:
        """Make a pair of pieces start to end; give the first piece that is still unused."""
        tokens = self.starts
        middle = start + 1
        if end - start > 2:
            middle += self._below(end - start - 1)
        # A document of one segment has two halves.
        is_single = end - start == 1
        cut = (tokens[start] + tokens[end]) // 2 if is_single else tokens[middle]
        is_true = next(self.chances) < 0.5
        if self.kind == "sentence-order":
            self._add((tokens[start], cut), (cut, tokens[end]), swapped=not is_true)
            return end
        if not is_true:
            # A chunk that filled the example grew until it did; the last of a document is as long
            # as it is, and so shall be what takes its place.
            is_full = not is_single and tokens[end] - tokens[start] >= target
            other = self._draw_other(
                document,
                following=self.base + middle,
                # What really follows: the rest of that piece, or the piece that begins there.
                truth=(cut, tokens[end] if is_single else tokens[middle + 1]),
                wanted=target - (cut - tokens[start]) if is_full else tokens[end] - cut,
                is_half=is_single,
                is_full=is_full,
            )
            if other is not None:
                self._add((tokens[start], cut), other, label=1)
                return middle
        self._add((tokens[start], cut), (cut, tokens[end]), label=0)
        return end

    def _draw_other(
        self,
        document: int,
        *,
        following: int,
        truth: tuple[int, int],
        wanted: int,
        is_half: bool,
        is_full: bool,
    ) -> tuple[int, int] | None:
        """Draw a text from another document that is not what follows; None if there is none.

        It has whole pieces, as a true one has: enough of them to reach the length wanted where
        the example is full, else as many as come closest, so that lengths and ends say little. A
        corpus of one document gives one from elsewhere in it.

        Args:
            document: The one of the first text.
            following: The piece that really follows.
            truth: Its tokens.
            wanted: Tokens that the text shall have.
            is_half: It takes the place of half a segment.
            is_full: The example shall be as long as was wanted.
        """
        count = len(self.documents) - 1
        for _ in range(_DRAWS):
            other = document
            if count > 1:
                other = self._below(count - 1)
                other += other >= document
            first, last = self._bounds_of(other), self._bounds_of(other + 1)
            number = first + self._below(last - first)
            if other == document and abs(number - following) < 2:
                continue
            start = self.pieces.start(number)
            if is_half:
                # As long as the other half, and as far into its segment.
                end = self.pieces.start(number + 1)
                if end - start < wanted:
                    continue
                start = end - wanted
            else:
                end = self._reach(number, last, wanted=wanted, is_full=is_full)
            if end > start and not self._is_alike((start, end), truth):
                return start, end
        return None

    def _reach(self, first: int, last: int, *, wanted: int, is_full: bool) -> int:
        """Give the end of the pieces from `first` on that have about the length wanted."""
        start_of = self.pieces.start
        goal = start_of(first) + wanted
        end, number = start_of(first + 1), first + 1
        while number < last and end < goal:
            longer = start_of(number + 1)
            # What is reached with this piece, and whether the next would come closer.
            if not is_full and end + (longer - end) // 2 >= goal:
                break
            end, number = longer, number + 1
        return end

    def _is_alike(self, drawn: tuple[int, int], truth: tuple[int, int]) -> bool:
        """Say whether a drawn text begins as what really follows."""
        if self.tokens[drawn[0]] != self.tokens[truth[0]]:
            return False
        count = min(drawn[1] - drawn[0], truth[1] - truth[0])
        ids = self.ids
        found, real = ids[drawn[0] : drawn[0] + count], ids[truth[0] : truth[0] + count]
        return bool((found == real).all())

    def _add(
        self, a: tuple[int, int], b: tuple[int, int], *, label: int = 0, swapped: bool = False
    ) -> None:
        a, b = self._shorten(a, b)
        if a[0] == a[1] or b[0] == b[1]:
            return
        self.ranges.extend((*b, *a) if swapped else (*a, *b))
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


def _chances(random: np.random.Generator) -> Iterator[float]:
    """Give numbers from 0 to 1, drawn many at once, which is a tenth of the time."""
    while True:
        yield from random.random(_CHANCES_AT_ONCE).tolist()
