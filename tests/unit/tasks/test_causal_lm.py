"""Causal language modeling: windows say every token once, and what that costs."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from decoders import TEXTS, make_decoder, make_tokenizer
from headway.data.batch import pack_rows, pad_rows
from headway.data.store import open_store, store_of_texts
from headway.errors import DataError
from headway.layers.losses import IGNORE
from headway.layers.side import Side
from headway.tasks._model import Model
from headway.tasks._task import Setting
from headway.tasks.causal_lm import CausalLm, plan_windows
from headway.train.evaluate import evaluate

ROWS = [{"text": text} for text in TEXTS]
DOCUMENTS = st.lists(st.text("abc \n", max_size=30), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_decoder(task=CausalLm(max_tokens=24))


def streams_of(store, tokenizer) -> list[list[int]]:
    """Give every document as it is read: what begins it, its tokens, what ends it."""
    starts = store.segments[store.documents]
    return [
        [tokenizer.start_id, *store.ids[first:last].tolist(), tokenizer.end_id]
        for first, last in itertools.pairwise(starts)
    ]


def losses_of(model: Model, rows):
    batch = model.task.collate(rows, model.setting)
    with torch.no_grad():
        (loss,) = model.task.losses(model.body, None, batch)
    return batch, loss


# Windows


@given(texts=DOCUMENTS, longest=st.integers(2, 12), data=st.data())
def test_windows_say_every_token_of_every_document_once(texts, longest, data):
    tokenizer = make_tokenizer("character")
    store = store_of_texts(texts, tokenizer, keeps_lines=True)
    shift = data.draw(st.integers(0, longest - 1))
    windows = plan_windows(store, longest=longest, shift=shift)
    streams = streams_of(store, tokenizer)
    said = [[] for _ in streams]
    for document, start, end in windows.tolist():
        assert 0 < end - start <= longest
        said[document] += range(start + 1, end + 1)
    # In order, without a gap; the first token of a stream is given.
    assert said == [list(range(1, len(stream))) for stream in streams]


@given(texts=DOCUMENTS, longest=st.integers(2, 12), epoch=st.integers(0, 3))
def test_examples_carry_the_text_exactly(texts, longest, epoch):
    tokenizer = make_tokenizer("character")
    store = store_of_texts(texts, tokenizer, keeps_lines=True)
    if not len(store.ids):
        return
    setting = Setting(tokenizer=tokenizer, max_tokens=64)
    task = CausalLm(max_tokens=longest)
    encoded = task.encode_corpus(store, setting, seed=5, is_training=True).at(epoch)
    said = [token for example in encoded.examples for token in example.token_labels]
    expected = [token for stream in streams_of(store, tokenizer) for token in stream[1:]]
    assert said == expected
    for number, example in enumerate(encoded.examples):
        assert example.input_ids[1:] == example.token_labels[:-1]
        assert len(example.input_ids) == encoded.lengths[number, 0] <= longest


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "\n\none  two \n\n\nthree\n", ["\n\none  two \n\n\nthree\n"]),
        ("a.txt", "one\n two", ["one\n two"]),
        ("a.txt", "one two  three " * 7_000, ["one two  three " * 7_000]),
        ("a.txt", "one\r\n\r\ntwo", ["one\n\ntwo"]),
        ("a.txt.gz", "one\n\n two\n", ["one\n\n two\n"]),
        ("a.jsonl", [" one\n\ntwo\n", "three"], [" one\n\ntwo\n", "three"]),
    ],
    ids=["blank lines", "no end", "100 kB", "windows", "gz", "jsonl"],
)
def test_the_windows_of_a_file_are_its_content(name, content, expected, tmp_path):
    if isinstance(content, list):
        content = "".join(json.dumps({"text": text}) + "\n" for text in content)
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    tokenizer = make_tokenizer()
    store = open_store([tmp_path / name], tokenizer, folder=tmp_path, keeps_lines=True)
    setting = Setting(tokenizer=tokenizer, max_tokens=50)
    encoded = CausalLm().encode_corpus(store, setting, seed=1, is_training=True)
    said = itertools.chain.from_iterable(item.token_labels for item in encoded.examples)
    ends = [list(part) for is_end, part in itertools.groupby(said, key=tokenizer.end_id.__eq__)]
    assert (tokenizer.decode_batch(ends[::2]) == expected) is True


def test_a_document_that_fits_is_read_whole_wherever_windows_begin(model):
    tokenizer = model.tokenizer
    store = store_of_texts(["one"], tokenizer)
    for shift in range(8):
        assert plan_windows(store, longest=8, shift=shift).tolist() == [[0, 0, 4]]


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        (0, [[0, 0, 4], [0, 4, 8], [0, 8, 10]]),
        (1, [[0, 0, 1], [0, 1, 5], [0, 5, 9], [0, 9, 10]]),
        (2, [[0, 0, 2], [0, 2, 6], [0, 6, 10]]),
    ],
)
def test_the_first_window_of_a_long_document_ends_at_the_shift(shift, expected):
    # Nine letters, and what begins or ends them.
    store = store_of_texts(["abcdefghi"], make_tokenizer("character"))
    assert plan_windows(store, longest=4, shift=shift).tolist() == expected


def test_windows_begin_elsewhere_in_every_pass_of_training_only(model):
    store = store_of_texts(TEXTS, model.tokenizer, keeps_lines=True)
    task, setting = model.task, model.setting
    training = task.encode_corpus(store, setting, seed=2, is_training=True)
    passes = [training.at(epoch).examples.windows.tolist() for epoch in range(4)]
    assert len({str(windows) for windows in passes}) > 1
    again = task.encode_corpus(store, setting, seed=2, is_training=True).at(3).at(1)
    assert again.examples.windows.tolist() == passes[1]
    valid = task.encode_corpus(store, setting, seed=2)
    assert valid.at(3) is valid
    expected = plan_windows(store, longest=24, shift=0)
    assert valid.examples.windows.tolist() == expected.tolist()


def test_windows_are_as_long_as_task_and_model_allow(model):
    for task, limit in ((CausalLm(max_tokens=10), 10), (CausalLm(max_tokens=400), 64)):
        encoded = task.encode([{"text": "x" * 300}], model.setting)
        assert encoded.lengths.max() == limit
        assert encoded.limits == {"text": limit}


@pytest.mark.parametrize("rows", [[{"text": ""}], []])
def test_a_corpus_without_text_is_an_error(rows, model):
    with pytest.raises(DataError, match="no text that an example could be made of"):
        model.task.encode(rows, model.setting)


@pytest.mark.parametrize(("longest", "problem"), [(1, "max_tokens is 1, but at least 2"), (2, "")])
def test_a_window_has_two_tokens_at_least(longest, problem):
    assert "; ".join(CausalLm(max_tokens=longest).check()).startswith(problem)


# Losses


def test_the_loss_is_that_of_all_logits(model):
    rows = pad_rows(list(model.task.encode(ROWS, model.setting).examples))
    batch, loss = losses_of(model, rows)
    with torch.no_grad():
        logits = model.body.logits(model.body.encode(batch.source).hidden).flatten(0, 1)
    labels = batch.labels.flatten()
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.count == int((labels != IGNORE).sum()) == sum(map(len, streams(model))) - 3
    assert loss.correct == int((logits.argmax(-1) == labels).sum())
    assert model.task.counts(batch) == {"causal_lm": loss.count}


def streams(model: Model) -> list[list[int]]:
    store = store_of_texts(TEXTS, model.tokenizer, keeps_lines=True)
    return streams_of(store, model.tokenizer)


@pytest.mark.parametrize("family", ["gpt", "gpt2", "gpt3", "llama", "bloom"])
def test_packed_rows_cost_what_rows_of_their_own_cost(family):
    model = make_decoder(family, task=CausalLm(max_tokens=20))
    rows = pack_rows(list(model.task.encode(ROWS, model.setting).examples), row_tokens=50)
    assert max(map(len, rows)) > 1
    batch, packed = losses_of(model, rows)
    alone = [losses_of(model, [[example]])[1] for row in rows for example in row]
    assert packed.total.item() == pytest.approx(sum(loss.total.item() for loss in alone), rel=1e-5)
    assert packed.count == sum(loss.count for loss in alone)
    assert packed.correct == sum(loss.correct for loss in alone)
    assert (batch.labels[~batch.source.attention_mask] == IGNORE).all()


def test_a_loss_is_the_score_of_its_text(model):
    text = "The sea"
    _, loss = losses_of(
        model, pad_rows(model.task.encode([{"text": text}], model.setting).examples)
    )
    (score,) = model.score([text])
    prompt = [model.tokenizer.start_id, *model.tokenizer.encode_ids([text])[0]]
    with torch.no_grad():
        hidden = model.body.encode(Side.padded([prompt])).hidden
        end = model.body.logits(hidden)[0, -1].log_softmax(-1)[model.tokenizer.end_id]
    expected = score["log_probability"] + end.item()
    assert loss.total.item() == pytest.approx(-expected, abs=1e-4)


def test_bits_per_byte_by_hand():
    # A model that knows nothing: each token costs log V.
    model = make_decoder(task=CausalLm(max_tokens=8), tie_word_embeddings=False)
    torch.nn.init.zeros_(model.body.output.weight)
    texts = ["caf\u00e9\n", "The sea"]
    scores = evaluate(model, [{"text": text} for text in texts], predicting=False).scores
    tokens = sum(len(ids) + 1 for ids in model.tokenizer.encode_ids(texts))
    size = model.tokenizer.vocab_size
    assert scores["perplexity"] == pytest.approx(size, rel=1e-4)
    # Six bytes and seven; the ends of texts are to be said, but are no bytes.
    assert scores["bits_per_byte"] == pytest.approx(tokens * math.log2(size) / 13, rel=1e-5)
    assert 0 <= scores["causal_accuracy"] <= 100


def test_bits_per_byte_do_not_depend_on_how_windows_are_cut():
    model = make_decoder(tie_word_embeddings=False)
    torch.nn.init.zeros_(model.body.output.weight)
    found = []
    for longest in (3, 17, 64):
        model.task = dataclasses.replace(model.task, max_tokens=longest)
        found.append(evaluate(model, ROWS, predicting=False).scores["bits_per_byte"])
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)


def test_right_answers_are_not_counted_in_training():
    model = make_decoder()
    model.body.train()
    rows = pad_rows(model.task.encode(ROWS, model.setting).examples)
    assert losses_of(model, rows)[1].correct is None


# Going on


def test_predictions_come_in_the_order_of_their_prompts_and_are_told_of(model):
    prompts = ["x" * 20, "The", "x" * 40, ""]
    told = []
    rows = [{"text": prompt} for prompt in prompts]
    answers = model.predict(rows, progress=told.append, max_new_tokens=3, temperature=0)
    alone = [model.predict([row], max_new_tokens=3, temperature=0)[0] for row in rows]
    assert [answer["tokens"] for answer in answers] == [answer["tokens"] for answer in alone]
    assert [(state.done, state.total) for state in told] == [(n, 4) for n in (1, 2, 3, 4)]
