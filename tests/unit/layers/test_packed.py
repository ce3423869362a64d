"""Prepacked linear layers: as exact as half precision allows, row by row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headway.layers.packed import (
    Int8Linear,
    PackedLinear,
    has_fast_bf16,
    input_levels,
    pack,
    precision_of,
)

needs_bf16 = pytest.mark.skipif(
    not has_fast_bf16(), reason="this CPU does not multiply bfloat16 matrices in hardware"
)


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 136)


@pytest.fixture
def hidden() -> torch.Tensor:
    return torch.randn(1, 300, 96, generator=torch.Generator().manual_seed(1)).bfloat16()


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Embedding(11, 16), nn.Sequential(nn.Linear(16, 32), nn.ReLU()), nn.Linear(32, 4)
    )


@needs_bf16
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_packed_layer_gives_the_half_precision_product(linear, hidden, has_bias):
    bias = linear.bias if has_bias else None
    packed = PackedLinear(linear.weight, bias)
    exact = F.linear(
        hidden.double(),
        linear.weight.bfloat16().double(),
        None if bias is None else bias.bfloat16().double(),
    )
    found = packed(hidden)
    assert found.dtype == torch.bfloat16
    # One rounding to 8 bits of the result, and of the product before the bias.
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=2**-8)


@needs_bf16
@pytest.mark.parametrize("num_rows", [1, 2, 5, 16, 33, 128, 257])
def test_a_row_does_not_depend_on_its_neighbours_to_the_last_bit(linear, hidden, num_rows):
    packed = PackedLinear(linear.weight, linear.bias)
    together = packed(hidden)
    for start in (0, 7, 300 - num_rows):
        rows = slice(start, start + num_rows)
        assert torch.equal(packed(hidden[:, rows]), together[:, rows])


@needs_bf16
def test_the_layout_of_the_batch_does_not_matter_either(linear, hidden):
    packed = PackedLinear(linear.weight, linear.bias)
    folded = packed(hidden.view(60, 5, 96))
    assert torch.equal(folded.view(1, 300, 136), packed(hidden))


@needs_bf16
def test_pack_replaces_every_linear_layer_at_any_depth():
    kinds = [type(module) for module in pack(network()).modules()]
    assert kinds.count(PackedLinear) == 2
    assert nn.Linear not in kinds


def test_a_packed_network_computes_nearly_the_same():
    body = network()
    ids = torch.arange(11)[None]
    found = pack(body)(ids)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), body(ids), rtol=0.05, atol=0.02)


def test_pack_leaves_the_original_untouched():
    body = network().train()
    before = {name: tensor.clone() for name, tensor in body.state_dict().items()}
    pack(body)
    after = body.state_dict()
    assert list(after) == list(before)
    for name, tensor in before.items():
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], tensor)
    assert body.training
    assert all(parameter.requires_grad for parameter in body.parameters())


def test_training_the_original_does_not_move_the_copy():
    body = network()
    ids = torch.arange(11)[None]
    packed = pack(body)
    before = packed(ids)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.add_(1.0)
    assert torch.equal(packed(ids), before)


def test_a_packed_network_is_for_inference_only():
    body = nn.Sequential(nn.Linear(16, 64), nn.Dropout(0.5)).train()
    packed = pack(body)
    hidden = torch.randn(1, 3, 16).bfloat16()
    assert torch.equal(packed(hidden), packed(hidden))
    assert not packed.training
    assert not packed(hidden).requires_grad


def test_single_precision_packed_gives_the_same_but_for_rounding(linear, hidden):
    packed = PackedLinear(linear.weight, linear.bias, torch.float32)
    torch.testing.assert_close(packed(hidden.float()), linear(hidden.float()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("has_bias", [True, False])
def test_integers_are_as_exact_as_their_two_roundings_allow(linear, hidden, has_bias):
    bias = linear.bias if has_bias else None
    rows = hidden[0].float()
    exact = F.linear(rows, linear.weight, bias)
    found = Int8Linear(linear.weight, bias)(rows)
    # Half a step of each of 96 inputs and weights: what all of them could add up to at worst.
    step = rows.abs().amax(1, keepdim=True) * 2 / input_levels()
    worst = (step + step / 100) * linear.weight.abs().sum(1) / 2
    worst = worst + rows.abs().sum(1, keepdim=True) * linear.weight.abs().amax(1) / 127 / 2
    assert ((found - exact).abs() <= worst + 1e-5).all()
    assert (found - exact).std() < 0.01 * exact.std() * 255 / input_levels()


def test_the_largest_sums_of_integers_do_not_overflow():
    # All inputs and weights as large as can be, of one sign: what 16 bits would not hold.
    layer = Int8Linear(torch.full((4, 96), 3.0), None)
    assert torch.allclose(layer(torch.full((2, 96), 5.0)), torch.tensor(1440.0), rtol=0.01)


@given(st.floats(1e-6, 1e6), st.integers(1, 9), st.integers(0, 5))
def test_a_loud_neighbour_changes_no_row_of_integers(loudness, num_rows, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = Int8Linear(torch.randn(24, 16, generator=generator), None)
    rows = torch.randn(num_rows, 16, generator=generator)
    loud = torch.randn(3, 16, generator=generator) * loudness
    assert torch.equal(layer(torch.cat([loud, rows]))[3:], layer(rows))
    assert torch.equal(layer(rows[:1]), layer(rows)[:1])


def test_a_row_of_zeros_gives_the_bias(linear):
    found = Int8Linear(linear.weight, linear.bias)(torch.zeros(2, 96))
    assert torch.equal(found, linear.bias.detach().expand(2, -1))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_network_says_what_it_was_packed_for(precision):
    assert precision_of(pack(network(), precision)) == precision
