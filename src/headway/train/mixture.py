"""Several corpora in one epoch, each as often as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from headway.data.batch import Example
from headway.data.order import generator
from headway.tasks._task import Encoded


def mix(parts: Sequence[Encoded], weights: Sequence[float], seed: int, epoch: int = 0) -> Encoded:
    """Put corpora together: in each epoch `weight` passes over each of them.

    A part of a pass goes on in each epoch where the last one ended, so that four epochs of a
    quarter see every example once; the whole is a pure function of the seed and the epoch.

    Args:
        parts: The corpora.
        weights: Passes over each of them in an epoch, from 0.
        seed: Of the run.
        epoch: Counted from 0.
    """
    current = [part.at(epoch) for part in parts]
    chosen = [
        _choose(
            len(part.examples),
            size=len(first.examples),
            weight=weight,
            seed=seed,
            epoch=epoch,
            number=number,
        )
        for number, (first, part, weight) in enumerate(zip(parts, current, weights, strict=True))
    ]
    sources = np.repeat(np.arange(len(parts)), [len(places) for places in chosen])
    places = np.concatenate(chosen)
    whole = current[0]
    pairs = list(zip(current, chosen, strict=True))
    return Encoded(
        examples=_Mixture([part.examples for part in current], sources, places),
        lengths=np.concatenate([part.lengths[where] for part, where in pairs]),
        full_lengths={
            side: np.concatenate([part.full_lengths[side][where] for part, where in pairs])
            for side in whole.full_lengths
        },
        limits=whole.limits,
        unknown={side: sum(part.unknown[side] for part in current) for side in whole.unknown},
        plan=partial(mix, parts, weights, seed),
        epoch=epoch,
        alike_from=max(part.alike_from for part in current),
    )


def _choose(
    count: int, *, size: int, weight: float, seed: int, epoch: int, number: int
) -> np.ndarray:
    """Take every example as often as whole passes say, and the next part of a pass.

    Parts are cut from one order after the other, each of a whole pass: all examples are seen
    before one comes again.

    Args:
        count: Examples of this epoch.
        size: Examples of the first epoch. Where there are others now, as with pairs, those are
            taken that come from the same stretches of the corpus.
        weight: Passes in an epoch.
        seed: Of the run.
        epoch: Counted from 0.
        number: Of the corpus.
    """
    whole = int(weight)
    place, end = (round((weight - whole) * size * turn) for turn in (epoch, epoch + 1))
    chosen = [np.tile(np.arange(count), whole)]
    while place < end:
        cycle, first = divmod(place, size)
        last = min(first + end - place, size)
        order = generator(seed, cycle, 4, number).permutation(size)
        is_chosen = np.zeros(size, dtype=bool)
        is_chosen[order[first:last]] = True
        chosen.append(np.flatnonzero(is_chosen[np.arange(count) * size // count]))
        place += last - first
    return np.concatenate(chosen)


class _Mixture(Sequence[Example]):
    """Examples of several corpora, numbered one corpus after the other.

    A number stays with its example from epoch to epoch, so that static masks do; another copy in
    the same epoch has another number.
    """

    def __init__(
        self, parts: Sequence[Sequence[Example]], sources: np.ndarray, places: np.ndarray
    ) -> None:
        self.parts, self.sources, self.places = parts, sources, places
        sizes = np.array([len(part) for part in parts])
        total = int(sizes.sum())
        plain = np.concatenate([[0], sizes.cumsum()])[sources] + places
        order = np.argsort(plain, kind="stable")
        ranked = plain[order]
        copies = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
        self.numbers = np.empty_like(plain)
        self.numbers[order] = ranked + copies * total

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index):
        example = self.parts[int(self.sources[index])][int(self.places[index])]
        return replace(example, index=int(self.numbers[index]))
