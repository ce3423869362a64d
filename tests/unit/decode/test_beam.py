"""Beam search: against every continuation there is, a slow search in plain Python, and greedy.

Most tests use a table of random logits by prefix in place of a network: a search needs nothing
but start, step and logits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headway.decode.beam import BeamOptions, BeamStep, Hypothesis, beam_search
from headway.errors import ConfigError
from headway.layers.side import Memory, Side
from headway.models.transformer import Transformer

VOCAB, END = 5, 1
# Tables start from a token outside the vocabulary; the Transformer from its <pad>.
START, PAD = -1, 4
PENALTIES = pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
# Beams for every sequence of four tokens: nothing is ever pruned.
ALL = VOCAB**4

Prefix = tuple[int, ...]


@dataclass
class TableState:
    """What each beam of each row has read, and which table each row reads from."""

    seeds: list[int]
    prefixes: list[list[Prefix]]

    def reorder(self, parents: Tensor) -> None:
        self.prefixes = [
            [row[parent] for parent in chosen]
            for row, chosen in zip(self.prefixes, parents.tolist(), strict=True)
        ]

    def keep(self, rows: Tensor) -> None:
        self.seeds = [self.seeds[row] for row in rows.tolist()]
        self.prefixes = [self.prefixes[row] for row in rows.tolist()]


class Table:
    """Logits by seed and prefix: drawn at random once, or given."""

    def __init__(self, given: dict[Prefix, list[float]] | None = None) -> None:
        self.given = given
        self.drawn: dict[tuple[int, Prefix], Tensor] = {}

    def look_up(self, seed: int, prefix: Prefix) -> Tensor:
        if self.given is not None:
            return torch.tensor(self.given.get(prefix, [1 / VOCAB] * VOCAB)).log()
        if (seed, prefix) not in self.drawn:
            source = np.random.default_rng([seed, *prefix])
            self.drawn[seed, prefix] = torch.tensor(2 * source.normal(size=VOCAB)).float()
        return self.drawn[seed, prefix]

    def log_probs(self, seed: int, prefix: Prefix) -> list[float]:
        return self.look_up(seed, prefix).double().log_softmax(-1).tolist()

    def start(self, memory: Memory, *, num_beams: int, max_steps: int) -> TableState:
        seeds = memory.hidden[:, 0, 0].long().tolist()
        return TableState(seeds, [[()] * num_beams for _ in seeds])

    def step(self, input_ids: Tensor, state: TableState) -> Tensor:
        # Prefixes leave out the start token.
        state.prefixes = [
            [
                prefix if token == START else (*prefix, token)
                for prefix, token in zip(row, tokens, strict=True)
            ]
            for row, tokens in zip(state.prefixes, input_ids.tolist(), strict=True)
        ]
        return torch.stack(
            [
                torch.stack([self.look_up(seed, prefix) for prefix in row])
                for seed, row in zip(state.seeds, state.prefixes, strict=True)
            ]
        )

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.clone()


def memory_of(seeds: Iterable[int]) -> Memory:
    hidden = torch.tensor(list(seeds)).float()[:, None, None]
    ones = torch.ones(len(hidden), 1, dtype=torch.long)
    return Memory(hidden=hidden, documents=ones, lengths=ones[:, 0])


def search(
    table: Table, seeds: Iterable[int], options: BeamOptions, **more
) -> list[list[Hypothesis]]:
    return beam_search(table, memory_of(seeds), options, start_id=START, end_id=END, **more)


def every_result(log_probs, options: BeamOptions) -> list[tuple[float, Prefix]]:
    """Score every sequence that ends in time, best first."""
    results = []
    others = [token for token in range(VOCAB) if token != END]
    for length in range(options.min_steps + 1, options.max_steps + 1):
        for ids in itertools.product(others, repeat=length - 1):
            tokens = (*ids, END)
            total = sum(log_probs(ids[:place])[token] for place, token in enumerate(tokens))
            results.append((total / length**options.length_penalty, ids))
    return sorted(results, reverse=True)


def slow_search(table: Table, seed: int, options: BeamOptions, limit: int) -> list[tuple] | None:
    """The docstring of `beam_search` in lists and loops; gives (score, ids, is_finished).

    None where two numbers that decide something are too close for float32 to tell them apart.
    """
    beams: list[tuple[float, Prefix]] = [(0.0, ())]
    found = []
    width = options.num_beams
    for step in range(1, limit + 1):
        candidates = []
        for total, prefix in beams:
            proposals = [
                (total + value, (*prefix, token))
                for token, value in enumerate(table.log_probs(seed, prefix))
                if token != END or step > options.min_steps
            ]
            candidates += sorted(proposals, reverse=True)[: width + 1]
        candidates.sort(reverse=True)
        if has_ties([total for total, _ in candidates]):
            return None
        candidates = candidates[: 2 * width]
        for total, ids in candidates[:width]:
            if ids[-1] == END:
                found.append((total / step**options.length_penalty, ids[:-1], True))
        beams = [one for one in candidates if one[1][-1] != END][:width]
        if len(found) >= width or not beams:
            break
        if len(found) >= options.num_best:
            reach = limit if options.length_penalty > 0 else 1
            bound = beams[0][0] / reach**options.length_penalty
            worst = sorted(score for score, _, _ in found)[-options.num_best]
            if has_ties([bound, worst]):
                return None
            if bound <= worst:
                break
    else:
        if len(found) < options.num_best:
            found += [(total / limit**options.length_penalty, ids, False) for total, ids in beams]
    found.sort(key=lambda one: (not one[2], -one[0]))
    return None if has_ties([one[0] for one in found]) else found[: options.num_best]


def has_ties(numbers: list[float]) -> bool:
    ordered = sorted(numbers)
    return any(above - below < 1e-5 for below, above in itertools.pairwise(ordered))


def assert_ranked(found: list[Hypothesis], expected: list[tuple]) -> None:
    """Compare with (score, ids, ...), best first."""
    assert [tuple(one.ids) for one in found] == [one[1] for one in expected]
    for mine, other in zip(found, expected, strict=True):
        assert mine.score == pytest.approx(other[0], abs=1e-4)


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert_ranked(found, [(one.score, tuple(one.ids)) for one in expected])
    assert [one.is_finished for one in found] == [one.is_finished for one in expected]


def transformer(seed: int, norm: str = "post") -> Transformer:
    """A random network over five tokens; float64, so that no two scores tie by rounding."""
    torch.manual_seed(seed)
    config = replace(
        Transformer.tiny(), vocab_size=VOCAB, pad_token_id=PAD, eos_token_id=END, norm=norm
    )
    return Transformer(config).double().eval()


def encode(model: Transformer, rows: list[list[int]]) -> Memory:
    with torch.no_grad():
        return model.encode(Side.padded(rows, pad_id=PAD))


def next_log_probs(model: Transformer, memory: Memory, prefix: Prefix) -> list[float]:
    """Of one row of memory: the whole prefix at once, without a cache."""
    with torch.no_grad():
        hidden = model.decode(Side.padded([[PAD, *prefix]]), memory)
        return model.logits(hidden)[0, -1].log_softmax(-1).tolist()


def translate(model: Transformer, memory: Memory, options: BeamOptions, **more):
    return beam_search(model, memory, options, start_id=PAD, end_id=END, **more)


SOURCES = st.lists(st.integers(0, VOCAB - 2), min_size=1, max_size=6)


@PENALTIES
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_with_a_beam_for_every_sequence_the_result_is_the_best_of_all(norm, penalty):
    model = transformer(3, norm)
    memory = encode(model, [[0, 2, 3, 1]])
    options = BeamOptions(num_beams=ALL, length_penalty=penalty, max_steps=4)
    tables: dict[Prefix, list[float]] = {}

    def log_probs(prefix: Prefix) -> list[float]:
        if prefix not in tables:
            tables[prefix] = next_log_probs(model, memory, prefix)
        return tables[prefix]

    assert_ranked(translate(model, memory, options)[0], every_result(log_probs, options)[:1])


@PENALTIES
@pytest.mark.parametrize("seed", range(4))
def test_the_n_best_results_are_the_best_n_of_all_in_order(seed, penalty):
    table = Table()
    options = BeamOptions(num_beams=ALL, length_penalty=penalty, max_steps=4, num_best=20)
    expected = every_result(lambda prefix: table.log_probs(seed, prefix), options)
    assert_ranked(search(table, [seed], options)[0], expected[:20])


@PENALTIES
@pytest.mark.parametrize("min_steps", [1, 2, 3])
def test_no_result_ends_before_the_least_number_of_tokens(min_steps, penalty):
    table = Table()
    options = BeamOptions(
        num_beams=ALL, length_penalty=penalty, min_steps=min_steps, max_steps=4, num_best=20
    )
    expected = every_result(lambda prefix: table.log_probs(7, prefix), options)
    found = search(table, [7], options)[0]
    assert_ranked(found, expected[:20])
    assert min(len(one.ids) for one in found) >= min_steps


@pytest.mark.parametrize("max_steps", [1, 2, 3])
def test_all_results_that_fit_the_length_are_found_and_none_that_does_not(max_steps):
    table = Table()
    options = BeamOptions(num_beams=ALL, max_steps=max_steps, num_best=ALL)
    found = search(table, [0], options)[0]
    expected = every_result(lambda prefix: table.log_probs(0, prefix), options)
    assert_ranked([one for one in found if one.is_finished], expected)
    assert all(len(one.ids) == max_steps for one in found if not one.is_finished)


@PENALTIES
def test_scores_are_log_probabilities_over_a_power_of_the_length(penalty):
    table = Table()
    options = BeamOptions(num_beams=4, num_best=4, length_penalty=penalty, max_steps=6)
    for one in search(table, [0], options)[0]:
        tokens = [*one.ids, *([END] if one.is_finished else [])]
        total = sum(
            table.log_probs(0, tuple(tokens[:place]))[token] for place, token in enumerate(tokens)
        )
        assert one.log_probability == pytest.approx(total, abs=1e-4)
        assert one.score == pytest.approx(total / len(tokens) ** penalty, abs=1e-4)


# Greedy takes 0 and then cannot do better than 0.6 * 0.4; the other way gives 0.4 * 0.9.
GARDEN = {
    (): [0.6, 1e-9, 0.4, 1e-9, 1e-9],
    (0,): [0.3, 0.4, 0.3, 1e-9, 1e-9],
    (2,): [0.05, 0.9, 0.05, 1e-9, 1e-9],
}


def test_two_beams_find_what_a_greedy_search_misses():
    options = BeamOptions(num_beams=1, max_steps=2, length_penalty=0.0)
    greedy = search(Table(GARDEN), [0], options)[0][0]
    assert (greedy.ids, greedy.log_probability) == ([0], pytest.approx(math.log(0.24), abs=1e-5))
    wide = search(Table(GARDEN), [0], replace(options, num_beams=2))[0][0]
    assert (wide.ids, wide.log_probability) == ([2], pytest.approx(math.log(0.36), abs=1e-5))


def test_a_result_cut_by_the_longest_length_says_so_and_keeps_its_last_token():
    options = BeamOptions(num_beams=1, max_steps=1)
    found = search(Table(GARDEN), [0], options)[0][0]
    assert found.ids == [0]
    assert not found.is_finished
    assert found.score == pytest.approx(math.log(0.6), abs=1e-5)


def test_a_greater_length_penalty_prefers_the_longer_result():
    # Ending at once has probability 0.4; going on and ending 0.3.
    table = Table({(): [0.6, 0.4, 1e-9, 1e-9, 1e-9], (0,): [0.25, 0.5, 0.25, 1e-9, 1e-9]})
    options = BeamOptions(num_beams=3, max_steps=2, length_penalty=0.0)
    assert search(table, [0], options)[0][0].ids == []
    assert search(table, [0], replace(options, length_penalty=1.0))[0][0].ids == [0]


@pytest.mark.parametrize(("num_best", "num_steps"), [(1, 2), (2, 3)])
def test_a_search_ends_once_no_beam_can_overtake_the_last_result_asked_for(num_best, num_steps):
    # Results 0.4, then 0.18; the best beam is at 0.6, then 0.24, then 0.096.
    table = Table(
        {(): [0.6, 0.4, 0, 0, 0], (0,): [0.4, 0.3, 0.3, 0, 0], (0, 0): [0.4, 0, 0.3, 0.3, 0]}
    )
    options = BeamOptions(num_beams=3, num_best=num_best, length_penalty=0.0, max_steps=9)
    steps: list[BeamStep] = []
    found = search(table, [0], options, observer=steps.append)[0]
    assert [one.ids for one in found] == [[], [0]][:num_best]
    assert len(steps) == num_steps


def test_a_row_is_done_when_it_has_as_many_results_as_beams():
    # Going on would give a better result: 0.9 and then 0.99 for a length of two.
    table = Table({(): [0.45, 0.55, 0, 0, 0], (0,): [0.01, 0.99, 0, 0, 0]})
    options = BeamOptions(num_beams=1, length_penalty=1.0, max_steps=9)
    steps: list[BeamStep] = []
    assert search(table, [0], options, observer=steps.append)[0][0].ids == []
    assert len(steps) == 1


def test_a_search_with_nowhere_to_go_gives_what_it_has():
    options = BeamOptions(num_beams=3, num_best=3, max_steps=9)
    steps: list[BeamStep] = []
    found = search(Table({(): [0, 1, 0, 0, 0]}), [0], options, observer=steps.append)[0]
    assert found == [Hypothesis([], 0.0, 0.0)]
    assert len(steps) == 1


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, -0.5])
@pytest.mark.parametrize("num_beams", [1, 2, 3, 4, 5])
def test_a_search_of_any_width_is_the_one_described(num_beams, penalty):
    table = Table()
    seeds = range(8)
    for num_best, min_steps, max_steps in itertools.product(
        range(1, num_beams + 1), (0, 1, 3), (3, 6)
    ):
        options = BeamOptions(
            num_beams=num_beams,
            num_best=num_best,
            length_penalty=penalty,
            min_steps=min_steps,
            max_steps=max_steps,
        )
        for seed, found in zip(seeds, search(table, seeds, options), strict=True):
            expected = slow_search(table, seed, options, max_steps)
            if expected is not None:
                assert_ranked(found, expected)
                assert [one.is_finished for one in found] == [one[2] for one in expected]


@given(
    seeds=st.lists(st.integers(0, 50), min_size=1, max_size=24),
    num_beams=st.integers(1, 5),
    penalty=st.sampled_from([0.0, 0.6, 1.0]),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_a_row_finds_the_same_alone_as_in_any_batch(seeds, num_beams, penalty, data):
    table = Table()
    num_best = data.draw(st.integers(1, num_beams))
    options = BeamOptions(
        num_beams=num_beams, num_best=num_best, length_penalty=penalty, max_steps=6
    )
    for seed, found in zip(seeds, search(table, seeds, options), strict=True):
        assert_same(found, search(table, [seed], options)[0])


@given(
    rows=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 6)), min_size=1, max_size=20),
    num_beams=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_each_row_keeps_to_its_own_longest_length(rows, num_beams):
    table = Table()
    options = BeamOptions(num_beams=num_beams, max_steps=6)
    seeds, limits = [seed for seed, _ in rows], torch.tensor([limit for _, limit in rows])
    together = search(table, seeds, options, limits=limits)
    for (seed, limit), found in zip(rows, together, strict=True):
        assert_same(found, search(table, [seed], replace(options, max_steps=limit))[0])
        assert len(found[0].ids) + found[0].is_finished <= limit


@given(rows=st.lists(SOURCES, min_size=1, max_size=6), num_beams=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_a_sentence_is_translated_the_same_alone_as_in_any_batch(rows, num_beams):
    model = transformer(0)
    options = BeamOptions(num_beams=num_beams, num_best=num_beams, max_steps=6)
    together = translate(model, encode(model, rows), options)
    for row, found in zip(rows, together, strict=True):
        assert_same(found, translate(model, encode(model, [row]), options)[0])


def greedy(log_probs, *, min_steps: int, max_steps: int) -> tuple[float, Prefix, bool]:
    ids: Prefix = ()
    total = 0.0
    for step in range(1, max_steps + 1):
        row = log_probs(ids)
        allowed = [token for token in range(VOCAB) if token != END or step > min_steps]
        best = max(allowed, key=row.__getitem__)
        total += row[best]
        if best == END:
            return total / step, ids, True
        ids = (*ids, best)
    return total / max_steps, ids, False


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("min_steps", [0, 2, 5])
def test_one_beam_is_a_greedy_loop_over_the_full_forward(norm, min_steps):
    model = transformer(1, norm)
    rows = [[0, 2, 3, 1], [3], [2, 2], [1, 0, 3, 3, 2]]
    options = BeamOptions(num_beams=1, min_steps=min_steps, max_steps=8)
    together = translate(model, encode(model, rows), options)
    for row, found in zip(rows, together, strict=True):
        memory = encode(model, [row])
        expected = greedy(
            lambda prefix, memory=memory: next_log_probs(model, memory, prefix),
            min_steps=min_steps,
            max_steps=8,
        )
        assert_ranked(found, [expected])
        assert found[0].is_finished == expected[2]


def observe(table: Table, seeds: list[int], options: BeamOptions, **more):
    steps: list[BeamStep] = []
    results = search(table, seeds, options, observer=steps.append, **more)
    return steps, results


OBSERVED = {
    "seeds": st.lists(st.integers(0, 50), min_size=1, max_size=20),
    "num_beams": st.integers(1, 6),
}


@given(**OBSERVED)
@settings(max_examples=25, deadline=None)
def test_what_the_observer_sees_retells_the_search(seeds, num_beams):
    table = Table()
    options = BeamOptions(num_beams=num_beams, num_best=num_beams, max_steps=5)
    steps, results = observe(table, seeds, options)
    beams: dict[int, list[Prefix]] = {row: [()] for row in range(len(seeds))}
    ended: dict[int, list[tuple[Prefix, float]]] = {row: [] for row in range(len(seeds))}
    for step in steps:
        for place, row in enumerate(step.rows.tolist()):
            before, beams[row] = beams[row], []
            columns = (step.parents, step.tokens, step.scores, step.kept, step.finished)
            for parent, token, score, kept, finished in zip(
                *(column[place].tolist() for column in columns), strict=True
            ):
                if kept:
                    beams[row].append((*before[parent], token))
                if finished:
                    assert token == END
                    ended[row].append((before[parent], score))
    for row, found in enumerate(results):
        # All that ended was offered; the results are the best of it.
        for one in found:
            if one.is_finished:
                assert (tuple(one.ids), one.log_probability) in ended[row]
            else:
                assert tuple(one.ids) in beams[row]


@given(**OBSERVED)
@settings(max_examples=25, deadline=None)
def test_at_each_step_candidates_are_ranked_and_none_is_both_kept_and_finished(seeds, num_beams):
    options = BeamOptions(num_beams=num_beams, max_steps=5)
    steps, _ = observe(Table(), seeds, options)
    for step in steps:
        num_candidates = step.scores.shape[1]
        assert num_candidates <= 2 * num_beams
        shape = (len(step.rows), num_candidates)
        for tensor in (step.parents, step.tokens, step.kept, step.finished):
            assert tensor.shape == shape
        assert (step.scores[:, 1:] <= step.scores[:, :-1]).all()
        assert not (step.kept & step.finished).any()
        assert step.scores[step.kept | step.finished].isfinite().all()
        assert (step.kept.sum(1) <= num_beams).all()
        assert not (step.kept & (step.tokens == END)).any()
        assert not step.finished[:, num_beams:].any()


@pytest.mark.parametrize("num_rows", [1, 3, 20])
@pytest.mark.parametrize("num_short", [1, 5])
def test_the_observer_is_shown_each_row_until_it_is_done_and_not_after(num_rows, num_short):
    limits = [2] * min(num_rows, num_short) + [5] * (num_rows - num_short)
    options = BeamOptions(num_beams=2, min_steps=5, max_steps=5)
    steps, _ = observe(Table(), list(range(num_rows)), options, limits=torch.tensor(limits))
    assert len(steps) == max(limits)
    for number, step in enumerate(steps, 1):
        assert step.rows.tolist() == [row for row in range(num_rows) if limits[row] >= number]


@pytest.mark.parametrize("num_rows", [3, 20])
def test_everything_that_the_observer_sees_finish_is_a_result(num_rows):
    # Every row would end at its second token, but the first row must stop at its first.
    table = Table({(): [0.9, 0.1 - 3e-9, 1e-9, 1e-9, 1e-9], (0,): [0.1, 0.9, 1e-9, 1e-9, 1e-9]})
    options = BeamOptions(num_beams=1, max_steps=3)
    limits = torch.tensor([1] + [3] * (num_rows - 1))
    steps, results = observe(table, [0] * num_rows, options, limits=limits)
    seen = [row for step in steps for row in step.rows[step.finished.any(1)].tolist()]
    assert seen == [row for row, found in enumerate(results) if found[0].is_finished]


def test_watching_a_search_does_not_change_it():
    options = BeamOptions(num_beams=3, num_best=3, max_steps=5)
    _, watched = observe(Table(), [1, 2, 3], options)
    assert watched == search(Table(), [1, 2, 3], options)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"num_beams": 0, "num_best": 0}, "num_beams is 0"),
        ({"num_beams": -1, "num_best": -1}, "num_beams is -1"),
        ({"num_best": 0}, "num_best is 0"),
        ({"num_beams": 2, "num_best": 3}, "num_best is 3"),
        ({"max_steps": 0}, "max_steps 0"),
        ({"min_steps": 9, "max_steps": 8}, "min_steps is 9"),
        ({"min_steps": -1}, "min_steps is -1"),
        ({"length_penalty": math.nan}, "length_penalty is nan"),
        ({"length_penalty": math.inf}, "length_penalty is inf"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name_and_value(values, named):
    with pytest.raises(ConfigError, match=named):
        BeamOptions(**values)


def test_all_problems_of_the_options_are_told_together():
    with pytest.raises(ConfigError) as caught:
        BeamOptions(num_beams=0, max_steps=0, length_penalty=math.nan)
    for name in ("num_beams", "num_best", "max_steps", "length_penalty"):
        assert name in str(caught.value)


def test_the_least_of_every_option_is_allowed():
    options = BeamOptions(num_beams=1, num_best=1, min_steps=0, max_steps=1, length_penalty=0.0)
    assert search(Table(), [0], options)[0]


def test_no_rows_have_no_results():
    assert search(Table(), [], BeamOptions()) == []
