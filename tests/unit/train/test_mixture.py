"""Corpora come as often as they are asked for, and always the same way."""

from __future__ import annotations

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
