"""Scores and windows of recurrent attention, against their formulas in plain loops over numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from headway.errors import ShapeError
from headway.layers.scoring import (
    AdditiveScore,
    Attention,
    DotScore,
    GeneralScore,
    GlobalWindow,
    KeyQueryValueScore,
    LocalMonotonicWindow,
    LocalPredictiveWindow,
    masked_softmax,
)
from slopes import slopes

SCORES = ("dot", "general", "concat", "key-query-value")
WINDOWS = ("global", "local-m", "local-p")
COMBINATIONS = [(score, window) for score in SCORES for window in WINDOWS]

# Two rows of 7 and 4 real positions, padded to 7; a few steps of a decoder, one of them far out.
NUM_STEPS, WIDTH, INNER, HALF_WIDTH = 3, 7, 5, 2
LENGTHS = [7, 4]
STEPS = [[0, 3, 6], [2, 5, 90]]

Arrays = dict[str, np.ndarray]


def sizes(score: str) -> tuple[int, int]:
    return (3, 3) if score == "dot" else (3, 4)


def build(score: str, window: str, seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    query_size, key_size = sizes(score)
    scores: dict[str, Callable] = {
        "dot": lambda: DotScore(query_size, key_size),
        "general": lambda: GeneralScore(query_size, key_size),
        "concat": lambda: AdditiveScore(query_size, key_size, inner_size=INNER),
        "key-query-value": lambda: KeyQueryValueScore(query_size, key_size, inner_size=INNER),
    }
    windows: dict[str, Callable] = {
        "global": GlobalWindow,
        "local-m": lambda: LocalMonotonicWindow(HALF_WIDTH),
        "local-p": lambda: LocalPredictiveWindow(query_size, HALF_WIDTH),
    }
    return Attention(scores[score](), windows[window]()).double()


def draw(module: Attention, score: str, seed: int = 1) -> Arrays:
    """Give a query, a memory and the module's parameters as arrays."""
    source = np.random.default_rng(seed)
    query_size, key_size = sizes(score)
    rows = len(LENGTHS)
    arrays = {
        "query": source.normal(size=(rows, NUM_STEPS, query_size)),
        "memory": source.normal(size=(rows, WIDTH, key_size)),
    }
    for name, parameter in module.named_parameters():
        arrays[name] = parameter.detach().numpy().copy()
    return arrays


def run(module: Attention, query: torch.Tensor, memory: torch.Tensor, lengths=None, steps=None):
    key, value = module.score.prepare(memory)
    lengths = torch.tensor(LENGTHS if lengths is None else lengths)
    steps = torch.tensor(STEPS if steps is None else steps)
    return module(query, key, value, lengths, steps)


def energy(arrays: Arrays, score: str, query: np.ndarray, memory: np.ndarray) -> float:
    """One query and one memory position, as the papers write it."""
    if score == "dot":
        return sum(q * m for q, m in zip(query, memory, strict=True))
    if score == "general":
        return float(query @ (arrays["score.key.weight"] @ memory))
    projected_query = arrays["score.query.weight"] @ query
    projected_key = arrays["score.key.weight"] @ memory
    if score == "concat":
        return float(arrays["score.score.weight"][0] @ np.tanh(projected_query + projected_key))
    return float(projected_query @ projected_key) / math.sqrt(INNER)


def center_of(arrays: Arrays, window: str, query: np.ndarray, length: int, step: int) -> float:
    if window == "local-m":
        return min(step, length - 1)
    inner = np.tanh(arrays["window.inner.weight"] @ query)
    return length / (1 + math.exp(-float(arrays["window.place.weight"][0] @ inner)))


def reference(arrays: Arrays, score: str, window: str) -> tuple[np.ndarray, np.ndarray]:
    """Contexts and weights, position by position."""
    queries, memories = arrays["query"], arrays["memory"]
    weights = np.zeros((len(LENGTHS), NUM_STEPS, WIDTH))
    contexts = np.zeros((len(LENGTHS), NUM_STEPS, memories.shape[-1]))
    for row, length in enumerate(LENGTHS):
        for turn in range(NUM_STEPS):
            query, step = queries[row, turn], STEPS[row][turn]
            inside = list(range(length))
            center = 0.0
            if window != "global":
                center = center_of(arrays, window, query, length, step)
                inside = [s for s in inside if center - HALF_WIDTH <= s <= center + HALF_WIDTH]
            exponentials = {
                s: math.exp(energy(arrays, score, query, memories[row, s])) for s in inside
            }
            for s in inside:
                weight = exponentials[s] / sum(exponentials.values())
                if window == "local-p":
                    weight *= math.exp(-((s - center) ** 2) / (2 * (HALF_WIDTH / 2) ** 2))
                value = memories[row, s]
                if score == "key-query-value":
                    value = arrays["score.value.weight"] @ value
                weights[row, turn, s] = weight
                contexts[row, turn] += weight * value
    return contexts, weights


@pytest.mark.parametrize(("score", "window"), COMBINATIONS)
def test_context_and_weights_are_those_of_the_formula(score, window):
    module = build(score, window)
    arrays = draw(module, score)
    contexts, weights = reference(arrays, score, window)
    found, found_weights = run(
        module, torch.tensor(arrays["query"]), torch.tensor(arrays["memory"])
    )
    np.testing.assert_allclose(found_weights.detach().numpy(), weights, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.detach().numpy(), contexts, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("score", "window"), COMBINATIONS)
