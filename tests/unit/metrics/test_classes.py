"""Scores of classes and numbers equal scikit-learn's and scipy's definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import DataError
from headway.metrics import classes
from headway.metrics.intervals import bootstrap

sklearn = pytest.importorskip("sklearn.metrics")

NAMES = ("a", "b", "c", "d")
labels = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=40
)
numbers = st.lists(
    st.tuples(st.integers(-5, 5), st.floats(-3, 3, width=32)), min_size=2, max_size=40
)


def sides(pairs):
    return [list(side) for side in zip(*pairs, strict=True)]


@given(labels)
def test_classes_as_scikit_learn_scores_them(pairs):
    said, wanted = sides(pairs)
    occurring = sorted(set(said) | set(wanted))
    ones = [[x] for x in said], [[x] for x in wanted]

    def ours(average):
        return classes.class_statistics(*ones, NAMES, average=average).value()

    def theirs(average):
        return sklearn.f1_score(wanted, said, average=average, labels=occurring, zero_division=0)

    assert classes.accuracy_statistics(said, wanted).value() == pytest.approx(
        100 * sklearn.accuracy_score(wanted, said)
    )
    assert ours("macro") == pytest.approx(100 * theirs("macro"))
    assert ours("micro") == pytest.approx(100 * theirs("micro"))
    assert classes.matthews_statistics(*ones, NAMES).value() == pytest.approx(
        100 * sklearn.matthews_corrcoef(wanted, said), abs=1e-9
    )
    matrix = sklearn.confusion_matrix(wanted, said, labels=NAMES)
    assert (classes.confusion_matrix(said, wanted, NAMES) == matrix).all()
    table = sklearn.precision_recall_fscore_support(wanted, said, labels=NAMES, zero_division=0)
    for number, score in enumerate(classes.class_scores(*ones, NAMES)):
        found = (score.precision, score.recall, score.f1)
        assert found == pytest.approx(tuple(100 * column[number] for column in table[:3]))
        assert score.support == table[3][number]


sets = st.sets(st.sampled_from(NAMES))


@given(st.lists(st.tuples(sets, sets), min_size=1, max_size=30))
def test_several_classes_a_row_as_scikit_learn_scores_them(pairs):
    said, wanted = ([sorted(names) for names in side] for side in zip(*pairs, strict=True))

    def table(rows):
        return np.array([[name in row for name in NAMES] for row in rows])

    ours = classes.class_statistics(said, wanted, NAMES, average="micro").value()
    theirs = sklearn.f1_score(table(wanted), table(said), average="micro", zero_division=0)
    assert ours == pytest.approx(100 * theirs)


@given(numbers)
def test_correlations_as_scipy_computes_them(pairs):
    stats = pytest.importorskip("scipy.stats")
    x, y = sides(pairs)
    if np.ptp(x) == 0 or np.ptp(y) < 1e-3:
        return
    for kind, theirs in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        ours = classes.correlation_statistics(x, y, kind=kind).value()
        assert ours == pytest.approx(100 * theirs(x, y).statistic, abs=1e-6), kind


def test_numbers_that_do_not_vary_have_no_correlation():
    assert classes.correlation_statistics([1, 1, 1], [1, 2, 3], kind="pearson").value() == 0


def test_squared_errors():
    found = classes.squared_error_statistics([1.0, 2.0], [0.0, 4.0])
    assert found.value() == pytest.approx(2.5)


def test_intervals_hold_the_score():
    random = np.random.default_rng(0)
    wanted = random.choice(NAMES, 200).tolist()
    said = [x if random.random() < 0.7 else "a" for x in wanted]
    ones = [[x] for x in said], [[x] for x in wanted]
    for statistics in classes.compare_classes(*ones, NAMES, ("accuracy", "matthews", "macro_f1")):
        interval = bootstrap(statistics)
        assert interval.low < statistics.value() < interval.high


@pytest.mark.parametrize(("said", "wanted"), [([], []), (["a"], ["a", "b"])])
def test_rows_must_match(said, wanted):
    with pytest.raises(DataError):
        classes.accuracy_statistics(said, wanted)
