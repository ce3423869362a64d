"""Numbers of words: where they stand, windows, the loss, scores, files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import WORDS as KNOWN
from encoders import make_encoder
from headway.errors import RequestError
from headway.files.folder import make_body
from headway.layers.side import Side
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.word_regression import WordRegression

FAMILIES = ("bert", "roberta", "albert", "distilbert", "lstm")
SENTENCE = ["the", "unhappy", "cat", "don't", "sat"]
VALUES = [0.5, -1.0, 2.0, 0.25, 3.0]


def make(architecture: str = "bert", task: WordRegression | None = None) -> Model:
    task = task or WordRegression()
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
        task_name="word_regression",
        architecture=architecture,
        head=head,
    )


SHARED = make()


def outputs(model: Model, ids: list[int]) -> np.ndarray:
    """Give the number of each token of one text, read alone."""
    with torch.no_grad():
        return model.head(model.body.encode(Side.padded([ids])).hidden)[0, :, 0].numpy()


# where numbers stand


def test_each_number_stands_at_the_first_piece_of_its_word():
    model = make()
    row = {"words": SENTENCE, "values": VALUES}
    (example,) = model.task.encode([row], model.setting).examples
    pieces = [model.tokenizer.write_piece(token).strip() for token in example.input_ids]
    asked = [
        (piece, value)
        for piece, value in zip(pieces, example.token_values, strict=True)
        if not math.isnan(value)
    ]
    assert [value for _, value in asked] == VALUES
    assert [piece for piece, _ in asked] == ["the", "un", "cat", "d", "sat"]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_answer_of_a_word_is_what_the_head_says_of_its_first_piece(architecture):
    model = make(architecture)
    (example,) = model.task.encode([{"words": SENTENCE, "values": VALUES}], model.setting).examples
    places = [place for place, value in enumerate(example.token_values) if not math.isnan(value)]
    wanted = outputs(model, example.input_ids)[places]
    (answer,) = model.predict([{"words": SENTENCE}])
    assert answer["prediction"] == pytest.approx(wanted.tolist(), abs=2e-6)
    assert np.std(wanted) > 1e-3


def test_a_number_may_be_written_as_text():
    model = make()
    rows = [{"words": ["the", "cat"], "values": ["1.5", 2]}]
    assert WordRegression().check_row(rows[0], None) is None
    (example,) = model.task.encode(rows, model.setting).examples
    assert [value for value in example.token_values if value == value] == [1.5, 2.0]


# the loss


def test_the_loss_is_the_sum_of_squared_errors_of_words():
    model = make()
    rows = [
        {"words": SENTENCE, "values": VALUES},
        {"words": ["a", "bird"], "values": [1.0, -2.0]},
    ]
    said = np.concatenate([answer["prediction"] for answer in model.predict(rows)])
    wanted = np.concatenate([row["values"] for row in rows])
    examples = model.task.encode(rows, model.setting).examples
    batch = model.task.collate([[example] for example in examples], model.setting)
    (loss,) = model.task.losses(model.body, model.head, batch)
    total = float(((said - wanted) ** 2).sum())
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)
    assert loss.count == 7
    assert model.task.counts(batch) == {"squared_error": 7.0}
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.body.parameters())


def test_packed_rows_have_the_same_loss():
    model = make()
    rows = [{"words": SENTENCE, "values": VALUES}, {"words": ["cat"], "values": [1.0]}]
    examples = model.task.encode(rows, model.setting).examples
    totals = []
    for laid_out in ([[example] for example in examples], [list(examples)]):
        batch = model.task.collate(laid_out, model.setting)
        with torch.no_grad():
            totals.append(float(model.task.losses(model.body, model.head, batch)[0].total))
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


# long sentences


@settings(max_examples=20)
@given(st.lists(st.sampled_from([*KNOWN, "unhappy"]), min_size=1, max_size=30))
def test_a_long_sentence_has_one_number_for_each_word(words):
    # "unhappy" has three pieces, as many as windows share.
    (answer,) = SHARED.predict([{"words": words}], max_tokens=10, overlap_tokens=3)
    assert len(answer["prediction"]) == len(words)
    assert all(math.isfinite(value) and value != 0 for value in answer["prediction"])


def test_a_word_at_the_border_of_two_windows_has_a_number():
    words = ["the"] * 4 + ["don't"] + ["the"] * 4
    (answer,) = SHARED.predict([{"words": words}], max_tokens=10, overlap_tokens=2)
    assert answer["prediction"][4] != 0


def test_the_numbers_of_a_long_sentence_are_those_of_some_window():
    task = WordRegression(max_tokens=12, overlap_tokens=4)
    model = make(task=task)
    words = list(KNOWN)
    encoded = task.encode([{"words": words, "values": [0.0] * len(words)}], model.setting)
    assert len(encoded.examples) > 2
    allowed: dict[int, list[float]] = {}
    for example in encoded.examples:
        numbers = outputs(model, example.input_ids)
        for token, value in zip(example.input_ids, numbers, strict=True):
            allowed.setdefault(token, []).append(float(value))
    (answer,) = model.predict([{"words": words}])
    for word, value in zip(words, answer["prediction"], strict=True):
        token = model.tokenizer.encode(word).ids[1]
        assert min(abs(value - found) for found in allowed[token]) < 2e-5


def test_every_word_of_a_long_sentence_is_learned():
    task = WordRegression(max_tokens=12, overlap_tokens=4)
    values = [float(number) for number in range(len(KNOWN))]
    encoded = task.encode([{"words": list(KNOWN), "values": values}], make().setting)
    learned = {value for example in encoded.examples for value in example.token_values}
    assert set(values) <= learned


def test_rows_answer_the_same_alone_and_together():
    model = make(task=WordRegression(max_tokens=12, overlap_tokens=4))
    rows = [{"words": SENTENCE}, {"words": list(KNOWN)}, {"words": ["cat"]}]
    for row, answer in zip(rows, model.predict(rows), strict=True):
        (alone,) = model.predict([row])
        assert answer["prediction"] == pytest.approx(alone["prediction"], abs=3e-6)


def test_a_word_without_a_token_is_zero_and_counted():
    model = make()
    words = ["the", "\u200b\u200d", "cat"]
    (answer,) = model.predict([{"words": words}])
    assert answer["prediction"][1] == 0.0
    encoded = model.task.encode([{"words": words, "values": [1.0, 2.0, 3.0]}], model.setting)
    assert encoded.notes["words without a token, never learned"] == 1
    (example,) = encoded.examples
    assert [value for value in example.token_values if value == value] == [1.0, 3.0]


def test_a_word_longer_than_a_window_is_counted():
    task = WordRegression(max_tokens=8, overlap_tokens=0)
    row = {"words": ["cat", "abcdefghijklmnop", "dog"], "values": [1.0, 2.0, 3.0]}
    encoded = task.encode([row], make().setting)
    learned = {value for example in encoded.examples for value in example.token_values}
    assert 2.0 in learned or any(encoded.notes.values())


# rows and settings


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"words": ["a", "b"], "values": [1.0]}, "there are 2 words, but 1 values"),
        ({"words": [], "values": []}, "there are no words"),
        ({"words": "a b", "values": [1.0, 2.0]}, "words must be a list of words"),
        ({"words": ["a", " "], "values": [1.0, 2.0]}, "words must be a list of words"),
        ({"words": ["a"], "values": 1.0}, "values a list of numbers"),
        ({"words": ["a"], "values": ["high"]}, "a value is 'high', but must be a number"),
        ({"words": ["a"], "values": [None]}, "a value is None, but must be a number"),
        ({"words": ["a"], "values": [True]}, "a value is True, but must be a number"),
        ({"words": ["a"], "values": [float("nan")]}, "must be a finite number"),
        ({"words": ["a"], "values": [float("inf")]}, "must be a finite number"),
    ],
)
def test_bad_rows_are_named(row, problem):
    assert problem in (WordRegression().check_row(row, None) or "")


@pytest.mark.parametrize(("overlap", "is_fine"), [(0, True), (8, True), (9, False), (-1, False)])
def test_windows_may_share_at_most_half_of_their_length(overlap, is_fine):
    assert bool(WordRegression(max_tokens=16, overlap_tokens=overlap).check()) != is_fine


@pytest.mark.parametrize("words", [None, [], ["cat", 1]])
def test_a_request_without_words_is_refused(words):
    with pytest.raises(RequestError, match="record 1 has no text 'words'"):
        make().predict([{"words": words}])


def test_the_scores_are_those_of_numpy_and_scipy():
    stats = pytest.importorskip("scipy.stats")
    rows = [{"words": ["a", "b", "c"], "values": [1.0, 3.0, "2"]}, {"words": ["d"], "values": [0]}]
    said = [{"prediction": [0.5, 1.0, 2.0]}, {"prediction": [-4.0]}]
    one, other = [0.5, 1.0, 2.0, -4.0], [1.0, 3.0, 2.0, 0.0]
    found = {item.name: item.value() for item in WordRegression().statistics(said, rows)}
    assert found["pearson"] == pytest.approx(100 * np.corrcoef(one, other)[0, 1])
    assert found["spearman"] == pytest.approx(100 * stats.spearmanr(one, other).statistic)
    error = float(((np.array(one) - other) ** 2).mean())
    assert any(value == pytest.approx(error) for value in found.values())
    assert tuple(found)[:2] == WordRegression().metrics


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_saved_model_gives_the_same_answers(architecture, tmp_path):
    model = make(architecture, WordRegression(max_tokens=16, overlap_tokens=4))
    model.save(tmp_path / "model")
    opened = load(tmp_path / "model")
    assert opened.task == model.task
    rows = [{"words": SENTENCE}, {"words": list(KNOWN)}]
    assert opened.predict(rows) == model.predict(rows)
