"""Multi-head attention: torch's own layer, whole sequences, and one step of a beam at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headway.layers.attention import (
    CrossAttention,
    ScaledDotProduct,
    SelfAttention,
    projections,
)
from headway.layers.cache import Ancestry, KeyValueCache
from headway.layers.masks import causal_mask
from headway.layers.sight import Sight

WIDTH, HEADS = 8, 2
# With gradients a CPU takes plain products, without them the fused kernel: both must be right.
PATHS = pytest.mark.parametrize("with_grad", [True, False], ids=["training", "inference"])


def pair(kind: type = CrossAttention) -> tuple[Any, nn.MultiheadAttention]:
    """Our layer and torch's, in float64, with the same weights."""
    torch.manual_seed(0)
    ours = kind(*projections(WIDTH, WIDTH), head_size=WIDTH // HEADS).double()
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    parts = [ours.query, ours.key, ours.value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    return ours, theirs


def draw(*shape: int, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def some_mask(rows: int, width: int, other: int, seed: int = 2) -> Tensor:
    """Allow about half, and something everywhere."""
    source = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, 1, width, other, generator=source) > 0.5
    mask[..., 0] = True
    return mask


def run_theirs(theirs: nn.MultiheadAttention, hidden: Tensor, memory: Tensor, mask: Tensor | None):
    forbidden = None if mask is None else ~mask.repeat_interleave(HEADS, dim=1).flatten(0, 1)
    return theirs(hidden, memory, memory, attn_mask=forbidden, need_weights=False)[0]


def look(ours: CrossAttention, hidden: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
    return ours(hidden, ours.project(memory), mask)


@PATHS
def test_attention_to_everything_is_torchs(with_grad):
    ours, theirs = pair()
    hidden, memory = draw(2, 3, WIDTH), draw(2, 5, WIDTH, seed=3)
    with torch.set_grad_enabled(with_grad):
        found = look(ours, hidden, memory, None)
    torch.testing.assert_close(found, run_theirs(theirs, hidden, memory, None))


@PATHS
def test_attention_under_a_mask_is_torchs(with_grad):
    ours, theirs = pair()
    hidden, memory, mask = draw(2, 3, WIDTH), draw(2, 5, WIDTH, seed=3), some_mask(2, 3, 5)
    expected = run_theirs(theirs, hidden, memory, mask)
    with torch.set_grad_enabled(with_grad):
        torch.testing.assert_close(look(ours, hidden, memory, mask), expected)


@PATHS
def test_self_attention_under_a_causal_mask_is_torchs(with_grad):
    ours, theirs = pair(SelfAttention)
    hidden = draw(2, 6, WIDTH)
    places = torch.arange(6).expand(2, -1)
    mask = causal_mask(places, places)[:, None]
    expected = run_theirs(theirs, hidden, hidden, mask)
    with torch.set_grad_enabled(with_grad):
        torch.testing.assert_close(ours(hidden, Sight(places, places, mask)), expected)


def test_gradients_under_a_mask_are_torchs():
    ours, theirs = pair()
    mask, mix = some_mask(2, 3, 5), draw(2, 3, WIDTH, seed=4)
    found, expected = (
        [draw(2, 3, WIDTH).requires_grad_(), draw(2, 5, WIDTH, seed=3).requires_grad_()]
        for _ in range(2)
    )
    (look(ours, *found, mask) * mix).sum().backward()
    (run_theirs(theirs, *expected, mask) * mix).sum().backward()
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
    parts = [ours.query, ours.key, ours.value]
    weight = torch.cat([part.weight.grad for part in parts])
    bias = torch.cat([part.bias.grad for part in parts])
    torch.testing.assert_close(weight, theirs.in_proj_weight.grad)
    torch.testing.assert_close(bias, theirs.in_proj_bias.grad, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(ours.output.weight.grad, theirs.out_proj.weight.grad)
    torch.testing.assert_close(ours.output.bias.grad, theirs.out_proj.bias.grad)


@PATHS
def test_what_the_mask_forbids_changes_nothing(with_grad):
    ours, _ = pair()
    hidden, memory = draw(1, 3, WIDTH), draw(1, 5, WIDTH, seed=3)
    mask = torch.tensor([True, True, False, True, False]).expand(1, 1, 3, 5)
    other = memory.clone()
    other[:, [2, 4]] = 1000.0
    with torch.set_grad_enabled(with_grad):
        found = look(ours, hidden, other, mask)
        torch.testing.assert_close(found, look(ours, hidden, memory, mask))


def test_weights_sum_to_one_over_what_is_allowed():
    query, key = draw(2, HEADS, 3, 4), draw(2, HEADS, 5, 4, seed=3)
    mask = some_mask(2, 3, 5)
    weights = ScaledDotProduct().weights(query, key, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, 3))
    assert not weights.masked_select(~mask).any()


@PATHS
def test_weights_times_values_are_the_context(with_grad):
    query, key, value = (draw(2, HEADS, n, 4, seed=n).float() for n in (3, 5, 5))
    query.requires_grad_(with_grad)
    attend = ScaledDotProduct()
    for mask in (None, some_mask(2, 3, 5)):
        found = attend.weights(query, key, mask) @ value
        torch.testing.assert_close(found, attend(query, key, value, mask))


def test_half_precision_attends_as_single_precision_does_but_for_rounding():
    query, key, value = (draw(2, HEADS, n, 4, seed=n).bfloat16() for n in (3, 5, 5))
    mask = some_mask(2, 3, 5)
    found = ScaledDotProduct()(query, key, value, mask)
    expected = ScaledDotProduct()(query.float(), key.float(), value.float(), mask)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("width", [1024, 1025])
def test_memories_of_any_length_are_attended_to_alike_with_and_without_gradients(width):
    query, key, value = (draw(1, HEADS, n, 4, seed=n) for n in (2, width, width))
    mask = some_mask(1, 2, width)
    attend = ScaledDotProduct()
    found = attend(query.clone().requires_grad_(), key, value, mask)
    torch.testing.assert_close(found, attend(query, key, value, mask))


@PATHS
def test_a_position_that_may_look_nowhere_gets_zeros(with_grad):
    query, key, value = (draw(1, HEADS, 3, 4, seed=n) for n in (1, 2, 3))
    query.requires_grad_(with_grad)
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    mask[:, :, 1] = False
    assert not ScaledDotProduct()(query, key, value, mask)[:, :, 1].any()
    assert not ScaledDotProduct().weights(query, key, mask)[:, :, 1].any()


def test_a_position_that_may_look_nowhere_moves_nothing_by_its_gradient():
    query, key, value = (draw(1, HEADS, 3, 4, seed=n).requires_grad_() for n in (1, 2, 3))
    mask = torch.zeros(1, 1, 3, 3, dtype=torch.bool)
    ScaledDotProduct()(query, key, value, mask).sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_heads_are_neighbouring_columns():
    ours, _ = pair()
    hidden = draw(2, 3, WIDTH)
    key, _ = ours.project(hidden)
    assert torch.equal(key[:, 1], ours.key(hidden)[:, :, WIDTH // HEADS :])


def test_a_step_with_a_bias_is_attention_with_a_mask():
    query, key, value = (draw(2, HEADS, n, 4, seed=n) for n in (3, 5, 5))
    mask = some_mask(2, 3, 5)
    bias = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    expected = ScaledDotProduct()(query, key, value, mask)
    torch.testing.assert_close(ScaledDotProduct()(query, key, value, bias), expected)


def test_looking_up_a_projected_memory_is_attention_to_it():
    ours, _ = pair()
    beams, memory = draw(2, 4, WIDTH), draw(2, 5, WIDTH, seed=3)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])[:, None, None]
    bias = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    expected = look(ours, beams, memory, mask.expand(2, 1, 4, 5))
    torch.testing.assert_close(look(ours, beams, memory, bias), expected)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_stepping_through_any_forks_and_drops_is_the_causal_forward_of_each_beam(data):
    ours, _ = pair(SelfAttention)
    rows, beams = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    steps = data.draw(st.integers(1, 5))
    source = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    nothing = torch.zeros(rows, 0, dtype=torch.bool)
    ancestry = Ancestry(nothing, num_beams=beams, max_steps=steps, like=draw(1))
    cache = KeyValueCache(ancestry)
    # What each beam of each row has read, as a list of vectors: the slow way to remember.
    sequences: list[list[list[Tensor]]] = [[[] for _ in range(beams)] for _ in range(rows)]
    for _ in range(steps):
        hidden = torch.randn(rows, beams, WIDTH, generator=source, dtype=torch.float64)
        ancestry.advance()
        with torch.no_grad():
            sight = Sight(ancestry.newest_positions, ancestry.positions, ancestry.bias)
            context = ours(hidden, sight, cache)
        for row in range(rows):
            for beam in range(beams):
                sequences[row][beam] = [*sequences[row][beam], hidden[row, beam]]
                whole = torch.stack(sequences[row][beam])[None]
                places = torch.arange(whole.shape[1])[None]
                mask = causal_mask(places, places)[:, None]
                expected = ours(whole, Sight(places, places, mask))[0, -1]
                torch.testing.assert_close(context[row, beam], expected)

        one_row = st.lists(st.integers(0, beams - 1), min_size=beams, max_size=beams)
        parents = data.draw(st.lists(one_row, min_size=rows, max_size=rows))
        ancestry.reorder(torch.tensor(parents))
        sequences = [[sequences[row][parent] for parent in parents[row]] for row in range(rows)]
        kept = data.draw(st.permutations(range(rows)).flatmap(_front))
        ancestry.keep(torch.tensor(kept))
        cache.keep(torch.tensor(kept))
        sequences = [sequences[row] for row in kept]
        rows = len(kept)


def _front(order: list[int]) -> st.SearchStrategy[list[int]]:
    return st.integers(1, len(order)).map(lambda count: list(order[:count]))
