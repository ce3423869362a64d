"""Alignments: the right tokens beside the right weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headway.errors import RequestError
from headway.explain.alignment import Alignment, align, evaluating, show_tokens
from headway.text.train import train_tokenizer


def test_transformer_alignment_of_a_given_target(transformer):
    found = align(transformer, "abc", "ba")
    assert found.source_tokens == ("a", "b", "c", "</s>")
    assert found.target_tokens == ("b", "a", "</s>")
    assert found.input_tokens == ("<pad>", "b", "a")
    assert (found.source, found.target) == ("abc", "ba")
    assert found.weights.shape == (3, 2, 3, 4)
    assert found.encoder.shape == (2, 2, 4, 4)
    assert found.decoder.shape == (3, 2, 3, 3)
    assert found.weights.dtype == np.float32
    assert found.weights.sum(-1) == pytest.approx(1, abs=1e-5)


def test_recurrent_alignment(recurrent, many_scripts):
    found = align(recurrent, many_scripts, "ab")
    assert found.weights.shape == (1, 1, 3, len(many_scripts) + 1)
    assert found.encoder is None
    assert found.decoder is None
    assert found.mean() == pytest.approx(found.weights[0, 0])


def test_prediction_is_what_the_model_writes(transformer):
    found = align(transformer, "abcd")
    assert found.target == transformer.translate(["abcd"])[0]
    again = align(transformer, "abcd", found.target)
    length = min(len(found.target_tokens), len(again.target_tokens) - 1)
    assert found.target_tokens[:length] == again.target_tokens[:length]
    assert found.weights[:, :, :length] == pytest.approx(again.weights[:, :, :length], abs=1e-6)


def test_mean_is_over_layers_and_heads():
    weights = np.zeros((2, 1, 1, 2), dtype=np.float32)
    weights[0, 0, 0], weights[1, 0, 0] = (1.0, 0.0), (0.5, 0.5)
    found = Alignment(
        source="",
        target="",
        source_tokens=("a", "b"),
        target_tokens=("c",),
        input_tokens=("<pad>",),
        weights=weights,
    )
    assert found.mean().tolist() == [[0.75, 0.25]]


def test_weights_of_a_hand_built_attention(build_model):
    """Queries that equal one key, far from all others, look at that key alone."""
    model = build_model("transformer", num_encoder_layers=1, num_decoder_layers=1)
    cross = model.body.decoder.layers[0].cross_attention
    with torch.no_grad():
        cross.query.weight.zero_()
        cross.query.bias.fill_(1.0)
        cross.key.weight.zero_()
        cross.key.bias.zero_()
    # All keys are equal: every source token has the same weight.
    found = align(model, "abc", "a")
    assert found.weights == pytest.approx(np.full((1, 2, 2, 4), 0.25))


def test_a_model_without_attention_is_an_error(build_model):
    with pytest.raises(RequestError, match="no attention"):
        align(build_model("seq2seq", attention="none"), "abc", "a")


def test_a_model_of_another_task_is_an_error(transformer, build_model):
    class Other:
        bodies = ("encoder_decoder",)

    model = build_model("transformer")
    model.task, model.task_name = Other(), "sorting"
    with pytest.raises(RequestError, match="sorting"):
        align(model, "abc")


def test_dropout_is_off_and_modes_come_back(build_model):
    model = build_model("transformer", dropout=0.5)
    model.body.train()
    model.body.encoder.eval()
    first, second = align(model, "abc", "ab"), align(model, "abc", "ab")
    assert np.array_equal(first.weights, second.weights)
    assert model.body.training
    assert not model.body.encoder.training
    with evaluating(model.body):
        assert not any(module.training for module in model.body.modules())


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("character", ["o", "\u2581", "n", "</s>"]),
        ("word", ["\u2581o", "\u2581n", "</s>"]),
        ("bpe", ["\u2581o", "\u2581n", "</s>"]),
        ("byte-bpe", ["o", "\u2581n", "</s>"]),
    ],
)
def test_tokens_are_shown_with_their_spaces(kind, shown):
    tokenizer = train_tokenizer(kind, ["o n", "o n o n", "n o n"] * 20, vocab_size=300)
    assert show_tokens(tokenizer, tokenizer.encode("o n").ids) == shown


def test_bytes_are_shown_as_characters():
    tokenizer = train_tokenizer("byte-bpe", ["\u00e4\u00e4 \u00e4"] * 50, vocab_size=300)
    assert "\u00e4" in "".join(show_tokens(tokenizer, tokenizer.encode("\u00e4").ids))
