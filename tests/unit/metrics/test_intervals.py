"""Bootstrap intervals, and the paired test of two systems."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest as SacrebleuTest
from sacrebleu.significance import Result

from headway.errors import DataError
from headway.metrics.generated import bleu_statistics, exact_match_statistics
from headway.metrics.intervals import Statistics, bootstrap, paired_bootstrap

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "tree", "river", "and", "then"]
HITS = st.lists(st.booleans(), min_size=1, max_size=30)


def mean_of(values, name: str = "mean") -> Statistics:
    """The mean of some numbers, the simplest score there is."""
    rows = np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)
    return Statistics(name=name, rows=rows, score=lambda sums: float(sums[0] / sums[1]))


def noisy(references: list[str], share: float, seed: int) -> list[str]:
    """Replace this share of the words by others."""
    source = random.Random(seed)
    return [
        " ".join(source.choice(WORDS) if source.random() < share else word for word in text.split())
        for text in references
    ]


def sentences(rows: int, seed: int = 0) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(5, 20))) for _ in range(rows)]


def bleu_of(predictions: list[str], references: list[str]) -> Statistics:
    return bleu_statistics(predictions, [[text] for text in references])


def test_interval_is_near_sacrebleus():
    references = sentences(150)
    predictions = noisy(references, 0.3, seed=1)
    theirs = BLEU().corpus_score(predictions, [references], n_bootstrap=1000)
    ours = bootstrap(bleu_of(predictions, references), seed=3)
    assert (ours.high - ours.low) / 2 == pytest.approx(theirs._ci, rel=0.15)
    assert (ours.high + ours.low) / 2 == pytest.approx(theirs._mean, abs=0.5)
    assert ours.low < theirs.score < ours.high


def test_interval_of_a_mean_is_the_one_of_the_textbook():
    values = np.random.default_rng(0).normal(10, 2, size=400)
    interval = bootstrap(mean_of(values), samples=4000)
    error = values.std() / 20
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


def test_draws_do_not_depend_on_how_they_are_cut_into_chunks(monkeypatch):
    first, second = mean_of(range(50)), mean_of(np.arange(50) % 7)
    whole = (bootstrap(first), paired_bootstrap(first, second, samples=200))
    monkeypatch.setattr("headway.metrics.intervals.CHUNK_DRAWS", 333)
    assert (bootstrap(first), paired_bootstrap(first, second, samples=200)) == whole


def test_the_seed_decides():
    values = mean_of(np.random.default_rng(0).random(50))
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5)
    assert bootstrap(values, seed=5) != bootstrap(values, seed=6)


def test_one_row_leaves_nothing_to_draw():
    interval = bootstrap(mean_of([7.0]), samples=10)
    assert interval.low == interval.high == 7.0


def test_1000_draws_of_1000_sentences_take_less_than_a_second():
    references = sentences(1000)
    statistics = bleu_of(noisy(references, 0.3, seed=1), references)
    start = time.process_time()
    bootstrap(statistics, samples=1000)
    assert time.process_time() - start < 1.0


@settings(max_examples=30, deadline=None)
@given(hits=HITS)
def test_interval_contains_the_score_and_lies_in_its_range(hits):
    predictions = ["yes" if hit else "no" for hit in hits]
    statistics = exact_match_statistics(predictions, [["yes"]] * len(hits))
    interval = bootstrap(statistics, samples=300)
    assert 0 <= interval.low <= statistics.value() <= interval.high <= 100


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_paired_results_are_consistent(pairs):
    first, second = (mean_of([pair[side] for pair in pairs]) for side in (0, 1))
    result = paired_bootstrap(first, second, samples=100)
    assert 0 < result.p_value <= 1
    assert result.difference == result.first - result.second
    assert result.low <= result.difference <= result.high
    back = paired_bootstrap(second, first, samples=100)
    assert back.difference == -result.difference
    assert back.p_value == result.p_value
    assert (back.low, back.high) == pytest.approx((-result.high, -result.low))


@settings(max_examples=20, deadline=None)
@given(hits=HITS)
def test_a_system_does_not_differ_from_itself(hits):
    result = paired_bootstrap(mean_of(hits), mean_of(hits), samples=50)
    assert (result.difference, result.low, result.high) == (0, 0, 0)
    assert result.p_value == 1


def test_bleu_of_a_system_does_not_differ_from_itself():
    references = sentences(20)
    statistics = bleu_of(noisy(references, 0.3, seed=1), references)
    result = paired_bootstrap(statistics, statistics, samples=100)
    assert (result.name, result.difference, result.p_value) == ("bleu", 0, 1)


def test_a_clear_difference_is_significant():
    references = sentences(100)
    good, bad = (bleu_of(noisy(references, share, seed=2), references) for share in (0.1, 0.5))
    result = paired_bootstrap(good, bad, samples=500)
    assert result.first == good.value()
    assert result.second == bad.value()
    assert result.p_value == pytest.approx(1 / 501)
    assert 0 < result.low < result.difference < result.high


def close_systems() -> tuple[list[str], list[str], list[str]]:
    references = sentences(80)
    return noisy(references, 0.30, seed=3), noisy(references, 0.35, seed=4), references


def sacrebleu_p_value(kind: str) -> float:
    first, second, references = close_systems()
    systems: list[tuple[str, Sequence[str]]] = [("first", first), ("second", second)]
    test = SacrebleuTest(systems, {"BLEU": BLEU()}, [references], kind, n_samples=2000)
    result = test()[1]["BLEU"][1]
    assert isinstance(result, Result)
    assert result.p_value is not None
    return result.p_value


def test_bootstrap_p_value_is_two_sided_where_sacrebleus_is_one_sided():
    first, second, references = close_systems()
    ours = paired_bootstrap(bleu_of(first, references), bleu_of(second, references), samples=2000)
    theirs = sacrebleu_p_value("bs")
    assert 1.3 * theirs < ours.p_value < 4 * theirs


def test_equal_systems_differ_significantly_in_one_comparison_of_twenty():
    chance = np.random.default_rng(0)
    trials, wrong = 400, 0
    for seed in range(trials):
        first, second = (mean_of(chance.random(150) < 0.5) for _ in range(2))
        wrong += paired_bootstrap(first, second, samples=200, seed=seed).p_value <= 0.05
    # Three standard errors around 5 per cent; sacreBLEU's bootstrap convention gives 11.
    assert 0.015 < wrong / trials < 0.083


def test_a_score_that_is_no_number_is_not_significant():
    broken = replace(mean_of([1, 2, 3]), score=lambda sums: float("nan"))
    assert paired_bootstrap(broken, mean_of([1, 2, 3]), samples=20).p_value == 1


def test_systems_that_cannot_be_compared_are_an_error():
    with pytest.raises(DataError, match="metrics differ: mean and other; the systems have 2 and 3"):
        paired_bootstrap(mean_of([1, 2]), mean_of([1, 2, 3], name="other"))
