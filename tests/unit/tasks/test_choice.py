"""Multiple choice: labels by place or by text, answers that stand alone, parity, cutting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from encoders import make_encoder
from headway.errors import RequestError
from headway.files.folder import make_body
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.choice import Choice

FAMILIES = ("bert", "roberta", "albert", "distilbert")
TWO = {"text": "the cat sat on the", "choices": ["mat", "a bird sings in the old tree"]}
FIVE = {
    "text": "a bird",
    "choices": ["sings", "ran to the house", "read long words", "unhappy people", "?"],
}
THREE = {"text": "people read long words about the river", "choices": ["cat", "dog", "words"]}


def make(architecture: str = "bert", task: Choice | None = None) -> Model:
    task = task or Choice()
    base = make_encoder(architecture)
    torch.manual_seed(3)
    body = make_body(architecture, base.body.config, task.head).eval()
    head = task.make_head(body, ()).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Model(
        body,
        base.tokenizer,
        task,
        task_name="choice",
        architecture=architecture,
        head=head,
    )


def loss_of(model: Model, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Give the sum of the loss over rows in one batch, and its count."""
    examples = model.task.encode(rows, model.setting).examples
    batch = model.task.collate([[example] for example in examples], model.setting)
    with torch.no_grad():
        (loss,) = model.task.losses(model.body, model.head, batch)
    assert model.task.counts(batch) == {loss.name: loss.count}
    return float(loss.total), loss.count


# labels


@pytest.mark.parametrize(
    ("label", "place"), [(0, 0), (2, 2), ("words", 2), ("cat", 0), ("1", 1), (" 2 ", 2)]
)
def test_a_label_is_a_place_a_text_or_digits(label, place):
    model = make()
    (example,) = model.task.encode([{**THREE, "label": label}], model.setting).examples
    assert Choice().check_row({**THREE, "label": label}, None) is None
    assert example.label == place


def test_a_choice_that_is_a_number_is_meant_before_its_place():
    row = {"text": "one and one", "choices": ["3", "2", "0"], "label": "0"}
    model = make()
    (example,) = model.task.encode([row], model.setting).examples
    assert example.label == 2


def test_a_number_counts_from_zero_even_where_a_choice_is_written_alike():
    row = {"text": "one and one", "choices": ["3", "2", "0"], "label": 0}
    model = make()
    (example,) = model.task.encode([row], model.setting).examples
    assert example.label == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"label": 3}, "label is 3, but there are 3 choices, counted from 0"),
        ({"label": -1}, "label is -1, but there are 3 choices"),
        ({"label": "3"}, "label is 3, but there are 3 choices"),
        ({"label": "bird"}, "label is 'bird', but must be a choice or its place"),
        ({"label": "\u00b2"}, "must be a choice or its place"),
        ({"label": True}, "label is True, but must be a choice or its place"),
        ({"label": 1.0}, "label is 1.0, but must be a choice or its place"),
        ({"label": None}, "label is None, but must be a choice or its place"),
        ({"choices": ["cat", "cat"], "label": "cat"}, "'cat' is there twice"),
        ({"choices": ["cat"], "label": 0}, "there must be two choices or more"),
        ({"choices": [], "label": 0}, "there must be two choices or more"),
        ({"choices": "cat", "label": 0}, "choices must be a list of texts"),
        ({"choices": ["cat", 1], "label": 0}, "choices must be a list of texts"),
    ],
)
def test_bad_rows_are_named(changes, problem):
    assert problem in (Choice().check_row({**THREE, "label": 0, **changes}, None) or "")


# answers


@pytest.mark.parametrize("architecture", FAMILIES)
def test_rows_of_different_numbers_of_choices_answer_as_alone(architecture):
    model = make(architecture)
    together = model.predict([TWO, FIVE, THREE, TWO])
    for row, answer in zip([TWO, FIVE, THREE, TWO], together, strict=True):
        (alone,) = model.predict([row])
        assert answer["prediction"] == alone["prediction"]
        assert answer["choice"] == alone["choice"]
        assert answer["probabilities"] == pytest.approx(alone["probabilities"], abs=2e-6)


def test_probabilities_sum_to_one_over_a_rows_own_choices():
    for row, answer in zip([TWO, FIVE], make().predict([TWO, FIVE]), strict=True):
        assert len(answer["probabilities"]) == len(row["choices"])
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_the_prediction_is_the_choice_of_the_highest_probability():
    for row, answer in zip([TWO, FIVE], make().predict([TWO, FIVE]), strict=True):
        best = int(np.argmax(answer["probabilities"]))
        assert (answer["choice"], answer["prediction"]) == (best, row["choices"][best])


