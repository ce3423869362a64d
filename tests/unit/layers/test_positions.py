"""Sinusoids: the numbers of the paper's formula and the order of their columns."""

from __future__ import annotations

import math

import pytest
import torch

from headway.layers.positions import Positions, sines_first, sinusoid


def test_position_one_of_four_columns_with_base_100():
    table = sinusoid(2, 4, base=100.0)
    assert [round(value, 2) for value in table[1].tolist()] == [0.84, 0.54, 0.10, 1.0]


def test_position_zero_is_sines_of_zero_and_cosines_of_zero():
    assert sinusoid(1, 6)[0].tolist() == [0, 1, 0, 1, 0, 1]


def test_the_base_is_10000_unless_said_otherwise():
    assert torch.equal(sinusoid(50, 8), sinusoid(50, 8, base=10000.0))
    assert not torch.equal(sinusoid(50, 8), sinusoid(50, 8, base=100.0))


@pytest.mark.parametrize("width", [1, 2, 5, 8, 13])
def test_every_entry_is_that_of_the_formula_for_even_and_odd_widths(width):
    table = sinusoid(40, width)
    assert table.shape == (40, width)
    assert table.dtype == torch.float32
    for position in range(40):
        for column in range(width):
            angle = position / 10000.0 ** (2 * (column // 2) / width)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[position, column].item() == pytest.approx(expected, abs=1e-7)


def test_far_positions_are_as_exact_as_near_ones():
    assert sinusoid(100_001, 2)[100_000, 0].item() == pytest.approx(math.sin(100_000), abs=1e-7)


@pytest.mark.parametrize("width", [4, 6, 7])
def test_sines_first_moves_the_sines_to_the_front_and_loses_nothing(width):
    table = torch.arange(3 * width).view(3, width).float()
    order = [*range(0, width, 2), *range(1, width, 2)]
    assert sines_first(table).tolist() == [
        [row[column] for column in order] for row in table.tolist()
    ]


def filled(*, learned: bool, base: float = 10000.0) -> Positions:
    torch.manual_seed(0)
    positions = Positions(50, 8, learned=learned, base=base)
    positions.init_weights()
    return positions


def test_a_fixed_table_holds_sinusoids_sines_first_and_is_not_trained():
    positions = filled(learned=False, base=100.0)
    assert torch.equal(positions.weight, sines_first(sinusoid(50, 8, base=100.0)))
    assert not positions.weight.requires_grad


def test_a_learned_table_starts_small_and_is_trained():
    positions = filled(learned=True)
    assert positions.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert positions.weight.requires_grad


@pytest.mark.parametrize("learned", [False, True])
def test_positions_are_looked_up_in_any_order(learned):
    positions = filled(learned=learned)
    places = torch.tensor([[3, 0, 49], [7, 7, 1]])
    assert torch.equal(positions(places), positions.weight[places])
