"""T5 gives what transformers gives, from its files and to them, token by token and beam by beam."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from decoders import shake
from headway.errors import FileError
from headway.files import folder
from headway.files.rename import to_published
from headway.layers.relative import relative_buckets
from headway.layers.side import Side
from headway.models import t5
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.translation import Translation
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer

transformers = pytest.importorskip("transformers")

VARIANTS = {"first": {}, **t5.VARIANTS}
SOURCES = [[5, 6, 7, 8, 9, 4, 3, 12, 1], [10, 1], [4, 5, 1]]
TARGETS = [[0, 3, 4, 11, 2], [0, 5], [0, 7, 7, 7]]
TEXTS = ["a dog runs through the snow", "two women are sitting on a bench, talking"]


def make(variant: str) -> t5.T5:
    torch.manual_seed(1)
    body = t5.T5(dataclasses.replace(t5.T5.tiny(), **VARIANTS[variant])).eval()
    shake(body)
    return body


def open_there(path):
    model, notes = transformers.T5ForConditionalGeneration.from_pretrained(
        path, output_loading_info=True
    )
    assert not any(notes[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def both_logits(body: t5.T5, theirs) -> tuple[torch.Tensor, torch.Tensor]:
    source, target = Side.padded(SOURCES), Side.padded(TARGETS)
    ours = body.logits(body.decode(target, body.encode(source)))
    found = theirs(
        input_ids=source.ids,
        attention_mask=source.attention_mask.long(),
        decoder_input_ids=target.ids,
    )
    real = target.attention_mask
    return ours[real], found.logits[real]


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_files_open_there_and_theirs_here(variant, tmp_path):
    body = make(variant)
    (tmp_path / "ours").mkdir()
    folder.write_model(tmp_path / "ours", "t5", body, kind="translation")
    theirs = open_there(tmp_path / "ours")
    with torch.no_grad():
        ours, found = both_logits(body, theirs)
    assert (ours - found).abs().max() <= 1e-5 * max(1.0, float(found.abs().max()))
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = folder.read_model(tmp_path / "theirs")
    assert loaded.body.config == body.config
    assert not loaded.fresh and not loaded.unused
    parameters = dict(loaded.body.named_parameters())
    for name, value in body.named_parameters():
        assert torch.equal(parameters[name], value), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_agree(variant, tmp_path):
    body = make(variant)
    folder.write_model(tmp_path, "t5", body, kind="translation")
    theirs = open_there(tmp_path)
    for logits in both_logits(body, theirs):
        (logits.tanh() ** 2).sum().backward()
    gradients = {n: p.grad for n, p in body.named_parameters() if p.grad is not None}
    table = folder.pick_layout("t5", body.config).table("translation")
    published = to_published(gradients, table)
    wanted = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    assert published.keys() == wanted.keys()
    for name, value in wanted.items():
        bound = 1e-4 * max(1.0, float(value.abs().max()))
        assert (published[name] - value).abs().max() <= bound, name


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 6), (16, 100)])
def test_distances_fall_into_the_same_buckets(both_ways, num_buckets, max_distance):
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-300, 301)[None, None]
    ours = relative_buckets(
        distances, num_buckets=num_buckets, max_distance=max_distance, both_ways=both_ways
    )
    theirs = T5Attention._relative_position_bucket(
        distances, bidirectional=both_ways, num_buckets=num_buckets, max_distance=max_distance
    )
    assert torch.equal(ours, theirs)


def test_a_config_of_the_first_version_1_1_has_an_output_layer_of_its_own(tmp_path):
    body = make("v1.1")
    folder.write_model(tmp_path, "t5", body, kind="translation")
    path = tmp_path / "config.json"
    published = json.loads(path.read_text())
    del published["scale_decoder_outputs"], published["num_decoder_layers"]
    published["num_layers"] = published["num_hidden_layers"] = 1
    path.write_text(json.dumps(published))
    key, config, _ = folder.read_config(tmp_path)
    assert key == "t5"
    assert not config.tie_word_embeddings
    assert config.num_decoder_layers == 1
    assert config.feed_forward == "gated-gelu"


def make_model(**settings) -> Model:
    tokenizer = train_tokenizer("unigram", TEXTS * 5, vocab_size=160, specials=SPECIALS["t5"])
    config = dataclasses.replace(t5.T5.tiny(), vocab_size=tokenizer.vocab_size)
    torch.manual_seed(1)
    body = t5.T5(config).eval()
    shake(body)
    task = Translation(**settings)
    return Model(body, tokenizer, task, task_name="translation", architecture="t5")


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generate_of_transformers_finds_our_results(num_beams, tmp_path):
    settings = {"max_target_tokens": 12, "max_length_ratio": 0.0}
    model = make_model(num_beams=num_beams, num_best=num_beams, **settings)
    model.save(tmp_path / "model")
    theirs = open_there(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(TEXTS)["input_ids"] == model.tokenizer.encode_ids(TEXTS)
    answers = load(tmp_path / "model").predict([{"source": text} for text in TEXTS])
    for text, answer in zip(TEXTS, answers, strict=True):
        found = theirs.generate(**tokenizer([text], return_tensors="pt"))
        # Ours puts results that ended before those that were cut, whatever their score.
        results = answer.get("n_best", [answer])
        best = max(results, key=lambda result: result["score"])
        assert tokenizer.decode(found[0], skip_special_tokens=True) == best["prediction"]


@pytest.mark.parametrize(
    ("preset", "count"),
    [
        ("small", 60_506_624),
        ("base", 222_903_552),
        ("large", 737_668_096),
        ("3b", 2_851_598_336),
        ("11b", 11_307_321_344),
        ("v1.1-base", 247_577_856),
        ("v1.1-large", 783_150_080),
        ("v1.1-xxl", 11_135_332_352),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset, count):
    with torch.device("meta"):
        body = t5.T5(t5.T5Config(**t5.PRESETS[preset]))
    assert sum(parameter.numel() for parameter in body.parameters()) == count


@pytest.mark.parametrize("word", ["gelu", "silu", "gated-silu"])
def test_other_feed_forward_layers_are_refused(word, tmp_path):
    folder.write_model(tmp_path, "t5", make("first"), kind="translation")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"feed_forward_proj": word}))
    with pytest.raises(FileError, match=word):
        folder.read_model(tmp_path)
