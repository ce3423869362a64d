"""Corpora come as often as they are asked for, and always the same way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from headway.data.batch import Example
from headway.tasks._task import Encoded
from headway.train.mixture import mix


def corpus(first: int, count: int) -> Encoded:
    lengths = np.arange(count) + 2
    return Encoded(
        examples=[Example(i, [first + i] * (2 + i)) for i in range(count)],
        lengths=lengths[:, None],
        full_lengths={"text": lengths},
        limits={"text": 50},
        unknown={"text": 1},
    )


def tokens(encoded: Encoded) -> list[int]:
    return sorted(example.input_ids[0] for example in encoded.examples)


def test_whole_passes_take_every_example_as_often():
    found = mix([corpus(0, 3), corpus(100, 2)], [2, 1], seed=0)
    assert tokens(found) == [0, 0, 1, 1, 2, 2, 100, 101]
    # Of each copy its own number.
    assert [example.index for example in found.examples] == [0, 1, 2, 5, 6, 7, 3, 4]
    assert found.lengths[:, 0].tolist() == [len(e.input_ids) for e in found.examples]
    assert found.unknown == {"text": 2}


@pytest.mark.parametrize(("weight", "count"), [(0.5, 5), (1.3, 13), (0, 0)])
def test_a_part_of_a_pass_takes_a_part(weight, count):
    found = mix([corpus(0, 10), corpus(100, 1)], [weight, 1], seed=0)
    assert len(tokens(found)) == count + 1


def test_an_example_keeps_its_number():
    found = mix([corpus(0, 10), corpus(100, 3)], [0.5, 1], seed=0)
    for epoch in range(3):
        for example in found.at(epoch).examples:
            first = example.input_ids[0]
            assert example.index == (first if first < 100 else first - 90)


def test_epochs_take_other_parts_and_the_same_epoch_the_same():
    found = mix([corpus(0, 40)], [0.5], seed=3)
    assert tokens(found.at(1)) == tokens(found.at(1))
    assert tokens(found.at(0)) == tokens(found)
    assert tokens(found.at(1)) != tokens(found.at(2))
    assert tokens(mix([corpus(0, 40)], [0.5], seed=4)) != tokens(found)


@pytest.mark.parametrize(("weight", "count", "epochs"), [(0.25, 40, 4), (0.3, 7, 10), (1.5, 9, 2)])
def test_passes_see_every_example_equally_often(weight, count, epochs):
    found = mix([corpus(0, count), corpus(100, 3)], [weight, 1], seed=5)
    passes = round(weight * epochs)
    for cycle in range(3):
        seen = [
            token
            for epoch in range(cycle * epochs, (cycle + 1) * epochs)
            for token in tokens(found.at(epoch))
            if token < 100
        ]
        assert sorted(seen) == sorted([*range(count)] * passes)


def test_a_second_cycle_is_in_another_order():
    found = mix([corpus(0, 40)], [0.25], seed=5)
    assert tokens(found.at(0)) != tokens(found.at(4))
    # Nor does an epoch take what stands together.
    assert tokens(found.at(0)) != list(range(10))


def test_examples_of_other_numbers_in_each_epoch_are_seen_from_all_over():
    # As pairs are: another epoch makes more or fewer of them, in the order of the corpus.
    counts = [40, 44, 37, 42]

    def at(epoch: int) -> Encoded:
        return dataclasses.replace(corpus(0, counts[epoch]), plan=at, epoch=epoch)

    found = mix([at(0)], [0.25], seed=5)
    seen = [token / counts[epoch] for epoch in range(4) for token in tokens(found.at(epoch))]
    assert len(seen) == pytest.approx(40, abs=4)
    # Each fortieth of the corpus once: no large part is left out, none comes twice.
    assert np.diff(sorted(seen)).max() < 2.5 / 37