def test_gradients_are_the_slopes_of_the_formula(score, window):
    module = build(score, window)
    arrays = draw(module, score)
    mix = np.random.default_rng(2).normal(size=(len(LENGTHS), NUM_STEPS, sizes(score)[1]))
    query = torch.tensor(arrays["query"], requires_grad=True)
    memory = torch.tensor(arrays["memory"], requires_grad=True)
    (run(module, query, memory)[0] * torch.tensor(mix)).sum().backward()

    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    found |= {"query": query.grad, "memory": memory.grad}
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        expected = slopes(lambda: float((reference(arrays, score, window)[0] * mix).sum()), array)
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("score", "window"), COMBINATIONS)
def test_what_stands_in_the_padding_changes_nothing_and_gets_no_gradient(score, window):
    module = build(score, window)
    arrays = draw(module, score)
    query, memory = torch.tensor(arrays["query"]), torch.tensor(arrays["memory"])
    other = memory.clone()
    other[1, LENGTHS[1] :] = 1000.0
    other.requires_grad_()
    context, weights = run(module, query, other)
    expected, expected_weights = run(module, query, memory)
    assert torch.equal(context, expected)
    assert torch.equal(weights, expected_weights)
    assert not weights[1, :, LENGTHS[1] :].any()
    context.sum().backward()
    assert other.grad is not None
    assert not other.grad[1, LENGTHS[1] :].any()


@pytest.mark.parametrize(("score", "window"), COMBINATIONS)
def test_a_padded_row_attends_as_it_does_alone(score, window):
    module = build(score, window)
    arrays = draw(module, score)
    query, memory = torch.tensor(arrays["query"]), torch.tensor(arrays["memory"])
    context, _ = run(module, query, memory)
    alone, _ = run(module, query[1:], memory[1:, :4], lengths=[4], steps=STEPS[1:])
    torch.testing.assert_close(context[1:], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("score", "window"), COMBINATIONS)
def test_one_step_number_serves_all_beams(score, window):
    module = build(score, window)
    arrays = draw(module, score)
    query, memory = torch.tensor(arrays["query"]), torch.tensor(arrays["memory"])
    found = run(module, query, memory, steps=[[2], [5]])
    expected = run(module, query, memory, steps=[[2] * NUM_STEPS, [5] * NUM_STEPS])
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


def test_the_concat_score_takes_queries_and_keys_of_unequal_widths():
    score = AdditiveScore(2, 6, inner_size=9)
    key, value = score.prepare(torch.randn(1, 4, 6))
    assert key.shape == (1, 4, 9)
    assert value.shape == (1, 4, 6)
    assert score(torch.randn(1, 3, 2), key, torch.ones(1, 3, 4, dtype=torch.bool)).shape == (
        1,
        3,
        4,
    )


def test_the_dot_score_refuses_unequal_widths_and_says_what_to_do():
    with pytest.raises(ShapeError, match=r"3 wide.*4.*general"):
        DotScore(3, 4)


def test_weights_sum_to_one_and_are_zero_where_nothing_is_allowed():
    scores = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[[True] * 4, [False, True, False, True], [False] * 4]])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights.sum(-1), torch.tensor([[1.0, 1.0, 0.0]]).double())
    assert not weights[~mask].any()
    (weights**2).sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


def test_the_monotonic_window_moves_with_the_steps_and_stops_at_the_last_position():
    reach = LocalMonotonicWindow(1)(
        torch.zeros(1, 4, 2), torch.tensor([4]), torch.tensor([[0, 2, 3, 9]]), torch.arange(6)[None]
    )
    expected = [
        [True, True, False, False, False, False],
        [False, True, True, True, False, False],
        [False, False, True, True, True, False],
        [False, False, True, True, True, False],
    ]
    assert reach.mask is not None
    assert reach.mask[0].tolist() == expected
    assert reach.factor is None


def predictive(place: float, length: int, half_width: int):
    """A window whose center is `length * sigmoid(place)`: its network sees the query 1 only."""
    window = LocalPredictiveWindow(1, half_width).double()
    with torch.no_grad():
        window.inner.weight.fill_(1.0)
        window.place.weight.fill_(place / math.tanh(1.0))
    return window(
        torch.ones(1, 1, 1, dtype=torch.float64),
        torch.tensor([length]),
        torch.tensor([[0]]),
        torch.arange(10)[None],
    )


def test_the_predicted_center_is_a_share_of_the_unpadded_length():
    reach = predictive(0.0, 8, 2)
    assert reach.mask is not None
    assert reach.mask[0, 0].nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


def test_the_gaussian_has_half_the_windows_half_width_as_deviation():
    reach = predictive(0.0, 8, 4)
    assert reach.factor is not None
    expected = [math.exp(-((s - 4) ** 2) / (2 * 2.0**2)) for s in range(10)]
    torch.testing.assert_close(
        reach.factor[0, 0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7
    )


def test_the_gaussian_is_not_normalized_again():
    module = build("dot", "local-p")
    _, weights = run(module, torch.randn(2, 3, 3).double(), torch.randn(2, 7, 3).double())
    sums = weights.sum(-1)
    assert (sums < 1).all()
    assert (sums > 0).all()


@pytest.mark.parametrize("score", SCORES)
def test_a_window_as_wide_as_the_source_is_no_window(score):
    wide = Attention(build(score, "global").score, LocalMonotonicWindow(WIDTH))
    module = Attention(wide.score, GlobalWindow())
    arrays = draw(module, score)
    query, memory = torch.tensor(arrays["query"]), torch.tensor(arrays["memory"])
    assert torch.equal(run(wide, query, memory)[0], run(module, query, memory)[0])
