"""Dropout: how much is zeroed, how the rest grows, and whose seed decides."""

from __future__ import annotations

import pytest
import torch

from headway.layers.dropout import Dropout

RATES = pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
ONES = torch.ones(100, 1000)


def dropped(rate: float, hidden: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return Dropout(rate)(hidden)


@RATES
def test_the_share_of_zeros_is_the_rate(rate):
    # 100,000 draws: five deviations are at most 0.008; rounding the rate moves it by 0.002.
    assert (dropped(rate, ONES) == 0).float().mean().item() == pytest.approx(rate, abs=0.01)


@RATES
def test_what_is_kept_grows_so_that_the_mean_stays(rate):
    values = dropped(rate, ONES).unique()
    assert len(values) == 2
    rounded = round(rate * 256) / 256
    assert values[1].item() == pytest.approx(1 / (1 - rounded), rel=1e-6)


def test_the_mean_stays_where_it_was():
    # A million draws at a rate of 0.1 deviate by 0.0003; one step of the rounded rate by 0.004.
    assert dropped(0.1, torch.ones(1000, 1000)).mean().item() == pytest.approx(1, abs=0.002)


def test_the_gradient_passes_where_the_value_passed():
    hidden = torch.randn(20, 30).requires_grad_()
    result = dropped(0.5, hidden)
    result.sum().backward()
    assert torch.equal(hidden.grad, dropped(0.5, torch.ones(20, 30)))
    torch.testing.assert_close(result, hidden * hidden.grad)


def test_rows_and_columns_are_dropped_independently():
    zeros = (dropped(0.5, ONES) == 0).float()
    for axis in (0, 1):
        # The mean of n fair coins deviates by 0.5 / sqrt(n).
        spread = zeros.mean(axis).std().item()
        assert spread == pytest.approx(0.5 / ONES.shape[axis] ** 0.5, rel=0.3)


def test_nothing_is_dropped_outside_training_or_at_rate_zero():
    hidden = torch.randn(3, 4)
    assert Dropout(0.5).eval()(hidden) is hidden
    assert Dropout(0.0).train()(hidden) is hidden


def test_torchs_seed_decides():
    assert torch.equal(dropped(0.5, ONES, seed=1), dropped(0.5, ONES, seed=1))
    assert not torch.equal(dropped(0.5, ONES, seed=1), dropped(0.5, ONES, seed=2))


def test_two_calls_drop_differently():
    torch.manual_seed(0)
    layer = Dropout(0.5)
    assert not torch.equal(layer(ONES), layer(ONES))


def test_the_input_is_left_as_it_is():
    hidden = torch.ones(50, 50)
    dropped(0.5, hidden)
    assert hidden.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_result_has_the_type_of_the_input(dtype):
    assert dropped(0.5, torch.ones(4, 4, dtype=dtype)).dtype == dtype


def test_any_layout_will_do():
    hidden = torch.randn(6, 5, 4).transpose(0, 2).requires_grad_()
    result = dropped(0.5, hidden)
    assert torch.equal(result, dropped(0.5, hidden.contiguous()))
    assert dropped(0.5, torch.ones(0, 4)).shape == (0, 4)
