"""Ancestry and the cache of keys and values: who descends from whom, and what was written."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.layers.cache import Ancestry, KeyValueCache


def make(
    rows: int, beams: int, steps: int, *, like: torch.Tensor | None = None, prompt=None
) -> Ancestry:
    """Make the ancestry of searches that start from nothing, or from a prompt."""
    prompt = torch.zeros(rows, 0, dtype=torch.bool) if prompt is None else prompt
    like = torch.empty(0) if like is None else like
    return Ancestry(prompt, num_beams=beams, max_steps=steps, like=like)


def open_slots(ancestry: Ancestry) -> list[list[set[int]]]:
    """Slots that each beam of each row may look at."""
    if ancestry.bias is None:
        return [[set(range(ancestry.num_slots))] for _ in ancestry.lengths]
    bias = ancestry.bias[:, 0]
    return [[set((beam == 0).nonzero().flatten().tolist()) for beam in row] for row in bias]


def test_before_the_first_step_there_is_no_slot():
    assert make(2, 3, 4).bias.shape == (2, 1, 3, 0)


def test_a_new_token_is_seen_by_its_own_beam_only():
    ancestry = make(1, 3, 4)
    ancestry.advance()
    assert open_slots(ancestry) == [[{0}, {1}, {2}]]


def test_a_beam_without_reordering_sees_all_its_own_tokens():
    ancestry = make(1, 2, 4)
    for _ in range(3):
        ancestry.advance()
    assert open_slots(ancestry) == [[{0, 2, 4}, {1, 3, 5}]]


@pytest.mark.parametrize(
    ("model", "bias"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_bias_is_zero_or_minus_infinity_in_single_precision_at_least(model, bias):
    ancestry = make(1, 2, 4, like=torch.empty(0, dtype=model))
    ancestry.advance()
    assert ancestry.bias.dtype == bias
    assert set(ancestry.bias.flatten().tolist()) == {0.0, -torch.inf}


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_beam_sees_the_slots_of_its_ancestors_after_any_forks_and_drops(data):
    rows, beams = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    steps = data.draw(st.integers(1, 5))
    ancestry = make(rows, beams, steps)
    ancestors: list[list[set[int]]] = [[set() for _ in range(beams)] for _ in range(rows)]
    for step in range(steps):
        ancestry.advance()
        ancestors = [
            [slots | {step * beams + beam} for beam, slots in enumerate(row)] for row in ancestors
        ]
        assert ancestry.num_slots == (step + 1) * beams
        assert open_slots(ancestry) == ancestors
        one_row = st.lists(st.integers(0, beams - 1), min_size=beams, max_size=beams)
        parents = data.draw(st.lists(one_row, min_size=rows, max_size=rows))
        ancestry.reorder(torch.tensor(parents))
        ancestors = [[row[parent] for parent in parents[n]] for n, row in enumerate(ancestors)]
        kept = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=3, unique=True))
        ancestry.keep(torch.tensor(kept))
        ancestors, rows = [ancestors[row] for row in kept], len(kept)
        assert open_slots(ancestry) == ancestors


def test_the_cache_gives_everything_written_so_far_newest_last():
    ancestry = make(2, 3, 4)
    cache = KeyValueCache(ancestry)
    written = []
    for _ in range(4):
        ancestry.advance()
        written.append((torch.randn(2, 5, 3, 6), torch.randn(2, 5, 3, 6)))
        key, value = cache.append(*written[-1])
    assert torch.equal(key, torch.cat([one for one, _ in written], dim=2))
    assert torch.equal(value, torch.cat([other for _, other in written], dim=2))


def test_keeping_rows_of_the_cache_keeps_their_keys_and_values():
    ancestry = make(3, 1, 2)
    cache = KeyValueCache(ancestry)
    ancestry.advance()
    first = torch.randn(3, 2, 1, 4)
    cache.append(first, -first)
    kept = torch.tensor([2, 0])
    ancestry.keep(kept)
    cache.keep(kept)
    ancestry.advance()
    key, value = cache.append(torch.zeros(2, 2, 1, 4), torch.zeros(2, 2, 1, 4))
    assert torch.equal(key[:, :, :1], first[kept])
    assert torch.equal(value[:, :, :1], -first[kept])


def test_rows_can_be_dropped_before_anything_was_written():
    ancestry = make(3, 2, 2)
    cache = KeyValueCache(ancestry)
    ancestry.keep(torch.tensor([1]))
    cache.keep(torch.tensor([1]))
    ancestry.advance()
    key, _ = cache.append(torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3))
    assert key.shape == (1, 1, 2, 3)


def test_layers_share_an_ancestry_and_each_keeps_its_own_keys():
    ancestry = make(1, 2, 3)
    caches = [KeyValueCache(ancestry) for _ in range(2)]
    ancestry.advance()
    first, _ = caches[0].append(torch.full((1, 1, 2, 3), 1.0), torch.zeros(1, 1, 2, 3))
    second, _ = caches[1].append(torch.full((1, 1, 2, 3), 2.0), torch.zeros(1, 1, 2, 3))
    assert first.unique().tolist() == [1.0]
    assert second.unique().tolist() == [2.0]


def test_a_prompt_is_open_to_all_beams_but_its_padding_is_not():
    ancestry = make(2, 2, 3, prompt=torch.tensor([[True, True, True], [True, False, False]]))
    ancestry.advance()
    assert open_slots(ancestry) == [[{0, 1, 2, 3}, {0, 1, 2, 4}], [{0, 3}, {0, 4}]]
    ancestry.reorder(torch.tensor([[1, 1], [0, 0]]))
    ancestry.advance()
    assert open_slots(ancestry) == [[{0, 1, 2, 4, 5}, {0, 1, 2, 4, 6}], [{0, 3, 5}, {0, 3, 6}]]


def test_every_slot_knows_its_place_in_the_text():
    ancestry = make(2, 2, 2, prompt=torch.tensor([[True, True, True], [True, False, False]]))
    ancestry.advance()
    ancestry.advance()
    assert ancestry.positions.tolist() == [[0, 1, 2, 3, 3, 4, 4], [0, 1, 2, 1, 1, 2, 2]]
    assert ancestry.newest_positions.tolist() == [[4], [2]]
    ancestry.keep(torch.tensor([1]))
    assert ancestry.newest_positions.tolist() == [[2]]


def test_one_beam_behind_whole_prompts_needs_no_bias():
    assert make(2, 1, 3, prompt=torch.ones(2, 4, dtype=torch.bool)).bias is None
    assert make(2, 1, 3, prompt=torch.tensor([[True, True], [True, False]])).bias is not None
