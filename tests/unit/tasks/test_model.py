"""A model as users hold it: what is packed is not saved, what is cut is said."""

from __future__ import annotations

import time

import pytest
import torch

import headway
from headway import registry
from headway.errors import ConfigError, RequestError
from headway.files.folder import write_model
from headway.tasks._model import Model
from headway.tasks.translation import Translation
from headway.text.train import train_tokenizer

TEXTS = ["one two three four", "five six seven eight nine ten"]


def make_model(architecture: str, **settings) -> Model:
    tokenizer = train_tokenizer("word", TEXTS, vocab_size=40)
    body_class = registry.load_class("models", architecture)
    changes = {"vocab_size": tokenizer.vocab_size}
    changes |= {"pad_token_id": tokenizer.pad_id, "eos_token_id": tokenizer.end_id}
    config = type(body_class.tiny())(**{**vars(body_class.tiny()), **changes})
    return Model(
        body_class(config).eval(),
        tokenizer,
        Translation(**settings),
        task_name="translation",
        architecture=architecture,
    )


@pytest.mark.parametrize("architecture", ["transformer", "seq2seq"])
def test_a_packed_model_is_neither_saved_nor_unpacked(architecture, tmp_path):
    make_model(architecture).save(tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    packed = headway.load(tmp_path / "model", precision="bf16")
    assert packed.precision == "bf16"
    assert packed.to_precision("bf16") is packed
    with pytest.raises(RequestError, match="packed for inference"):
        packed.save(tmp_path / "model")
    with pytest.raises(RequestError, match="cannot become fp32 again"):
        packed.to_precision("fp32")
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_a_network_that_lacks_parameters_is_not_written(tmp_path):
    body = make_model("transformer").body
    del body.decoder.layers[1].feed_forward.up.bias
    with pytest.raises(ConfigError, match=r"no whole transformer: decoder\.layers\.1"):
        write_model(tmp_path, "transformer", body, kind="translation")


class _Endless(torch.nn.Module):
    """Always prefers the same word to an end."""

    def __init__(self, body: torch.nn.Module, token: int) -> None:
        super().__init__()
        self.body, self.token = body, token
        self.output, self.config, self.kind = body.output, body.config, body.kind
        self.encode, self.start, self.step = body.encode, body.start, body.step

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*hidden.shape[:-1], self.config.vocab_size)
        logits[..., self.token] = 100.0
        return logits


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, 2 * 5 + 20),
        ({"max_length_ratio": 0.5}, 2 + 20),
        ({"max_length_ratio": 0.0, "max_target_tokens": 50}, 50),
        ({"max_target_tokens": 7}, 7),
    ],
)
def test_a_result_that_is_cut_says_so(settings, length):
    model = make_model("transformer", num_beams=2, **settings)
    model.body = _Endless(model.body, model.tokenizer.encode_ids(["two"])[0][0])
    (answer,) = model.predict([{"source": TEXTS[0]}])
    assert answer["cut"] == ["prediction"]
    assert len(answer["prediction"].split()) == length


def test_a_source_that_is_cut_says_so():
    model = make_model("transformer", max_source_tokens=5)
    short, long = model.predict([{"source": text} for text in TEXTS])
    assert "source" not in short.get("cut", [])
    assert "source" in long["cut"]


def test_giving_up_ends_the_searches_at_once(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    model = make_model("transformer", batch_rows=1, max_target_tokens=4)
    searched = []
    search = Translation.search

    def counted(self, body, sources, setting):
        searched.append(len(sources))
        return search(self, body, sources, setting)

    def give_up(state):
        raise KeyboardInterrupt

    monkeypatch.setattr(Translation, "search", counted)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.predict([{"source": TEXTS[0]}] * 200, progress=give_up)
    # While the exception, and with it every frame, is still held.
    count = len(searched)
    assert count < 20
    time.sleep(0.3)
    assert len(searched) == count
    assert caught.value is not None
    torch.set_num_threads(before)
