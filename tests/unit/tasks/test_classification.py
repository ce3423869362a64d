"""Classes and numbers of whole texts: labels by name, pairs as published, heads kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from encoders import make_encoder, make_tokenizer
from headway import recipe as recipes
from headway.errors import DataError
from headway.files.folder import make_body
from headway.tasks._examples import encode_texts
from headway.tasks._labels import label_names, order_labels
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks._task import Setting
from headway.tasks.classification import Classification
from headway.tasks.regression import Regression
from headway.train.material import find_material

FAMILIES = ("bert", "roberta", "albert", "distilbert")
PAIRS = [
    {"text": "the cat sat on the mat", "text_pair": "a bird"},
    {"text": "a bird", "text_pair": "unhappy dogs the cat sat"},
    {"text": "dogs", "text_pair": "the"},
]


def make(architecture: str = "bert", task=None, labels=("no", "yes"), **sizes) -> Model:
    task = task or Classification()
    base = make_encoder(architecture, **sizes)
    torch.manual_seed(3)
    body = make_body(architecture, base.body.config, task.head).eval()
    head = task.make_head(body, labels).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return Model(
        body,
        base.tokenizer,
        task,
        task_name="regression" if isinstance(task, Regression) else "classification",
        architecture=architecture,
        head=head,
        labels=labels,
    )


# labels


def test_classes_are_in_order_of_size_or_of_the_alphabet():
    assert order_labels(["b", "a", "b"]) == ("a", "b")
    assert order_labels(["10", "9", "-1", "x"]) == ("-1", "9", "10", "x")


@pytest.mark.parametrize(
    ("value", "several", "names"),
    [
        ("good", False, ["good"]),
        (3, False, ["3"]),
        (["a", "b"], True, ["a", "b"]),
        ("a|b c", True, ["a", "b c"]),
        ([], True, []),
        ("", True, []),
    ],
)
def test_labels_are_words_or_numbers(value, several, names):
    assert label_names(value, several=several) == names


@pytest.mark.parametrize(
    ("value", "several"),
    [(True, False), (1.5, False), (None, False), ("  ", False), (["a"], False), ([1.5], True)],
)
def test_other_labels_are_refused(value, several):
    with pytest.raises(ValueError, match="label is"):
        label_names(value, several=several)


def material(tmp_path: Path, train: list, valid: list, *, task: str = "classification", **data):
    for name, rows in (("train", train), ("valid", valid)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {name: [str(tmp_path / f"{name}.jsonl")] for name in ("train", "valid")}
    recipe = recipes.read(recipes.find("classify"), {"data": files | data, "task": {"name": task}})
    return find_material(recipe, Classification() if task == "classification" else Regression())


ROWS = [{"text": "good", "label": "yes"}, {"text": "bad", "label": "no"}]


def test_a_class_that_was_never_trained_is_named_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"valid\.jsonl, line 2: label 'maybe' is none of"):
        material(tmp_path, ROWS, [ROWS[0], {"text": "so", "label": "maybe"}])


def test_a_label_of_another_type_is_named_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl, line 3: label is 0\.5, but must be a word"):
        material(tmp_path, [*ROWS, {"text": "so", "label": 0.5}], ROWS)


def test_bad_labels_are_skipped_where_that_is_asked_for(tmp_path):
    rows = [*ROWS, {"text": "so", "label": {}}]
    found = material(tmp_path, rows, ROWS, **{"skip-bad": True})
    assert found.labels == ("no", "yes")


@pytest.mark.parametrize("value", ["high", None, "nan", [1], True])
def test_a_number_that_is_none_is_refused(value, tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": value}]
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: label"):
        material(tmp_path, rows, rows, task="regression")


def test_numbers_outside_of_the_bounds_are_refused():
    task = Regression(low=-1, high=1)
    assert task.check_row({"label": 2}, None) is not None
    assert task.check_row({"label": "0.5"}, None) is None


# examples


@pytest.mark.parametrize("architecture", FAMILIES)
def test_pairs_are_laid_out_as_the_tokenizer_does(architecture):
    tokenizer = make_tokenizer(architecture)
    setting = Setting(tokenizer=tokenizer, max_tokens=64)
    found = encode_texts(PAIRS, setting, max_tokens=64, keep="head").examples
    for example, row in zip(found, PAIRS, strict=True):
        theirs = tokenizer._engine.encode(row["text"], row["text_pair"])
        assert example.input_ids == theirs.ids
        types = theirs.type_ids
        expected = types.index(1) if any(types) else None
        assert example.second == expected


def test_the_longer_text_gives_way():
    tokenizer = make_tokenizer("bert")
    setting = Setting(tokenizer=tokenizer, max_tokens=64)
    rows = [{"text": "the " * 20, "text_pair": "a bird"}, {"text": "a", "text_pair": "the " * 20}]
    found = encode_texts(rows, setting, max_tokens=11, keep="head")
    assert [len(example.input_ids) for example in found.examples] == [11, 11]
    assert [example.second for example in found.examples] == [8, 3]
    assert found.full_lengths["text"].tolist() == [25, 24]


def test_the_end_of_a_long_text_can_stay():
    tokenizer = make_tokenizer("bert")
    setting = Setting(tokenizer=tokenizer, max_tokens=64)
    rows = [{"text": "the cat sat on the mat a bird dogs the cat sat"}]
    whole = encode_texts(rows, setting, max_tokens=64, keep="head-tail").examples[0].input_ids
    cut = encode_texts(rows, setting, max_tokens=10, keep="head-tail").examples[0].input_ids
    assert cut == [*whole[:3], *whole[-7:]]


# models


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("task", [Classification(), Regression()], ids=["classes", "number"])
def test_transformers_gives_the_same_answers(architecture, task, tmp_path):
    transformers = pytest.importorskip("transformers")
    labels = ("a", "b", "c") if isinstance(task, Classification) else ()
    model = make(architecture, task, labels)
    model.save(tmp_path / "model")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = [[row[key] for row in PAIRS] for key in ("text", "text_pair")]
    with torch.no_grad():
        logits = theirs.eval()(**tokenizer(*texts, padding=True, return_tensors="pt")).logits
    for answer, row in zip(model.predict(PAIRS), logits, strict=True):
        if labels:
            assert list(answer["probabilities"]) == list(theirs.config.id2label.values())
            ours = torch.tensor(list(answer["probabilities"].values()))
            assert (ours - row.softmax(-1)).abs().max() < 2e-6
        else:
            assert answer["prediction"] == pytest.approx(float(row[0]), abs=2e-6)


@pytest.mark.parametrize("pooling", ["mean", "attention", "attention-fixed"])
def test_a_head_that_nobody_published_is_kept_apart(pooling, tmp_path):
    model = make("bert", Classification(pooling=pooling))
    model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    opened = load(tmp_path / "model")
    assert opened.predict(PAIRS) == model.predict(PAIRS)
    assert opened.labels == ("no", "yes")


def test_a_published_classifier_opens_as_one(tmp_path):
    model = make("bert", labels=("x", "y", "z"))
    model.save(tmp_path / "model")
    (tmp_path / "model" / "headway.json").unlink()
    (tmp_path / "model" / "manifest.json").unlink()
    opened = load(tmp_path / "model")
    assert opened.task_name == "classification"
    assert opened.predict(PAIRS) == model.predict(PAIRS)


def test_a_published_head_of_one_result_opens_as_regression(tmp_path):
    model = make("roberta", Regression(), labels=())
    model.save(tmp_path / "model")
    (tmp_path / "model" / "headway.json").unlink()
    (tmp_path / "model" / "manifest.json").unlink()
    opened = load(tmp_path / "model")
    assert opened.task_name == "regression"
    assert opened.predict(PAIRS) == model.predict(PAIRS)


def test_classes_are_known_by_name(tmp_path):
    make("bert", labels=("yes", "no")).save(tmp_path / "model")
    saved = load(tmp_path / "model").predict(PAIRS)

    def opened(*labels):
        return load(
            tmp_path / "model", task=Classification(), task_name="classification", labels=labels
        )

    # Training rows list them in another order: the head stays, and so do the answers.
    same = opened("no", "yes")
    assert same.labels == ("yes", "no")
    assert same.predict(PAIRS) == saved
    other = opened("no", "perhaps")
    assert other.labels == ("no", "perhaps")
    assert any("newly initialized" in note for note in other.notes)


def test_several_classes_a_row():
    model = make("bert", Classification(multi_label=True, threshold=0.4), labels=("a", "b", "c"))
    for answer in model.predict(PAIRS):
        chosen = [name for name, p in answer["probabilities"].items() if p >= 0.4]
        assert answer["prediction"] == chosen
    rows = [{"text": "x", "label": ["a", "c"]}, {"text": "y", "label": []}]
    gold = [{"prediction": ["a", "c"]}, {"prediction": []}]
    found = model.task.statistics(gold, rows)
    assert tuple(item.name for item in found) == model.task.metrics
    assert [item.value() for item in found] == [100] * 6


def test_answers_stay_inside_of_the_bounds():
    model = make("bert", Regression(), labels=())
    with torch.no_grad():
        model.head.output.bias.fill_(5.0)
    assert all(answer["prediction"] > 1 for answer in model.predict(PAIRS))
    assert {answer["prediction"] for answer in model.predict(PAIRS, low=-1, high=1)} == {1.0}


def test_what_was_cut_is_said():
    model = make("bert", dataclasses.replace(Classification(), max_tokens=8))
    long = {"text": "the cat sat on the mat the cat sat"}
    assert model.predict([long])[0]["cut"] == ["source"]
    assert "cut" not in model.predict([{"text": "the"}])[0]


def test_numbers_of_a_packed_model_do_not_lie_on_a_grid():
    model = make("bert", Regression())
    with torch.no_grad():
        model.head.output.weight.mul_(0.01)
        model.head.output.bias.fill_(2.0)
    texts = [{"text": text} for text in ("the cat", "a bird sings", "old river", "dogs", "the mat")]
    exact = [answer["prediction"] for answer in model.predict(texts)]
    fast = [answer["prediction"] for answer in model.to_precision("bf16").predict(texts)]
    # All lie within a hundredth or two of each other: as far as two neighbors of the grid.
    assert max(exact) - min(exact) < 0.1
    assert len(set(fast)) == len(texts)
    assert fast == pytest.approx(exact, abs=2e-3)
