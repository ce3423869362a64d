"""Drawing tokens: seeds, what may be drawn, and texts beside each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import make_decoder
from headway.decode.sample import SampleOptions, Sampler, draw, penalize
from headway.errors import ConfigError

ROWS = 5
HALF = torch.tensor([0.5], dtype=torch.float64)


class Fixed:
    """A model that always says the same of what comes next."""

    def __init__(self, *logits: float) -> None:
        self.row = torch.tensor(logits)

    def start(self, source, *, num_beams, max_steps):
        return self

    def keep(self, rows):
        """There is nothing to forget."""

    def step(self, input_ids, state):
        return torch.zeros(len(input_ids), 1, 1)

    def logits(self, hidden):
        return self.row.expand(len(hidden), 1, -1)


def sample(model, prompts, options, *, seeds, steps=6, stops=()):
    """Give the tokens of every text; `stops` says after which step a row goes no further."""
    sampler = Sampler(model, prompts, options, seeds=seeds, max_steps=steps)
    found = [[] for _ in prompts]
    for step in range(steps):
        if not sampler.is_running:
            break
        for item in sampler.step():
            found[item.row].append(item.id)
        for row, last in stops:
            if last == step + 1:
                sampler.stop(row)
    return found


@pytest.fixture(scope="module")
def body():
    return make_decoder().body


# Options


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"temperature": -0.1}, "temperature is -0.1, but must be from 0 up"),
        ({"temperature": math.inf}, "temperature is inf, but must be from 0 up"),
        ({"temperature": math.nan}, "temperature is nan, but must be from 0 up"),
        ({"top_k": -1}, "top_k is -1, but must be from 0 up"),
        ({"top_p": 0.0}, "top_p is 0.0, but must be above 0, at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5, but must be above 0, at most 1"),
        ({"min_p": 1.0}, "min_p is 1.0, but must be from 0 to below 1"),
        ({"min_p": -0.1}, "min_p is -0.1, but must be from 0 to below 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0, but must be above 0"),
    ],
)
def test_a_value_out_of_range_says_what_would_do(values, problem):
    with pytest.raises(ConfigError) as error:
        SampleOptions(**values)
    assert error.value.message == problem


def test_all_problems_are_said_together():
    with pytest.raises(ConfigError, match=r"temperature is -1.*; top_p is 2"):
        SampleOptions(temperature=-1, top_p=2)


# Drawing


@pytest.mark.parametrize(("noise", "token"), [(0.0, 0), (0.249, 0), (0.25, 1), (0.49, 1), (0.5, 2)])
def test_the_noise_is_a_place_among_the_probabilities(noise, token):
    # Probabilities 1/4, 1/4, 1/2 in the order of the vocabulary.
    logits = torch.tensor([[1.0, 1.0, 2.0]]).log()
    found = draw(logits, SampleOptions(), torch.tensor([noise], dtype=torch.float64))
    assert found.tolist() == [token]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"top_k": 1}, {3}),
        ({"top_k": 2}, {3, 1}),
        ({"top_k": 400}, {0, 1, 2, 3}),
        # Probabilities 0.1, 0.3, 0.2, 0.4; the one that passes the bound still belongs to it.
        ({"top_p": 1e-9}, {3}),
        ({"top_p": 0.39}, {3}),
        ({"top_p": 0.5}, {3, 1}),
        ({"top_p": 0.75}, {3, 1, 2}),
        ({"min_p": 0.6}, {3, 1}),
        ({"min_p": 0.4}, {3, 1, 2}),
        # The share of p is one of what the k best have: 4/7 and 3/7.
        ({"top_k": 2, "top_p": 0.5}, {3}),
        ({"top_k": 2, "top_p": 0.6}, {3, 1}),
    ],
)
def test_what_may_be_drawn(options, left):
    logits = torch.tensor([[0.1, 0.3, 0.2, 0.4]]).log()
    noise = torch.linspace(0, 0.9999, 500, dtype=torch.float64)
    found = draw(logits.expand(500, -1), SampleOptions(**options), noise)
    assert set(found.tolist()) == left


def test_the_temperature_comes_before_the_share_of_probability():
    # 0.1, 0.9 at temperature 1; nearly 1/2 each at 100.
    logits = torch.tensor([[0.1, 0.9]]).log()
    for temperature, left in ((1.0, 1), (100.0, 0)):
        options = SampleOptions(temperature=temperature, top_p=0.6)
        noise = torch.tensor([0.9 if left == 0 else 0.0], dtype=torch.float64)
        assert draw(logits, options, noise).tolist() == [left]


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8),
    temperature=st.sampled_from([5e-324, 1e-300, 1e-9, 1.0, 1e9, 1e300]),
    top_k=st.integers(0, 9),
    top_p=st.sampled_from([1e-300, 0.5, 1.0]),
    min_p=st.sampled_from([0.0, 0.5, 0.999]),
    noise=st.sampled_from([0.0, 0.5, 1 - 2**-53]),
)
def test_what_is_drawn_is_possible(logits, temperature, top_k, top_p, min_p, noise):
    options = SampleOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    noise = torch.tensor([noise], dtype=torch.float64)
    (token,) = draw(torch.tensor([logits]), options, noise).tolist()
    best = max(logits)
    better = sum(value > logits[token] for value in logits)
    assert better < (top_k or len(logits))
    # Its share of the best one's probability.
    share = math.exp((logits[token] - best) / temperature)
    assert share > 0
    assert share >= min_p * (1 - 1e-6)
    if temperature < 1e-290 or top_p < 1e-290:
        assert logits[token] == best


@pytest.mark.parametrize("temperature", [5e-324, 1e-308, 1e-300])
def test_the_smallest_temperatures_take_the_most_probable_token(temperature):
    logits = torch.tensor([[3.0, 5.0, 1.0]])
    assert draw(logits, SampleOptions(temperature=temperature), HALF).tolist() == [1]


def test_a_penalty_leaves_what_it_was_given():
    logits = torch.tensor([[2.0, -2.0, 2.0]])
    found = penalize(logits, [[0, 1]], 2.0)
    assert found.tolist() == [[1.0, -4.0, 2.0]]
    assert logits.tolist() == [[2.0, -2.0, 2.0]]


def test_the_penalty_counts_the_prompt_and_what_was_written():
    # Each token that was said loses, until only the third is left.
    options = SampleOptions(temperature=0, repetition_penalty=10.0)
    found = sample(Fixed(0.5, 0.7, 0.6, 0.8), [[3], [0, 1]], options, seeds=[0, 0], steps=4)
    assert found == [[1, 2, 0, 3], [3, 2, 3, 3]]


# Several texts


def test_the_log_probability_is_the_models_own_whatever_the_options():
    options = SampleOptions(temperature=9.0, top_k=1, repetition_penalty=3.0)
    sampler = Sampler(Fixed(0.0, math.log(3)), [[0]], options, seeds=[1], max_steps=1)
    (item,) = sampler.step()
    assert (item.row, item.id) == (0, 1)
    assert item.log_prob == pytest.approx(math.log(0.75))


def test_the_same_seed_draws_the_same_and_another_one_something_else(body):
    options = SampleOptions(temperature=3.0)
    one, again, other = (
        sample(body, [[5, 6, 7]], options, seeds=[seed], steps=12) for seed in (4, 4, 5)
    )
    assert one == again != other


def test_without_temperature_seeds_mean_nothing(body):
    options = SampleOptions(temperature=0)
    one, other = (sample(body, [[5, 6, 7]], options, seeds=[seed]) for seed in (4, 5))
    assert one == other


@given(
    lengths=st.lists(st.integers(1, 7), min_size=2, max_size=ROWS),
    stops=st.lists(st.integers(1, 7), min_size=ROWS, max_size=ROWS),
    temperature=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_neighbours_do_not_matter(lengths, stops, temperature, body):
    prompts = [[7 * row + place + 4 for place in range(n)] for row, n in enumerate(lengths)]
    options = SampleOptions(temperature=temperature)
    seeds = list(range(len(prompts)))
    ends = list(enumerate(stops[: len(prompts)]))
    together = sample(body, prompts, options, seeds=seeds, stops=ends)
    for row, prompt in enumerate(prompts):
        (alone,) = sample(body, [prompt], options, seeds=[row])
        assert together[row] == alone[: stops[row]]


def test_a_text_that_is_stopped_twice_stops_no_other():
    sampler = Sampler(Fixed(0.0, 1.0), [[0], [0]], SampleOptions(), seeds=[0, 1], max_steps=9)
    sampler.step()
    sampler.stop(1)
    sampler.step()
    sampler.stop(1)
    assert sampler.is_running
    assert [item.row for item in sampler.step()] == [0]
    sampler.stop(0)
    assert not sampler.is_running
