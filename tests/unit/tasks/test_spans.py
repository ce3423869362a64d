"""Marked spans: what a head is given of them, cutting around them, bad ones, files."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from encoders import make_encoder
from headway.errors import RequestError
from headway.files.folder import make_body
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.spans import Spans
from headway.train.material import balance_classes

FAMILIES = ("bert", "roberta", "albert", "distilbert", "lstm")
LABELS = ("no", "perhaps", "yes")


def make(architecture: str = "bert", task: Spans | None = None) -> Model:
    task = task or Spans()
    base = make_encoder(architecture)
    torch.manual_seed(3)
    body = make_body(architecture, base.body.config, task.head).eval()
    head = task.make_head(body, LABELS).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Model(
        body,
        base.tokenizer,
        task,
        task_name="spans",
        architecture=architecture,
        head=head,
        labels=LABELS,
    )


def mark(text: str, *words: str, text_pair: str | None = None, **more: Any) -> dict[str, Any]:
    """Mark the first occurrence of words: "pair:bird" is a word of the second text."""
    spans = []
    for word in words:
        name = word.removeprefix("pair:")
        source = text_pair if name != word else text
        assert source is not None
        start = source.index(name)
        span: dict[str, Any] = {"start": start, "end": start + len(name)}
        spans.append(span | ({"text": "text_pair"} if name != word else {}))
    row = {"text": text, "spans": spans, **more}
    return row if text_pair is None else {**row, "text_pair": text_pair}


ONE = mark("the unhappy cat sat on the mat", "unhappy", "mat")
PAIR = mark("the cat sat", "cat", "pair:old tree", text_pair="a bird sings in the old tree near")
ROWS = [ONE, PAIR, mark("a bird", "bird", "a")]


def batch_of(model: Model, rows):
    examples = model.task.encode(rows, model.setting).examples
    return model.task.collate([[example] for example in examples], model.setting)


def marked_pieces(model: Model, row: dict[str, Any]) -> list[str]:
    """Give the text of the tokens of each span, as the network is given them."""
    (example,) = model.task.encode([row], model.setting).examples
    marks = example.token_labels or []
    assert len(marks) == len(example.input_ids)
    return [
        model.tokenizer.decode(
            [t for t, m in zip(example.input_ids, marks, strict=True) if m >> n & 1]
        ).strip()
        for n in range(len(row["spans"]))
    ]


# what a head is given


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_marked_tokens_are_those_of_the_marked_words(architecture):
    model = make(architecture)
    assert marked_pieces(model, ONE) == ["unhappy", "mat"]
    assert marked_pieces(model, PAIR) == ["cat", "old tree"]


def test_spans_may_overlap():
    assert marked_pieces(make(), mark("the cat sat on", "cat sat", "sat on")) == [
        "cat sat",
        "sat on",
    ]


def test_characters_are_counted_and_not_bytes():
    row = mark("\u00e9\u00e9 \u4e2d\u6587 the cat sat", "cat", "sat")
    for architecture in ("bert", "roberta"):
        assert marked_pieces(make(architecture), row) == ["cat", "sat"]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_logits_are_a_layer_over_means_of_hidden_states(architecture):
    model = make(architecture)
    batch = batch_of(model, ROWS)
    with torch.no_grad():
        memory = model.body.encode(batch.source)
        found = model.head(memory, batch.labels).numpy()
    hidden, marks = memory.hidden.numpy(), batch.labels.numpy()
    weight, bias = (x.detach().numpy() for x in (model.head.output.weight, model.head.output.bias))
    for row, states in enumerate(hidden):
        vectors = [states[0]] + [states[(marks[row] >> n) % 2 == 1].mean(0) for n in (0, 1)]
        wanted = weight @ np.concatenate(vectors) + bias
        assert np.abs(found[row] - wanted).max() < 1e-4


def test_packed_rows_give_the_same_logits():
    model = make()
    examples = model.task.encode(ROWS, model.setting).examples
    batches = [
        model.task.collate(rows, model.setting)
        for rows in ([[example] for example in examples], [list(examples)])
    ]
    with torch.no_grad():
        apart, packed = (model.head(model.body.encode(b.source), b.labels) for b in batches)
    assert float((apart - packed).abs().max()) < 1e-5


def test_the_answer_depends_on_what_is_marked():
    model = make()
    other = {**ONE, "spans": mark(ONE["text"], "cat", "mat")["spans"]}
    one, two = (answer["probabilities"]["yes"] for answer in model.predict([ONE, other]))
    assert abs(one - two) > 1e-3


# answers


@pytest.mark.parametrize("architecture", FAMILIES)
def test_answers_are_the_same_alone_and_together(architecture):
    model = make(architecture)
    for row, answer in zip(ROWS, model.predict(ROWS), strict=True):
        (alone,) = model.predict([row])
        assert alone["prediction"] == answer["prediction"]
        assert answer["probabilities"] == pytest.approx(alone["probabilities"], abs=2e-6)
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_saved_model_gives_the_same_answers(tmp_path):
    model = make(task=Spans(num_spans=2, max_tokens=20))
    model.save(tmp_path / "model")
    opened = load(tmp_path / "model")
    assert (opened.task, opened.labels) == (model.task, LABELS)
    assert opened.predict(ROWS) == model.predict(ROWS)


def test_the_loss_is_minus_the_log_probability_of_the_class():
    model = make()
    rows = [{**row, "label": label} for row, label in zip(ROWS, LABELS, strict=True)]
    probs = [
        answer["probabilities"][row["label"]]
        for answer, row in zip(model.predict(rows), rows, strict=True)
    ]
    with torch.no_grad():
        (loss,) = model.task.losses(model.body, model.head, batch_of(model, rows))
    assert float(loss.total) == pytest.approx(-np.log(probs).sum(), rel=1e-4)
    assert loss.count == 3


# cutting

FILLER = "the dog ran to the house and "


def test_a_span_far_into_a_long_text_survives_cutting():
    task = Spans(num_spans=1, max_tokens=16)
    row = mark(FILLER * 12 + "unhappy people read " + FILLER * 12, "people")
    model = make(task=task)
    (example,) = task.encode([row], model.setting).examples
    assert len(example.input_ids) == 16
    assert marked_pieces(model, row) == ["people"]
    around = model.tokenizer.decode(example.input_ids)
    assert "unhappy people read" in around


@pytest.mark.parametrize("place", [0, 12, 24])
def test_a_span_at_either_end_of_a_long_text_survives_cutting(place):
    task = Spans(num_spans=1, max_tokens=16)
    row = mark(FILLER * place + "people " + FILLER * (24 - place), "people")
    assert marked_pieces(make(task=task), row) == ["people"]


def test_both_texts_of_a_pair_are_cut_around_their_spans():
    task = Spans(max_tokens=17)
    text = FILLER * 9 + "people " + FILLER * 2
    pair = FILLER * 2 + "river " + FILLER * 9
    model = make(task=task)
    row = mark(text, "people", "pair:river", text_pair=pair)
    (example,) = task.encode([row], model.setting).examples
    assert len(example.input_ids) == 17
    assert marked_pieces(model, row) == ["people", "river"]


def test_rows_that_were_cut_are_counted():
    task = Spans(num_spans=1, max_tokens=16)
    rows = [mark(FILLER * 5 + "people", "people"), mark("a bird", "bird")]
    notes = task.encode(rows, make().setting).notes
    assert notes["rows cut around their spans"] == 1


def test_a_span_without_a_token_is_counted():
    row = {"text": "the  cat", "spans": [{"start": 3, "end": 5}], "label": "yes"}
    notes = Spans(num_spans=1).encode([row], make().setting).notes
    assert notes["rows with a span that no token stands for"] == 1


def test_a_row_of_exactly_the_longest_length_is_not_cut():
    task = Spans(num_spans=1, max_tokens=16)
    # Fourteen words of one piece each, and two special tokens.
    row = mark(FILLER * 2, "dog")
    (example,) = task.encode([row], make().setting).examples
    assert len(example.input_ids) == 16
    assert task.encode([row], make().setting).notes["rows cut around their spans"] == 0


def test_a_pair_that_fits_is_not_cut_however_unequal_its_texts_are():
    task = Spans(max_tokens=32)
    row = mark("a bird", "bird", "pair:dog", text_pair=FILLER * 2)
    encoded = task.encode([row], make().setting)
    assert encoded.notes["rows cut around their spans"] == 0
    assert len(encoded.examples[0].input_ids) == sum((1, 2, 1, 14, 1))


def test_of_two_spans_too_far_apart_one_is_kept():
    task = Spans(max_tokens=16)
    row = mark("people " + FILLER * 12 + "river", "people", "river")
    assert any(marked_pieces(make(task=task), row))


def test_an_answer_says_that_its_text_was_cut():
    model = make(task=Spans(num_spans=1, max_tokens=16))
    assert model.predict([mark(FILLER * 5, "dog")])[0]["cut"] == ["source"]


# bad rows

TEXT = "the cat sat"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"spans": "cat"}, "spans must be a list of objects"),
        ({"spans": [[4, 7]]}, "spans must be a list of objects"),
        ({"spans": []}, "there are 0 spans, but task.num-spans is 1"),
        ({"spans": [{"start": 4, "end": 12}]}, "span 1 ends at character 12, but its text has 11"),
        ({"spans": [{"start": 4, "end": 4}]}, "span 1 must have start and end"),
        ({"spans": [{"start": 7, "end": 4}]}, "span 1 must have start and end"),
        ({"spans": [{"start": -1, "end": 4}]}, "span 1 must have start and end"),
        ({"spans": [{"start": 4}]}, "span 1 must have start and end"),
        ({"spans": [{"start": "4", "end": "7"}]}, "span 1 must have start and end"),
        ({"spans": [{"start": True, "end": 7}]}, "span 1 must have start and end"),
        ({"spans": [{"start": 4.0, "end": 7}]}, "span 1 must have start and end"),
        ({"spans": [{"start": 0, "end": 3, "text": "text_pair"}]}, "the row has no such text"),
        ({"spans": [{"start": 0, "end": 3, "text": "label"}]}, "the row has no such text"),
    ],
)
def test_bad_spans_are_named_in_training_and_in_requests(changes, problem):
    row = {"text": TEXT, "spans": [{"start": 4, "end": 7}], "label": "yes", **changes}
    assert problem in (Spans(num_spans=1).check_row(row, LABELS) or "")
    with pytest.raises(RequestError) as found:
        make(task=Spans(num_spans=1)).predict([row])
    assert problem in str(found.value)
    assert "\n" not in str(found.value)


def test_a_class_that_was_never_trained_is_named():
    row = {"text": TEXT, "spans": [{"start": 4, "end": 7}], "label": "maybe"}
    problem = Spans(num_spans=1).check_row(row, LABELS)
    assert problem == "label 'maybe' is none of the classes in training (no, perhaps, yes)"


def test_a_request_needs_no_label():
    row = {"text": TEXT, "spans": [{"start": 4, "end": 7}]}
    assert make(task=Spans(num_spans=1)).predict([row])[0]["prediction"] in LABELS


# weights of classes


def test_rare_classes_weigh_more_in_the_loss():
    model = make()
    rows = [{**ONE, "label": "no"}, {**ONE, "label": "no"}, {**PAIR, "label": "yes"}]
    plain = model.task.encode(rows, model.setting)
    balanced = balance_classes(plain)
    assert [example.weight for example in balanced.examples] == [0.75, 0.75, 1.5]

    def loss(examples) -> float:
        batch = model.task.collate([[example] for example in examples], model.setting)
        with torch.no_grad():
            (found,) = model.task.losses(model.body, model.head, batch)
        assert model.task.counts(batch) == {"class": found.count} == {"class": 3.0}
        return float(found.total)

    alone = [loss([dataclasses.replace(e, weight=1.0)] * 3) / 3 for e in plain.examples]
    wanted = 0.75 * alone[0] + 0.75 * alone[1] + 1.5 * alone[2]
    assert loss(balanced.examples) == pytest.approx(wanted, rel=1e-5)


def test_every_class_is_scored_apart():
    rows = [{"label": "a"}, {"label": "a"}, {"label": "b"}]
    said = [{"prediction": "a"}, {"prediction": "b"}, {"prediction": "b"}]
    first, second = Spans().class_scores(said, rows)
    assert (first.name, first.precision, first.recall, first.support) == ("a", 100, 50, 2)
    assert (second.name, second.precision, second.recall, second.support) == ("b", 50, 100, 1)
