"""The bag of words equals scikit-learn's pipeline, and holds in odd cases."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headway.data.read import Records, read_records
from headway.errors import DataError
from headway.metrics.baseline import BAG_OF_WORDS, predict_classes, predict_several
from headway.tasks._task import HasBaseline
from headway.tasks.classification import Classification
from headway.tasks.regression import Regression
from headway.train.baseline import write_baseline

text = pytest.importorskip("sklearn.feature_extraction.text")
linear_model = pytest.importorskip("sklearn.linear_model")

NOUNS = ("cat", "dog", "bird", "tree", "river", "house")


def sample(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Draw texts whose class is that of most of their words, with some noise."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        group = int(generator.integers(3))
        odds = np.where(np.arange(6) // 2 == group, 4.0, 1.0)
        texts.append(" ".join(generator.choice(NOUNS, size=5, p=odds / odds.sum())))
        labels.append("abc"[group])
    return texts, labels


TRAIN, LABELS = sample(60, 1)
ASKED, _ = sample(40, 2)


def by_hand(train: list[str], labels, asked: list[str]) -> np.ndarray:
    """Give the probabilities of a pipeline that is put together by hand."""
    words = text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[!?]")
    seen = words.fit_transform(train)
    model = linear_model.LogisticRegression(C=10.0, max_iter=300).fit(seen, labels)
    found = model.predict_proba(words.transform(asked))
    assert list(model.classes_) == sorted(set(labels))
    return found


# one class a text


def test_classes_are_those_of_the_pipeline():
    wanted = np.array(["a", "b", "c"])[by_hand(TRAIN, LABELS, ASKED).argmax(1)]
    assert predict_classes(TRAIN, LABELS, ASKED) == wanted.tolist()
    assert len(set(wanted.tolist())) == 3


def test_classes_come_as_plain_texts():
    found = predict_classes(TRAIN, LABELS, ASKED[:1])
    assert json.loads(json.dumps(found)) == found
    assert type(found[0]) is str


def test_pairs_of_words_tell_what_single_words_do_not():
    train = ["not good", "good not bad", "bad", "not bad at good"] * 5
    labels = ["no", "yes", "no", "yes"] * 5
    assert predict_classes(train, labels, ["not bad", "not good"]) == ["yes", "no"]


def test_one_letter_and_marks_are_words():
    assert predict_classes(["a", "b"] * 4, ["x", "y"] * 4, ["b", "a"]) == ["y", "x"]
    assert predict_classes(["so !", "so ?"] * 4, ["x", "y"] * 4, ["?", "!"]) == ["y", "x"]


def test_where_all_have_one_class_it_is_the_answer():
    assert predict_classes(["one", "two"], ["x", "x"], ["three", "", "one"]) == ["x"] * 3


def test_unknown_words_get_some_class():
    (found,) = predict_classes(TRAIN, LABELS, ["rhinoceros"])
    assert found in "abc"


# several classes a text


def several(labels: list[str]) -> list[list[str]]:
    """Give "c" both others beside it in turn, and some texts none."""
    sets = [{"a": ["a"], "b": ["b", "a"], "c": ["c"]}[label] for label in labels]
    return [[] if number % 7 == 0 else names for number, names in enumerate(sets)]


def test_each_class_is_decided_by_a_pipeline_of_its_own():
    wanted = several(LABELS)
    probabilities = [
        by_hand(TRAIN, [int(name in names) for names in wanted], ASKED)[:, 1] for name in "abc"
    ]
    rows = [
        [name for name, p in zip("abc", row, strict=True) if p > 0.5]
        for row in np.stack(probabilities, 1)
    ]
    assert predict_several(TRAIN, wanted, ASKED) == rows
    assert {len(row) for row in rows} >= {0, 1, 2}


def test_what_all_texts_have_is_always_given():
    wanted = [sorted({"always", label}) for label in LABELS]
    found = predict_several(TRAIN, wanted, ASKED)
    assert all("always" in names for names in found)
    rest = [[name for name in names if name != "always"] for names in found]
    assert rest == predict_several(TRAIN, [[label] for label in LABELS], ASKED)


def test_where_nothing_varies_nothing_is_learned():
    assert predict_several(["one", "two"], [["x"], ["x"]], ["three"] * 3) == [["x"]] * 3


def test_where_no_text_has_a_class_none_is_given():
    assert predict_several(["one", "two"], [[], []], ["three"]) == [[]]


def test_a_single_class_that_some_have_is_learned():
    wanted = [["a"] if label == "a" else [] for label in LABELS]
    ones = by_hand(TRAIN, [len(names) for names in wanted], ASKED)[:, 1]
    assert predict_several(TRAIN, wanted, ASKED) == [["a"] if p > 0.5 else [] for p in ones]


# of a task, and of a run


def rows_of(texts, labels) -> list[dict]:
    return [{"text": one, "label": label} for one, label in zip(texts, labels, strict=True)]


def test_a_classifier_has_a_baseline_of_its_rows():
    found = Classification().baseline(rows_of(TRAIN, LABELS), rows_of(ASKED, ["a"] * 40))
    assert found.name == BAG_OF_WORDS
    said = [answer["prediction"] for answer in found.predictions]
    assert said == predict_classes(TRAIN, LABELS, ASKED)


def test_both_texts_of_a_pair_are_read():
    train = [{"text": "so", "text_pair": word, "label": word} for word in ("cat", "dog")] * 4
    asked = [{"text": "so", "text_pair": word, "label": "cat"} for word in ("dog", "cat")]
    found = Classification().baseline(train, asked)
    assert [answer["prediction"] for answer in found.predictions] == ["dog", "cat"]


def test_labels_that_are_numbers_are_names():
    train = rows_of(["cat", "dog"] * 4, [3, "10"] * 4)
    found = Classification().baseline(train, rows_of(["dog", "cat"], [3, 3]))
    assert [answer["prediction"] for answer in found.predictions] == ["10", "3"]


def test_a_regression_has_none():
    assert not isinstance(Regression(), HasBaseline)


def records(folder, rows) -> Records:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_records([path], columns=("text", "label"))


def test_a_run_writes_its_scores_down(tmp_path):
    sklearn = pytest.importorskip("sklearn.metrics")
    asked, right = sample(40, 2)
    train, valid = records(tmp_path, rows_of(TRAIN, LABELS)), None
    valid = records(tmp_path, rows_of(asked, right))
    note = write_baseline(Classification(), train, valid, tmp_path)
    said = predict_classes(TRAIN, LABELS, asked)
    found = json.loads((tmp_path / "baseline.json").read_text())
    accuracy = 100 * sklearn.accuracy_score(right, said)
    assert found["name"] == BAG_OF_WORDS
    assert found["scores"]["accuracy"] == pytest.approx(accuracy)
    assert found["scores"]["macro_f1"] == pytest.approx(
        100 * sklearn.f1_score(right, said, average="macro")
    )
    assert f"accuracy {accuracy:.2f}" in (note or "")


def test_texts_without_a_word_spoil_no_run(tmp_path):
    rows = records(tmp_path, rows_of(["...", "--"], ["a", "b"]))
    note = write_baseline(Classification(), rows, rows, tmp_path)
    assert (note or "").startswith("no baseline: ")
    assert not (tmp_path / "baseline.json").exists()


def test_without_validation_data_there_is_nothing_to_compare_with(tmp_path):
    rows = records(tmp_path, rows_of(TRAIN, LABELS))
    assert write_baseline(Classification(), rows, None, tmp_path) is None
    assert not (tmp_path / "baseline.json").exists()


def test_records_of_no_row_are_an_error_before_all_this(tmp_path):
    with pytest.raises(DataError):
        records(tmp_path, [])
