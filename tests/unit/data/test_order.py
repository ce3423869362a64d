"""The order of examples is a pure function of integers, complete and within its budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.order import (
    generator,
    inference_batches,
    plan_epoch,
    share,
    split_micro_batches,
)
from headway.errors import ConfigError

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=60)


def as_array(lengths) -> np.ndarray:
    return np.array(lengths, dtype=np.int64)


@given(lengths=LENGTHS, seed=st.integers(0, 99), epoch=st.integers(0, 9), by_length=st.booleans())
def test_every_example_appears_exactly_once_in_an_epoch(lengths, seed, epoch, by_length):
    plan = plan_epoch(
        as_array(lengths), seed=seed, epoch=epoch, batch_tokens=90, by_length=by_length
    )
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_a_step_keeps_to_its_tokens_unless_one_example_is_larger(lengths, budget):
    array = as_array(lengths)
    for step in plan_epoch(array, seed=0, epoch=0, batch_tokens=budget):
        assert array[step].sum() <= budget or len(step) == 1


@given(lengths=LENGTHS, rows=st.integers(1, 20))
def test_a_step_has_the_rows_asked_for(lengths, rows):
    plan = plan_epoch(as_array(lengths), seed=0, epoch=0, batch_rows=rows)
    assert sorted(len(step) for step in plan)[-1] <= rows
    assert sum(len(step) < rows for step in plan) <= 1


@given(lengths=LENGTHS, seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_the_same_integers_give_the_same_plan(lengths, seed, epoch):
    def plan():
        return plan_epoch(as_array(lengths), seed=seed, epoch=epoch, batch_tokens=100)

    assert all(np.array_equal(a, b) for a, b in zip(plan(), plan(), strict=True))


def test_epochs_and_seeds_differ():
    lengths = generator(1).integers(3, 30, size=(200, 2))

    def first(seed: int, epoch: int) -> list[int]:
        plan = plan_epoch(lengths, seed=seed, epoch=epoch, batch_tokens=300)
        return np.concatenate(plan).tolist()

    assert first(0, 0) != first(0, 1)
    assert first(0, 0) != first(1, 0)


def test_batches_by_length_leave_little_padding():
    # Source and target of a pair are of like length.
    sources = generator(1).integers(3, 60, size=2000)
    lengths = np.stack([sources, sources + generator(2).integers(0, 5, size=2000)], axis=1)

    def padding(by_length: bool) -> float:
        plan = plan_epoch(lengths, seed=0, epoch=0, batch_tokens=3000, by_length=by_length)
        cells = sum(len(step) * lengths[step].max(0).sum() for step in plan)
        return 1 - lengths.sum() / cells

    assert padding(True) < 0.3 * padding(False)


@pytest.mark.parametrize("given_", [{}, {"batch_tokens": 10, "batch_rows": 3}])
def test_exactly_one_budget_is_given(given_):
    with pytest.raises(ConfigError, match="exactly one"):
        plan_epoch(as_array([(1, 1)]), seed=0, epoch=0, **given_)


@given(lengths=LENGTHS, cells=st.integers(1, 400))
def test_micro_batches_divide_a_step_within_their_cells(lengths, cells):
    array = as_array(lengths)
    step = np.arange(len(lengths))
    parts = split_micro_batches(step, array, micro_batch_tokens=cells)
    assert sorted(np.concatenate(parts).tolist()) == step.tolist()
    for part in parts:
        assert len(part) * array[part].max(0).sum() <= cells or len(part) == 1


@given(size=st.integers(1, 50), world=st.integers(1, 5))
def test_ranks_share_a_step_without_overlap(size, world):
    step = np.arange(size)
    parts = [share(step, rank=rank, world_size=world) for rank in range(world)]
    assert sorted(np.concatenate(parts).tolist()) == step.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(lengths=st.lists(st.integers(1, 80), max_size=60), rows=st.integers(1, 9))
def test_prediction_batches_cover_every_row_once(lengths, rows):
    batches = inference_batches(lengths, batch_tokens=200, batch_rows=rows)
    covered = [index for batch in batches for index in batch.tolist()]
    assert sorted(covered) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) * max(lengths[i] for i in batch) <= 200 or len(batch) == 1
