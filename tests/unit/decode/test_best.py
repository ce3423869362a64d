"""The best few of many tokens, against torch's own selection."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headway.decode.best import best_tokens, blocked_topk


@given(
    size=st.integers(2048, 5000),
    count=st.integers(1, 40),
    levels=st.sampled_from([3, 50, 10_000_000]),
    seed=st.integers(0, 1000),
)
def test_blocks_find_what_topk_finds(size, count, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    # Few levels make many ties.
    values = torch.randint(levels, (2, 3, size), generator=generator).float()
    best, places = blocked_topk(values, count)
    assert torch.equal(best, values.topk(count, dim=-1).values)
    assert torch.equal(values.gather(-1, places), best)
    assert all(len(set(row.tolist())) == count for row in places.flatten(0, 1))


@pytest.mark.parametrize("place", [0, 63, 64, 4031, 4032, 4099])
def test_the_edges_of_blocks_are_looked_at(place):
    values = torch.zeros(1, 1, 4100)
    values[..., place] = 1.0
    assert blocked_topk(values, 2)[1][0, 0, 0] == place


def test_what_is_impossible_stays_so():
    values = torch.full((1, 2, 4096), -torch.inf)
    values[0, 0, 7] = 0.0
    best, places = blocked_topk(values, 3)
    assert best[0].tolist() == [[0.0, -torch.inf, -torch.inf], [-torch.inf] * 3]
    assert places[0, 0, 0] == 7


@pytest.mark.parametrize("size", [7, 3000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_log_probabilities_are_those_of_the_softmax(size, dtype):
    logits = torch.randn(2, 3, size, dtype=dtype)
    exact = logits.to(torch.promote_types(dtype, torch.float32)).log_softmax(-1)
    log_probs, tokens = best_tokens(logits, 5)
    assert log_probs.dtype == exact.dtype
    assert torch.equal(log_probs, exact.topk(5, dim=-1).values)
    assert torch.equal(exact.gather(-1, tokens), log_probs)


def test_a_forbidden_token_scales_nothing_up():
    logits = torch.tensor([[[0.0, 0.0]]])
    log_probs, tokens = best_tokens(logits, 2, forbidden=[0])
    assert tokens[0, 0, 0] == 1
    assert log_probs[0, 0].tolist() == pytest.approx([-0.6931472, -torch.inf])
    assert logits.tolist() == [[[0.0, 0.0]]]
