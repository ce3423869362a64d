"""BLEU, chrF, exact match and perplexity of generated text."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from headway.errors import DataError
from headway.metrics.generated import (
    bleu_statistics,
    chrf_statistics,
    exact_match_statistics,
    perplexity,
)

SCORES = (bleu_statistics, chrf_statistics, exact_match_statistics)
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat,", "tree.", "river", "and", "then"]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=4, max_size=9).map(" ".join)
CORPUS = st.lists(SENTENCES, min_size=1, max_size=6)


def corpus(rows: int, seed: int = 0, most: int = 1) -> tuple[list[str], list[list[str]]]:
    """Make predictions and one to `most` references that resemble them."""
    source = random.Random(seed)
    predictions, references = [], []
    for _ in range(rows):
        words = source.choices(WORDS, k=source.randint(3, 15))
        predictions.append(" ".join(words))
        references.append(
            [
                " ".join(word if source.random() < 0.8 else source.choice(WORDS) for word in words)
                for _ in range(source.randint(1, most))
            ]
        )
    return predictions, references


@pytest.mark.parametrize(("ours", "theirs"), [(bleu_statistics, BLEU), (chrf_statistics, CHRF)])
def test_one_reference_equals_sacrebleu(ours, theirs):
    predictions, references = corpus(40)
    metric = theirs()
    expected = metric.corpus_score(predictions, [[texts[0] for texts in references]])
    score = ours(predictions, references)
    assert score.value() == pytest.approx(expected.score, abs=1e-6)
    assert score.signature == str(metric.get_signature())
    assert "nrefs:1|" in score.signature


@pytest.mark.parametrize(("ours", "theirs"), [(bleu_statistics, BLEU), (chrf_statistics, CHRF)])
def test_a_varying_number_of_references_equals_sacrebleu(ours, theirs):
    predictions, references = corpus(40, most=3)
    streams = [[dict(enumerate(texts)).get(i) for texts in references] for i in range(3)]
    expected = theirs().corpus_score(predictions, streams)
    score = ours(predictions, references)
    assert score.value() == pytest.approx(expected.score, abs=1e-6)
    assert "nrefs:var" in score.signature


@pytest.mark.parametrize(
    ("ours", "theirs", "width"), [(bleu_statistics, BLEU, 10), (chrf_statistics, CHRF, 18)]
)
def test_statistics_of_any_rows_give_the_score_of_these_rows(ours, theirs, width):
    predictions, references = corpus(30, seed=1)
    statistics = ours(predictions, references)
    assert statistics.rows.shape == (30, width)
    chosen = [3, 3, 7, 0, 29, 12]
    expected = theirs().corpus_score(
        [predictions[i] for i in chosen], [[references[i][0] for i in chosen]]
    )
    value = statistics.score(statistics.rows[chosen].sum(axis=0))
    assert value == pytest.approx(expected.score, abs=1e-6)


def test_bleu_statistics_by_hand():
    statistics = bleu_statistics(["the cat sat on a mat"], [["the cat sat on the mat"]])
    # Lengths; matching and all n-grams: "a" breaks one word, two pairs, two triples, two fours.
    assert statistics.rows.tolist() == [[6, 6, 5, 3, 2, 1, 6, 5, 4, 3]]
    precisions = (5 / 6) * (3 / 5) * (2 / 4) * (1 / 3)
    assert statistics.value() == pytest.approx(100 * precisions**0.25)


def test_bleu_without_any_four_words_is_zero():
    assert bleu_statistics(["yes", "no thanks"], [["yes"], ["no thanks"]]).value() == pytest.approx(
        0
    )


def test_chrf_without_any_letter_is_zero():
    assert chrf_statistics([""], [["cat"]]).value() == 0
    assert chrf_statistics(["cat"], [[""]]).value() == 0


def test_exact_match_is_per_cent_of_rows_and_ignores_outer_white_space():
    predictions = [" Paris\n", "paris", "in  Paris", "Rome"]
    references = [["Paris"], ["Paris"], ["Paris", "in Paris"], ["Milan", "Rome "]]
    score = exact_match_statistics(predictions, references)
    assert (score.name, score.value(), score.signature) == ("exact_match", 50.0, "")


@settings(max_examples=30, deadline=None)
@given(texts=CORPUS)
def test_identical_text_scores_100(texts):
    for score in SCORES:
        assert score(texts, [[text] for text in texts]).value() == pytest.approx(100)


@settings(max_examples=30, deadline=None)
@given(predictions=CORPUS, data=st.data())
def test_the_order_of_rows_does_not_matter(predictions, data):
    references = [data.draw(st.lists(SENTENCES, min_size=1, max_size=2)) for _ in predictions]
    order = data.draw(st.permutations(range(len(predictions))))
    for score in SCORES:
        before = score(predictions, references).value()
        after = score([predictions[i] for i in order], [references[i] for i in order]).value()
        assert 0 <= before <= 100 + 1e-9
        assert after == before


@pytest.mark.parametrize("score", SCORES)
def test_a_different_number_of_rows_is_an_error(score):
    with pytest.raises(DataError, match="2 predictions, but 1 references"):
        score(["a", "b"], [["a"]])


@pytest.mark.parametrize("score", SCORES)
def test_no_rows_are_an_error(score):
    with pytest.raises(DataError, match="no row to score"):
        score([], [])


@pytest.mark.parametrize("score", SCORES)
def test_all_rows_without_a_list_of_references_are_named(score):
    with pytest.raises(DataError, match=r"references\[1\] is empty; references\[2\] is a string"):
        score(["a", "b", "c"], [["a"], [], "c"])


def test_perplexity_by_hand():
    assert perplexity(0.0) == 1.0
    # A uniform choice among 50 words costs log 50 nats.
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(2) == pytest.approx(math.e**2)


@pytest.mark.filterwarnings("error")
def test_perplexity_is_infinite_without_a_warning_where_it_overflows():
    assert perplexity(1e6) == math.inf
    assert perplexity(np.float64(1e308)) == math.inf
    assert perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_import_brings_neither_torch_nor_sacrebleu():
    code = (
        "import sys, headway.metrics.generated; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'sacrebleu')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
