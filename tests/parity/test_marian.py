"""What Headway writes opens in transformers and CTranslate2 with the same answers, and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from headway.errors import FileError
from headway.layers.side import Side
from headway.models.transformer import Transformer, TransformerConfig
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.translation import Translation
from headway.text.train import train_tokenizer

transformers = pytest.importorskip("transformers")

TEXTS = [
    "ein Hund rennt durch den Schnee",
    "zwei Frauen sitzen auf einer Bank",
    "a dog runs through the snow",
    "two women are sitting on a bench, talking",
]

VARIANTS = {
    "post-norm": {},
    "pre-norm": {"norm": "pre"},
    "learned positions": {"positions": "learned"},
    "free base": {"position_base": 100.0},
    "pre-norm, learned": {"norm": "pre", "positions": "learned", "activation": "gelu"},
}


def make_model(**changes) -> Model:
    tokenizer = train_tokenizer("bpe", TEXTS * 5, vocab_size=120)
    config = dataclasses.replace(
        Transformer.tiny(),
        vocab_size=tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.end_id,
        hidden_size=32,
        num_attention_heads=4,
        **changes,
    )
    body = Transformer(config).eval()
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)
    return Model(
        body, tokenizer, Translation(), task_name="translation", architecture="transformer"
    )


def our_logits(model: Model, sources: list[list[int]], targets: list[list[int]]) -> torch.Tensor:
    pad_id = model.tokenizer.pad_id
    source, target = Side.padded(sources, pad_id=pad_id), Side.padded(targets, pad_id=pad_id)
    return model.body.logits(model.body.decode(target, model.body.encode(source)))


def their_logits(reference, sources: list[list[int]], targets: list[list[int]], pad_id: int):
    source, target = Side.padded(sources, pad_id=pad_id), Side.padded(targets, pad_id=pad_id)
    return reference(
        input_ids=source.ids,
        attention_mask=source.attention_mask.long(),
        decoder_input_ids=target.ids,
    ).logits


@pytest.fixture
def rows(request):
    def encode(model: Model) -> tuple[list[list[int]], list[list[int]]]:
        sources = model.tokenizer.encode_ids(TEXTS)
        pad_id = model.tokenizer.pad_id
        return sources, [[pad_id, *ids[:-1]] for ids in model.tokenizer.encode_ids(TEXTS[::-1])]

    return encode


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_loads_what_we_save_with_the_same_logits(variant, tmp_path, rows):
    model = make_model(**VARIANTS[variant])
    model.save(tmp_path / "model")
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    sources, targets = rows(model)
    real = Side.padded(targets).attention_mask
    ours = our_logits(model, sources, targets)[real]
    theirs = their_logits(reference, sources, targets, model.tokenizer.pad_id)[real]
    assert (ours - theirs).abs().max() <= 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_transformers_tokenizer_gives_the_same_ids(variant, tmp_path):
    model = make_model(**VARIANTS[variant])
    model.save(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer(TEXTS)["input_ids"] == model.tokenizer.encode_ids(TEXTS)
    assert tokenizer.pad_token_id == model.tokenizer.pad_id


@pytest.mark.parametrize("family", ["Marian", "Pegasus"])
def test_we_load_what_transformers_saves_with_the_same_logits(family, tmp_path, rows):
    model = make_model(norm="pre" if family == "Pegasus" else "post")
    config = getattr(transformers, f"{family}Config")(
        vocab_size=model.tokenizer.vocab_size,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        scale_embedding=True,
        activation_function="gelu",
        pad_token_id=model.tokenizer.pad_id,
        eos_token_id=model.tokenizer.end_id,
        decoder_start_token_id=model.tokenizer.pad_id,
    )
    name = {"Marian": "MarianMTModel", "Pegasus": "PegasusForConditionalGeneration"}[family]
    reference = getattr(transformers, name)(config).eval()
    reference.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(model.tokenizer.to_json(), encoding="utf-8")
    loaded = load(tmp_path)
    sources, targets = rows(model)
    real = Side.padded(targets).attention_mask
    ours = our_logits(loaded, sources, targets)[real]
    theirs = their_logits(reference, sources, targets, model.tokenizer.pad_id)[real]
    # Ours never answers <pad>; theirs leaves that to generate.
    pad_id = model.tokenizer.pad_id
    ours[:, pad_id] = theirs[:, pad_id] = 0.0
    assert (ours - theirs).abs().max() <= 1e-4


def test_generate_of_transformers_finds_our_greedy_result(tmp_path):
    model = make_model()
    model.save(tmp_path / "model")
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in TEXTS:
        inputs = tokenizer([text], return_tensors="pt")
        ids = reference.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            num_beams=1,
            max_new_tokens=20,
            do_sample=False,
        )
        expected = tokenizer.decode(ids[0], skip_special_tokens=True)
        found = model.translate([text], num_beams=1, max_target_tokens=20)[0]
        assert found == expected


def test_generate_of_transformers_finds_our_beam_search_with_our_settings(tmp_path):
    torch.manual_seed(4)
    model = make_model()
    settings = {"num_beams": 4, "max_target_tokens": 9, "min_tokens": 3, "max_length_ratio": 0.0}
    task = dataclasses.replace(model.task, **settings)
    body = {"task_name": "translation", "architecture": "transformer"}
    model = Model(model.body, model.tokenizer, task, **body)
    model.save(tmp_path / "model")
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in TEXTS:
        # Nothing but generation_config.json says how.
        ids = reference.generate(**tokenizer([text], return_tensors="pt"))
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == model.translate([text])[0]


def test_embeddings_that_should_be_shared_but_differ_are_refused(tmp_path):
    model = make_model()
    model.save(tmp_path / "model")
    (tmp_path / "model" / "manifest.json").unlink()
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    shared = tensors["model.shared.weight"]
    tensors["model.encoder.embed_tokens.weight"] = shared.clone()
    save_file(tensors, path)
    assert torch.equal(load(tmp_path / "model").body.embeddings.weight, shared)
    tensors["model.encoder.embed_tokens.weight"] = shared + 1
    save_file(tensors, path)
    with pytest.raises(FileError, match=r"encoder\.embed_tokens\.weight differs from the tensor"):
        load(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    separate = json.loads(config.read_text()) | {"share_encoder_decoder_embeddings": False}
    config.write_text(json.dumps(separate))
    with pytest.raises(FileError, match="share_encoder_decoder_embeddings"):
        load(tmp_path / "model")


@pytest.mark.parametrize("variant", VARIANTS)
def test_ctranslate2_gives_the_same_scores(variant, tmp_path):
    ctranslate2 = pytest.importorskip("ctranslate2")
    model = make_model(**VARIANTS[variant])
    model.save(tmp_path / "model")
    converter = ctranslate2.converters.TransformersConverter(str(tmp_path / "model"))
    converter.convert(str(tmp_path / "converted"))
    translator = ctranslate2.Translator(str(tmp_path / "converted"), compute_type="float32")
    tokenizer = model.tokenizer
    sources = [tokenizer.encode(text).tokens for text in TEXTS]
    # Theirs starts from a token that it does not score and ends with </s>, as ours does.
    targets = [tokenizer.encode(text).tokens[:-1] for text in TEXTS[::-1]]
    scored = translator.score_batch(sources, targets)
    pad_id = tokenizer.pad_id
    for source, text, theirs in zip(TEXTS, TEXTS[::-1], scored, strict=True):
        ids = tokenizer.encode(text).ids
        logits = our_logits(model, [tokenizer.encode(source).ids], [[pad_id, *ids[:-1]]])[0]
        ours = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert torch.allclose(ours, torch.tensor(theirs.log_probs), atol=2e-4)


def test_a_config_that_asks_for_another_network_is_refused(tmp_path):
    model = make_model()
    model.save(tmp_path / "model")
    path: Path = tmp_path / "model" / "config.json"
    (tmp_path / "model" / "manifest.json").unlink()
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"scale_embedding": False}))
    with pytest.raises(FileError, match="scale_embedding"):
        load(tmp_path / "model")


@pytest.mark.parametrize(("preset", "published"), [("base", 65e6), ("big", 213e6)])
def test_presets_have_the_published_parameter_counts(preset, published):
    from headway.models.transformer import PRESETS

    with torch.device("meta"):
        body = Transformer(TransformerConfig(**PRESETS[preset]))
    count = sum(value.numel() for value in body.parameters() if value.requires_grad)
    assert abs(count / published - 1) <= 0.03
