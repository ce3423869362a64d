"""New words begin as the mean of their pieces, and change nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from headway.errors import ConfigError
from headway.files.folder import make_body
from headway.models.bert import Bert
from headway.tasks._embedding import embed
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks._vocabulary import add_words, pick_words
from headway.tasks.masked_lm import MaskedLm
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer

TEXTS = ["the red dog runs", "a blue cat sat on the mat", "the mat is red"] * 4
DOMAIN = ["Ferritin binds iron", "ferritin and red iron", "iron"] * 4 + ["rarest words"]


def make_model(**changes) -> Model:
    tokenizer = train_tokenizer(
        "wordpiece", TEXTS, vocab_size=60, lowercase=True, specials=SPECIALS["bert"]
    )
    config = dataclasses.replace(Bert.tiny(), vocab_size=tokenizer.vocab_size, **changes)
    torch.manual_seed(1)
    body = make_body("bert", config, "masked_lm").eval()
    with torch.no_grad():
        body.masked_lm.output.bias.normal_()
    return Model(body, tokenizer, MaskedLm(), task_name="masked_lm", architecture="bert")


def test_frequent_words_in_many_pieces_are_picked_in_the_case_of_the_vocabulary():
    tokenizer = make_model().tokenizer
    assert pick_words(DOMAIN, tokenizer, 10) == ["iron", "ferritin"]
    assert pick_words(DOMAIN, tokenizer, 1) == ["iron"]
    assert pick_words(TEXTS, tokenizer, 10) == []


@pytest.mark.parametrize("tied", [True, False])
def test_vectors_and_biases_begin_as_means(tied):
    model = make_model(tie_word_embeddings=tied)
    pieces = model.tokenizer.encode_ids(["ferritin"], bare=True)[0]
    tables = {
        "token": model.body.embeddings.token.weight.clone(),
        "output": model.body.masked_lm.output.weight.clone(),
        "bias": model.body.masked_lm.output.bias.clone(),
    }
    add_words(model, ["ferritin"])
    place = model.tokenizer.id_of("ferritin")
    assert place == len(tables["bias"])
    after = {
        "token": model.body.embeddings.token.weight,
        "output": model.body.masked_lm.output.weight,
        "bias": model.body.masked_lm.output.bias,
    }
    for name, before in tables.items():
        torch.testing.assert_close(after[name][place], before[pieces].mean(0))
        assert torch.equal(after[name][:place], before)
    assert (after["token"] is after["output"]) == tied
    assert model.body.config.vocab_size == place + 1


def test_a_word_is_one_token_only_where_it_stands_alone():
    model = make_model()
    add_words(model, ["iron"])
    assert model.tokenizer.encode("Iron").tokens == ["[CLS]", "iron", "[SEP]"]
    assert "iron" not in model.tokenizer.encode("irons environ").tokens


def test_texts_without_new_words_keep_their_vectors_and_all_of_it_is_saved(tmp_path):
    model = make_model()
    before = embed(model, ["the red dog"])[0].vectors
    add_words(model, ["iron", "ferritin"])
    torch.testing.assert_close(embed(model, ["the red dog"])[0].vectors, before)
    model.save(tmp_path / "model")
    found = load(tmp_path / "model")
    texts = ["red iron", "ferritin"]
    for ours, theirs in zip(embed(model, texts), embed(found, texts), strict=True):
        torch.testing.assert_close(ours.vectors, theirs.vectors)


def test_an_encoder_decoder_takes_no_words():
    model = make_model()
    model.body.kind = "encoder_decoder"
    with pytest.raises(ConfigError, match="cannot be added"):
        add_words(model, ["iron"])
