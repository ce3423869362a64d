"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.sections import SCHEDULES as NAMES
from headway.sections import Training
from headway.train.schedules import SCHEDULES, learning_rate


def options(name: str, **changes) -> Training:
    values = {"schedule": name, "peak_lr": 2.0, "warmup_steps": 10, "cycle_steps": 20}
    return Training(**values | changes)


def test_the_recipe_names_every_schedule():
    assert tuple(SCHEDULES) == NAMES


@pytest.mark.parametrize("name", NAMES)
@given(step=st.integers(0, 500), total=st.integers(1, 400))
def test_rates_stay_between_nothing_and_the_peak(name, step, total):
    assert 0 <= learning_rate(step, total, options(name)) <= 2.0 + 1e-9


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "inverse-sqrt"])
def test_warm_up_rises_in_equal_steps_to_the_peak(name):
    rates = [learning_rate(step, 1000, options(name)) for step in range(11)]
    assert rates == pytest.approx([2.0 * (step + 1) / 11 for step in range(11)], rel=0.02)


@pytest.mark.parametrize(("name", "expected"), [("linear", 1.0), ("cosine", 1.0)])
def test_halfway_after_warm_up_the_rate_is_half(name, expected):
    assert learning_rate(10 + 495, 1000, options(name)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", ["linear", "cosine", "one-cycle"])
def test_the_run_ends_near_nothing(name):
    assert learning_rate(1000, 1000, options(name)) < 1e-3


def test_inverse_square_root_is_the_published_formula():
    # Vaswani et al., equation 3, counted from step 1 and scaled to its peak.
    for step in (0, 5, 10, 11, 40, 399):
        number, warm = step + 1, 11
        published = min(number**-0.5, number * warm**-1.5) / warm**-0.5
        assert learning_rate(step, 1000, options("inverse-sqrt")) == pytest.approx(2.0 * published)


def test_step_decay_drops_every_cycle():
    rates = [learning_rate(step, 100, options("step", decay_ratio=0.1)) for step in (0, 19, 20, 59)]
    assert rates == pytest.approx([2.0, 2.0, 0.2, 0.02])


def test_exponential_reaches_its_ratio_at_the_end():
    given_ = options("exponential", decay_ratio=0.25)
    assert learning_rate(100, 100, given_) == pytest.approx(0.5)
    assert learning_rate(50, 100, given_) == pytest.approx(2.0 * math.sqrt(0.25))


def test_cyclical_is_a_triangle():
    rates = [learning_rate(step, 100, options("cyclical")) for step in (0, 10, 20, 5)]
    assert rates == pytest.approx([0.2, 2.0, 0.2, 1.1])