def test_choices_in_another_order_have_the_same_probabilities():
    model = make()
    (one,) = model.predict([FIVE])
    (other,) = model.predict([{**FIVE, "choices": FIVE["choices"][::-1]}])
    assert other["probabilities"] == pytest.approx(one["probabilities"][::-1], abs=2e-6)


def test_a_label_changes_no_answer():
    model = make()
    assert model.predict([{**TWO, "label": 0}]) == model.predict([{**TWO, "label": 1}])


def test_the_loss_is_minus_the_log_probability_of_the_right_choice():
    model = make()
    rows = [{**TWO, "label": 1}, {**FIVE, "label": 3}, {**THREE, "label": "dog"}]
    answers = model.predict(rows)
    wanted = [a["probabilities"][place] for a, place in zip(answers, (1, 3, 1), strict=True)]
    total, count = loss_of(model, rows)
    assert count == 3
    assert total == pytest.approx(-np.log(wanted).sum(), rel=1e-4)


def test_accuracy_is_the_share_of_right_texts():
    rows = [{**TWO, "label": 0}, {**FIVE, "label": "unhappy people"}, {**THREE, "label": "2"}]
    said = [{"prediction": text} for text in ("mat", "sings", "words")]
    (accuracy,) = Choice().statistics(said, rows)
    assert accuracy.value() == pytest.approx(200 / 3)


# requests


def test_a_request_without_choices_is_refused():
    with pytest.raises(RequestError, match="record 2 has no text 'choices'"):
        make().predict([TWO, {"text": "a bird"}])


def test_a_request_whose_choices_are_one_text_is_refused():
    with pytest.raises(RequestError, match="choices"):
        make().predict([{"text": "a bird", "choices": "cat"}])


# transformers


@pytest.mark.parametrize("architecture", FAMILIES)
def test_transformers_gives_the_same_logits(architecture, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make(architecture)
    model.save(tmp_path / "model")
    theirs = transformers.AutoModelForMultipleChoice.from_pretrained(tmp_path / "model")
    assert type(theirs).__name__.endswith("ForMultipleChoice")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    (example,) = model.task.encode([FIVE], model.setting).examples
    batch = model.task.collate([[example]], model.setting)
    texts = [FIVE["text"]] * len(FIVE["choices"])
    given = tokenizer(texts, FIVE["choices"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs.eval()(**{name: value[None] for name, value in given.items()}).logits[0]
        ours = model.head(model.body, model.body.encode(batch.source))[:, 0]
    assert float((ours - logits).abs().max()) < 1e-5
    assert float(logits.std()) > 1e-3
    (answer,) = model.predict([FIVE])
    assert answer["probabilities"] == pytest.approx(logits.softmax(-1).tolist(), abs=2e-6)


def test_a_published_model_opens_as_one_that_chooses(tmp_path):
    model = make()
    model.save(tmp_path / "model")
    (tmp_path / "model" / "headway.json").unlink()
    (tmp_path / "model" / "manifest.json").unlink()
    opened = load(tmp_path / "model")
    assert opened.task_name == "choice"
    assert opened.predict([TWO, FIVE]) == model.predict([TWO, FIVE])


# cutting


def test_rows_that_were_cut_are_counted_once_each():
    model = make(task=Choice(max_tokens=12))
    long = "the cat sat on the mat and the dog ran to the house"
    rows = [
        {"text": "a bird", "choices": ["sings", "sat"]},
        {"text": long, "choices": ["sings", "sat"]},
        {"text": "a bird", "choices": ["sat", long, long]},
    ]
    encoded = model.task.encode(rows, model.setting)
    assert dict(encoded.notes) == {"rows of which the text or a choice was cut": 2}
    assert max(len(p.input_ids) for e in encoded.examples for p in e.parts) == 12


def test_nothing_is_reported_where_nothing_was_cut():
    model = make()
    assert not any(model.task.encode([TWO, FIVE], model.setting).notes.values())


def test_an_answer_says_that_its_text_was_cut():
    row = {"text": "the cat sat on the mat and the dog ran", "choices": ["sings", "sat"]}
    assert make(task=Choice(max_tokens=8)).predict([row])[0]["cut"] == ["source"]
