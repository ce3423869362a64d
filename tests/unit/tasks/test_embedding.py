"""Texts as vectors: every choice of layers and pooling against hidden states taken by hand."""

from __future__ import annotations

import pytest
import torch

from encoders import make_encoder
from headway import registry
from headway.errors import RequestError
from headway.layers.side import Side
from headway.tasks._embedding import LAYERS, POOLS, embed
from headway.tasks._model import Model
from headway.tasks.translation import Translation
from headway.text.tokenizer import Tokenizer
from headway.text.train import train_tokenizer

TEXTS = [
    "The unhappy cat sat, don't they?",
    "dog",
    "",
    "long words about short books in the old tree near a river " * 3,
    "\u65e5\u672c",
]


@pytest.fixture(scope="module")
def model() -> Model:
    return make_encoder(num_hidden_layers=5)


def states_of(model: Model, text: str) -> list[torch.Tensor]:
    """Give the hidden states of one text alone: the embeddings, then what leaves each block."""
    ids = model.tokenizer.encode_ids([text])[0]
    with torch.no_grad():
        states = model.body.hidden_states(Side.padded([ids], pad_id=model.tokenizer.pad_id))
        return [state[0] for state in states]


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


BY_HAND = {
    "0": lambda s: s[0],
    "1": lambda s: s[1],
    "first": lambda s: s[1],
    "3": lambda s: s[3],
    "second-to-last": lambda s: s[4],
    "5": lambda s: s[5],
    "last": lambda s: s[5],
    "sum-all": lambda s: s[1] + s[2] + s[3] + s[4] + s[5],
    "sum-last-4": lambda s: s[2] + s[3] + s[4] + s[5],
    "concat-last-4": lambda s: torch.cat([s[2], s[3], s[4], s[5]], dim=1),
}


@pytest.mark.parametrize("layers", BY_HAND)
def test_layers_are_those_that_were_asked_for(layers, model):
    found = embed(model, TEXTS, layers=layers)
    for text, item in zip(TEXTS, found, strict=True):
        expected = BY_HAND[layers](states_of(model, text)).mean(0, keepdim=True)
        assert_equal(item.vectors, expected)
        assert (item.words, item.is_cut) == ([], False)
        assert item.vectors.dtype == torch.float32


def test_every_choice_is_checked_here():
    assert set(LAYERS) <= BY_HAND.keys()
    assert set(POOLS) == {"cls", "mean", "max", "tokens"}


def test_layers_differ_from_each_other(model):
    vectors = [embed(model, TEXTS[:1], layers=str(number))[0].vectors for number in range(6)]
    for number, vector in enumerate(vectors):
        for other in vectors[number + 1 :]:
            assert (vector - other).abs().max() > 0.01


@pytest.mark.parametrize(
    ("pool", "by_hand"),
    [
        ("cls", lambda hidden: hidden[:1]),
        ("mean", lambda hidden: hidden.sum(0, keepdim=True) / len(hidden)),
        ("max", lambda hidden: torch.stack([column.max() for column in hidden.T])[None]),
    ],
)
def test_one_vector_is_pooled_of_all_tokens(pool, by_hand, model):
    for text, item in zip(TEXTS, embed(model, TEXTS, pool=pool), strict=True):
        assert_equal(item.vectors, by_hand(states_of(model, text)[-1]))


def test_by_default_the_last_layer_is_averaged(model):
    found = embed(model, TEXTS)
    expected = embed(model, TEXTS, layers="last", pool="mean")
    for item, other in zip(found, expected, strict=True):
        assert torch.equal(item.vectors, other.vectors)


@pytest.mark.parametrize("pool", POOLS)
def test_neighbours_change_nothing(pool, model):
    together = embed(model, TEXTS * 2, pool=pool)
    for number, text in enumerate(TEXTS):
        (alone,) = embed(model, [text], pool=pool)
        for item in (together[number], together[number + len(TEXTS)]):
            assert_equal(item.vectors, alone.vectors)
            assert item.words == alone.words


def test_texts_of_several_batches_come_back_in_order(model):
    texts = [" ".join(["cat"] * (1 + number % 7)) for number in range(600)]
    seen = []
    found = embed(model, texts, progress=seen.append)
    expected = [embed(model, [" ".join(["cat"] * count)])[0].vectors for count in range(1, 8)]
    for number, item in enumerate(found):
        assert_equal(item.vectors, expected[number % 7])
    assert [state.done for state in seen] == [256, 512, 600]
    assert {state.total for state in seen} == {600}


def test_no_texts_give_no_vectors(model):
    assert embed(model, []) == []


@pytest.mark.parametrize("pool", ["cls", "mean", "max"])
def test_a_vector_keeps_nothing_else_in_memory(pool, model, monkeypatch):
    # Offsets and tokens are many times as large as ids.
    monkeypatch.setattr(Tokenizer, "encode_batch", lambda *_, **__: pytest.fail("not needed"))
    for item in embed(model, TEXTS, pool=pool):
        assert item.vectors.untyped_storage().nbytes() == 16 * 4


def test_a_model_that_was_just_trained_does_not_drop_out():
    model = make_encoder(dropout=0.5)
    expected = embed(model, TEXTS)[0].vectors
    model.body.train()
    assert torch.equal(embed(model, TEXTS)[0].vectors, expected)


# Words


