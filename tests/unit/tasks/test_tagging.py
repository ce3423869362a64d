"""Tags of words and answers in passages: windows, characters, files, and transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders import make_encoder, make_tokenizer
from headway.data.read import read_records
from headway.errors import DataError
from headway.files.folder import make_body
from headway.layers.losses import IGNORE
from headway.metrics.answers import answer_f1, answer_statistics, normalize_answer
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks._task import Setting
from headway.tasks._words import Sentence, cut_windows, read_sentences
from headway.tasks.answering import Answering
from headway.tasks.tagging import Tagging, _filled

FAMILIES = ("bert", "roberta", "albert", "distilbert")
WORDS = ["the", "cat", "sat", "on", "the", "mat", "unhappy", "dogs"]
LABELS = ("O", "B-A", "I-A")


def make(architecture: str, task, labels=()) -> Model:
    base = make_encoder(architecture)
    torch.manual_seed(3)
    body = make_body(architecture, base.body.config, task.head).eval()
    head = task.make_head(body, labels).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    name = type(task).__name__.lower()
    return Model(
        body,
        base.tokenizer,
        task,
        task_name=name,
        architecture=architecture,
        head=head,
        labels=labels,
    )


@pytest.mark.parametrize("architecture", FAMILIES)
def test_transformers_tags_alike(architecture, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make(architecture, Tagging(), LABELS)
    model.save(tmp_path / "model")
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    ids = model.tokenizer.encode(" ".join(WORDS)).ids
    with torch.no_grad():
        best = theirs.eval()(torch.tensor([ids])).logits[0].argmax(-1).tolist()
    (sentence,) = read_sentences([{"words": WORDS}], model.tokenizer)
    raw = [theirs.config.id2label[best[1 + pieces[0]]] for pieces in sentence.pieces]
    (answer,) = model.predict([{"words": WORDS}])
    # The same tags, but that a span's first is written as one.
    assert [tag[2:] for tag in raw] == [tag[2:] for tag in answer["prediction"]]
    assert load(tmp_path / "model").predict([{"words": WORDS}]) == [answer]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_transformers_answers_alike(architecture, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = make(architecture, Answering(max_tokens=48))
    model.save(tmp_path / "model")
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    row = {"question": "a bird", "context": " ".join(WORDS)}
    batch = tokenizer(row["question"], row["context"], return_tensors="pt")
    with torch.no_grad():
        found = theirs.eval()(**batch)
    (answer,) = model.predict([row])
    offset = batch.sequence_ids(0).index(1)
    count = batch.sequence_ids(0).count(1)
    start, end = (x[0, offset : offset + count] for x in (found.start_logits, found.end_logits))
    best = max(float(start[i] + end[j]) for i in range(count) for j in range(i, min(count, i + 30)))
    assert answer["score"] == pytest.approx(best, abs=1e-3)
    assert row["context"][answer["start"] : answer["end"]] == answer["prediction"]


@pytest.mark.parametrize("longest", [8, 9, 12, 40])
def test_each_word_is_answered_by_one_window_that_holds_it(longest):
    tokenizer = make_tokenizer("bert")
    sentences = read_sentences([{"words": WORDS * 4}, {"words": ["cat"]}], tokenizer)
    windows = cut_windows(sentences, tokenizer, longest=longest, overlap=2)
    for number, sentence in enumerate(sentences):
        counted = [word for w in windows if w.sentence == number for word in w.counted]
        assert sorted(counted) == list(range(len(sentence.words)))
    for window in windows:
        assert len(window.ids) <= longest
        assert set(window.counted) <= set(window.words)
        sentence = sentences[window.sentence]
        for word, places in sentence.pieces_in(window):
            pieces = [sentence.ids[piece] for piece in sentence.pieces[word]]
            assert [window.ids[place] for place in places] == pieces


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    room=st.integers(6, 14),
    overlap=st.integers(0, 7),
)
@settings(max_examples=300, deadline=None)
def test_words_beside_ones_longer_than_a_window_are_answered(sizes, room, overlap):
    ends = np.cumsum(sizes).tolist()
    pieces = [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    count = ends[-1]
    sentence = Sentence("", [(0, 0)] * len(sizes), [7] * count, pieces)
    windows = cut_windows([sentence], make_tokenizer("bert"), longest=room + 2, overlap=overlap)
    answered = {word for window in windows for word in window.counted}
    # Whatever fits into a window is answered from one that holds it whole.
    assert {word for word, size in enumerate(sizes) if 0 < size <= room} <= answered
    for window in windows:
        assert window.words or len(windows) == 1
        for word in window.counted:
            held = sizes[word] == 0 or (
                window.first <= pieces[word][0] and pieces[word][-1] < window.first + room
            )
            assert held


def test_labels_stand_on_the_first_piece_or_on_all():
    tokenizer = make_tokenizer("bert")
    setting = Setting(tokenizer=tokenizer, max_tokens=64, labels=LABELS)
    rows = [{"words": ["unhappy", "dogs"], "tags": ["B-A", "O"]}]
    (sentence,) = read_sentences(rows, tokenizer)
    assert len(sentence.pieces[0]) > 1
    for pieces, count in (("first", 2), ("all", len(sentence.ids))):
        (example,) = Tagging(pieces=pieces).encode(rows, setting).examples
        asked = [label for label in example.token_labels or () if label != IGNORE]
        assert len(asked) == count
        assert asked[0] == 1


def test_entities_are_characters_of_the_text():
    model = make("bert", Tagging(), LABELS)
    text = "The cat, sat  on   the mat."
    (answer,) = model.predict([{"words": text}])
    assert len(answer["prediction"]) == 8
    for entity in answer["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]


def test_conll_files_are_read(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O\n\nAda NNP B-PER\nslept VBD O\n\n\nBob\tNNP\tB-PER\n")
    rows = read_records([path], columns=("words", "tags")).rows
    assert rows == [
        {"words": ["Ada", "slept"], "tags": ["B-PER", "O"]},
        {"words": ["Bob"], "tags": ["B-PER"]},
    ]


def test_a_line_with_too_few_columns_is_named(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("Ada B-PER\nslept\n\nBob B-PER\n")
    with pytest.raises(DataError, match=r"a\.conll, line 1: columns of line 2: 1"):
        read_records([path], columns=("words", "tags"))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"words": ["a"], "tags": ["O", "O"]}, "1 words, but 2 tags"),
        ({"words": [], "tags": []}, "there are no words"),
        ({"words": "a", "tags": ["O"]}, "must be lists"),
        ({"words": ["a"], "tags": ["PER"]}, "is no tag"),
        ({"words": ["a"], "tags": ["B-X"]}, "none of the kinds in training"),
    ],
)
def test_bad_tags_are_named(row, problem):
    assert problem in (Tagging().check_row(row, LABELS) or "")


CONTEXT = "The cat sat on the mat."


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([{"text": "dog", "start": 4}], "is not at character 4"),
        ([{"text": "cat", "start": 5}], "is not at character 5"),
        ([{"text": "cat", "start": "4"}], "has no start"),
        ([{"text": "cat", "start": True}], "has no start"),
        ([{"text": " ", "start": 3}], "has no text"),
        ([], "there is no answer"),
        ("cat", "must be a list"),
    ],
)
def test_bad_answers_are_named(answers, problem):
    row = {"question": "who", "context": CONTEXT, "answers": answers}
    assert problem in (Answering().check_row(row, None) or "")


def test_an_answer_of_a_long_passage_lies_in_some_window():
    tokenizer = make_tokenizer("bert")
    setting = Setting(tokenizer=tokenizer, max_tokens=64)
    context = " ".join([*WORDS * 6, "a bird", *WORDS * 6])
    row = {
        "question": "the cat",
        "context": context,
        "answers": [{"text": "a bird", "start": context.index("a bird")}],
    }
    task = Answering(max_tokens=24, stride_tokens=6)
    encoded = task.encode([row], setting)
    marked = [example for example in encoded.examples if example.classes != (0, 0)]
    assert marked
    assert len(marked) < len(encoded.examples)
    for example in marked:
        start, end = example.classes
        assert tokenizer.decode(example.input_ids[start : end + 1]) == "a bird"
    assert not any(encoded.notes.values())


def test_squad_files_are_read(tmp_path):
    asked = {"id": "x", "question": "Who?", "answers": [{"text": "cat", "answer_start": 4}]}
    data = [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [asked]}]}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": "1.1", "data": data}))
    rows = read_records([path], columns=("question", "context", "answers")).rows
    assert rows == [
        {
            "id": "x",
            "question": "Who?",
            "context": CONTEXT,
            "answers": [{"text": "cat", "start": 4}],
        }
    ]
    assert Answering().check_row(rows[0], None) is None


def test_answers_are_compared_as_squad_does():
    assert normalize_answer("The  Cat's, mat!") == "cats mat"
    assert answer_f1("the black cat", "a cat") == pytest.approx(2 / 3)
    assert answer_f1("", "cat") == 0
    assert answer_f1("", "") == 1
    f1, exact = answer_statistics(["a cat", "", "dog"], [["mat", "cat"], [], ["cat"]])
    assert (f1.value(), exact.value()) == pytest.approx((200 / 3, 200 / 3))


# what is not read


def test_a_word_without_a_token_goes_on_with_the_span_around_it():
    assert _filled(["B-A", None, "I-A", None]) == ["B-A", "I-A", "I-A", "O"]
    assert _filled([None, "I-A", "O"]) == ["O", "I-A", "O"]
    assert _filled(["B-A", None, "B-A"]) == ["B-A", "O", "B-A"]
    assert _filled(["O", None, "I-A"]) == ["O", "O", "I-A"]
    assert _filled(["B-B", None, "I-A"]) == ["B-B", "O", "I-A"]
    assert _filled(["B-A", None, None, "E-A"]) == ["B-A", "I-A", "I-A", "E-A"]


def test_spans_that_cannot_be_found_are_counted():
    setting = Setting(tokenizer=make_tokenizer("bert"), max_tokens=64, labels=LABELS)
    words = ["the", "cat", "\u200b", "sat"]
    for tags, count in (
        (["O", "B-A", "I-A", "I-A"], 0),
        (["O", "B-A", "I-A", "O"], 1),
        (["O", "O", "B-A", "I-A"], 1),
    ):
        encoded = Tagging().encode([{"words": words, "tags": tags}], setting)
        (note,) = [value for name, value in encoded.notes.items() if "begin or end" in name]
        assert note == count


def test_a_model_without_beginnings_learns_insides():
    setting = Setting(tokenizer=make_tokenizer("bert"), max_tokens=64, labels=("O", "I-A"))
    rows = [{"words": ["the", "cat"], "tags": ["O", "B-A"]}]
    (example,) = Tagging().encode(rows, setting).examples
    assert [label for label in example.token_labels or () if label != IGNORE] == [0, 1]
    assert Tagging().check_labels(("NOUN", "VERB")) is not None
    assert Tagging().check_labels(("O", "I-A")) is None


def test_tags_of_single_words_are_learned_by_their_scheme():
    row = {"words": ["the", "cat", "sat"], "tags": ["DET", "NOUN", "VERB"]}
    assert "task.scheme words" in (Tagging().check_row(row, None) or "")
    task = Tagging(scheme="words")
    assert task.check_row(row, None) is None
    assert task.find_labels([row]) == ("DET", "NOUN", "VERB")
    assert "'VERB'" in (task.check_row(row, ("DET", "NOUN")) or "")
    labels = task.find_labels([row])
    setting = Setting(tokenizer=make_tokenizer("bert"), max_tokens=64, labels=labels)
    (example,) = task.encode([row], setting).examples
    assert [label for label in example.token_labels or () if label != IGNORE] == [0, 1, 2]
    assert task.metrics == ("token_accuracy",)
    said = [{"prediction": ["DET", "NOUN", "NOUN"]}]
    (accuracy,) = task.statistics(said, [row])
    assert (accuracy.name, accuracy.value()) == ("token_accuracy", pytest.approx(200 / 3))
    scores = {score.name: score.recall for score in task.class_scores(said, [row])}
    assert scores == {"DET": 100, "NOUN": 100, "VERB": 0}


def test_a_published_tagger_of_single_words_opens(tmp_path):
    model = make("bert", Tagging(scheme="words"), ("DET", "NOUN", "VERB"))
    (answer,) = model.predict([{"words": WORDS}])
    assert set(answer["prediction"]) <= {"DET", "NOUN", "VERB"}
    model.save(tmp_path / "model")
    (tmp_path / "model" / "headway.json").unlink()
    (tmp_path / "model" / "manifest.json").unlink()
    opened = load(tmp_path / "model")
    assert opened.task.scheme == "words"  # pyright: ignore
    assert opened.predict([{"words": WORDS}]) == [answer]


def test_a_word_that_the_vocabulary_lacks_is_read_and_tagged():
    words, tags = ["the", "\u732b", "sat"], ["DET", "NOUN", "VERB"]
    setting = Setting(tokenizer=make_tokenizer("bert"), max_tokens=64, labels=(*sorted(tags),))
    encoded = Tagging(scheme="words").encode([{"words": words, "tags": tags}], setting)
    (example,) = encoded.examples
    assert setting.tokenizer.unknown_id in example.input_ids
    assert [label for label in example.token_labels or () if label != IGNORE] == [0, 1, 2]
    assert encoded.unknown == {"words": 1}
    assert not any(encoded.notes.values())


def test_words_that_were_not_read_are_no_entities():
    setting = Setting(tokenizer=make_tokenizer("bert"), max_tokens=64, labels=("DET", "NOUN"))
    (sentence,) = read_sentences([{"words": ["the", "cat"]}], setting.tokenizer)
    answer = Tagging(scheme="words").answer(sentence, [0, None], setting)
    assert answer["prediction"] == ["DET", "O"]
    assert [entity["label"] for entity in answer["entities"]] == ["DET"]
    assert answer["cut"] == ["source"]


def test_words_of_a_sentence_are_drawn_together():
    rows = [{"words": ["a", "b"], "tags": ["B-A", "O"]}, {"words": ["c"], "tags": ["O"]}]
    said = [{"prediction": ["B-A", "B-A"]}, {"prediction": ["O"]}]
    found = {item.name: item for item in Tagging().statistics(said, rows)}
    assert found["token_accuracy"].rows.tolist() == [[1, 2], [1, 1]]
    (score,) = Tagging().class_scores(said, rows)
    assert (score.name, score.precision, score.recall, score.support) == ("A", 50, 100, 1)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5))
@settings(deadline=None)
def test_the_best_spans_are_the_best_of_all(seed, width, wanted):
    scores = np.random.default_rng(seed).normal(size=(9, 2))
    task = Answering(max_answer_tokens=width, num_best=wanted)
    found = sorted(task._best_spans(scores), reverse=True)[:wanted]
    every = sorted(
        (
            (scores[start, 0] + scores[end, 1], start, end)
            for start in range(9)
            for end in range(start, min(9, start + width))
        ),
        reverse=True,
    )
    assert [item[1:] for item in found] == [item[1:] for item in every[:wanted]]


def test_rows_whose_answer_no_window_holds_teach_nothing():
    setting = Setting(tokenizer=make_tokenizer("bert"), max_tokens=64)
    context = " ".join(WORDS * 3)
    whole = {"text": context, "start": 0}
    second = {"text": "cat", "start": context.index("cat")}
    row = {"question": "the cat", "context": context, "answers": [whole]}
    task = Answering(max_tokens=24, stride_tokens=6)
    (lost,) = [n for n in task.encode([row], setting).notes if "no window holds" in n]
    encoded = task.encode([row], setting)
    assert not encoded.examples
    assert encoded.notes[lost] == 1
    # The second answer is as good as the first.
    encoded = task.encode([{**row, "answers": [whole, second]}], setting)
    assert any(example.classes != (0, 0) for example in encoded.examples)
    assert [example.index for example in encoded.examples] == list(range(len(encoded.examples)))