def test_a_word_is_the_mean_of_its_pieces(model):
    text = "unhappy houses, don't"
    (item,) = embed(model, [text], pool="tokens")
    assert item.words == ["unhappy", "houses", ",", "don", "'", "t"]
    hidden = states_of(model, text)[-1]
    assert item.vectors.shape == (6, 16)
    place = 1
    for word, vector in zip(item.words, item.vectors, strict=True):
        count = len(model.tokenizer.encode_ids([word], bare=True)[0])
        assert_equal(vector, hidden[place : place + count].mean(0))
        place += count
    # What is left is the token that ends the text.
    assert place == len(hidden) - 1
    assert place > 7


@pytest.mark.parametrize("architecture", ["roberta", "albert", "distilbert"])
def test_words_of_other_families_are_whole_too(architecture):
    model = make_encoder(architecture)
    text = "the unhappy cat, sat"
    (item,) = embed(model, [text], pool="tokens")
    assert item.words == ["the", "unhappy", "cat", ",", "sat"]
    hidden = states_of(model, text)[-1]
    pieces = model.tokenizer.encode(text)
    for word, vector in zip(item.words, item.vectors, strict=True):
        start = text.index(word)
        places = [
            place
            for place, (a, b) in enumerate(pieces.offsets)
            if a < start + len(word) and b > start
        ]
        assert_equal(vector, hidden[places].mean(0))


@pytest.mark.parametrize("layers", ["sum-all", "concat-last-4", "0"])
def test_words_are_taken_from_the_layers_asked_for(layers, model):
    (item,) = embed(model, ["cat"], layers=layers, pool="tokens")
    pieces = len(model.tokenizer.encode_ids(["cat"], bare=True)[0])
    expected = BY_HAND[layers](states_of(model, "cat"))[1 : 1 + pieces].mean(0, keepdim=True)
    assert_equal(item.vectors, expected)


@pytest.mark.parametrize(("text", "width"), [("", 16), (" \n", 16), ("", 64)])
def test_a_text_without_words_has_no_vectors_of_words(text, width, model):
    layers = "concat-last-4" if width == 64 else "last"
    (item,) = embed(model, [text], layers=layers, pool="tokens")
    assert item.words == []
    assert item.vectors.shape == (0, width)


# Texts that are too long


def cut_ids(model: Model, text: str) -> list[int]:
    ids = model.tokenizer.encode_ids([text])[0]
    assert len(ids) > 64
    return [*ids[:63], ids[-1]]


@pytest.mark.parametrize("pool", ["cls", "mean", "max"])
def test_what_is_cut_keeps_its_last_token(pool, model):
    text = "cat " * 100
    short, long = embed(model, ["cat", text], pool=pool)
    assert (short.is_cut, long.is_cut) == (False, True)
    with torch.no_grad():
        side = Side.padded([cut_ids(model, text)])
        hidden = list(model.body.hidden_states(side))[-1][0]
    expected = {"cls": hidden[0], "mean": hidden.mean(0), "max": hidden.amax(0)}[pool]
    assert_equal(long.vectors[0], expected)


def test_words_that_were_cut_off_are_left_out(model):
    text = " ".join(["cat"] * 70 + ["dog"])
    (item,) = embed(model, [text], pool="tokens")
    assert item.is_cut
    assert item.words == ["cat"] * 62
    assert item.vectors.shape == (62, 16)


def test_a_text_that_fits_to_the_last_token_is_not_cut(model):
    whole, cut = embed(model, ["cat " * 62, "cat " * 63])
    assert (whole.is_cut, cut.is_cut) == (False, True)


# Wrong choices


@pytest.mark.parametrize(
    ("choice", "pattern"),
    [
        ({"pool": "avg"}, r"pool is 'avg'\. known: cls, max, mean, tokens"),
        ({"pool": "token"}, r"pool is 'token'\. did you mean 'tokens'"),
        ({"layers": "lst"}, r"layers is 'lst'\. did you mean 'last'"),
        ({"layers": "6"}, r"layers is 6, but the model has 5"),
        ({"layers": "-1"}, r"layers is '-1'"),
        ({"layers": ""}, r"layers is ''"),
        ({"layers": "1.0"}, r"layers is '1\.0'"),
        ({"layers": "sum-last-5"}, r"layers is 'sum-last-5'\. did you mean 'sum-last-4'"),
    ],
)
def test_another_choice_is_refused(choice, pattern, model):
    with pytest.raises(RequestError, match=pattern):
        embed(model, TEXTS, **choice)


@pytest.mark.parametrize("layers", ["sum-last-4", "concat-last-4"])
def test_four_layers_of_a_smaller_model_are_refused(layers):
    with pytest.raises(RequestError, match=rf"layers is '{layers}', but the model has 3"):
        embed(make_encoder(num_hidden_layers=3), TEXTS, layers=layers)


def test_of_a_single_block_the_one_before_the_last_is_the_embeddings():
    model = make_encoder(num_hidden_layers=1)
    (item,) = embed(model, ["cat"], layers="second-to-last", pool="cls")
    assert_equal(item.vectors, states_of(model, "cat")[0][:1])


def test_a_model_that_is_no_encoder_is_refused():
    tokenizer = train_tokenizer("word", ["one two"], vocab_size=20)
    body_class = registry.load_class("models", "transformer")
    model = Model(
        body_class(body_class.tiny()),
        tokenizer,
        Translation(),
        task_name="translation",
        architecture="transformer",
    )
    with pytest.raises(RequestError, match="transformer is no encoder"):
        embed(model, ["one"])
