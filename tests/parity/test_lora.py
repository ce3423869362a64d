"""Adapters are PEFT's, both ways: the same logits, the same files, and merged the same model."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from decoders import make_decoder, make_tokenizer, shake
from headway import registry
from headway.cli._main import main
from headway.errors import FileError, RequestError
from headway.files.adapter import base_of
from headway.files.folder import make_body
from headway.layers.lora import LoraLinear, add_lora
from headway.layers.side import Side
from headway.tasks._load import load
from headway.tasks._model import Model, make_task
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

ROWS = [[5, 6, 7, 8, 9], [10, 11]]
TARGETS = {
    "gpt2": ("query", "value"),
    "llama": ("query", "key", "down"),
    "gpt": ("key", "attention.output"),
    "gpt3": ("value",),
    "bloom": ("up",),
}


def learn(body) -> None:
    """Make as if something was learned: what begins as zero is not zero any more."""
    torch.manual_seed(7)
    for layer in body.modules():
        if isinstance(layer, LoraLinear):
            layer.lora_up.data.normal_()


def logits_of(model: Model) -> torch.Tensor:
    with torch.no_grad():
        side = Side.padded(ROWS)
        return model.body.logits(model.body.encode(side).hidden)[side.attention_mask]


def their_logits(model) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in ROWS])


def assert_near(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * max(1.0, float(theirs.abs().max()))


def adapted(tmp_path, family: str) -> Model:
    make_decoder(family).save(tmp_path / "base")
    model = load(tmp_path / "base")
    assert add_lora(model.body, TARGETS[family], rank=3, alpha=5.0)
    learn(model.body)
    model.adapter = base_of(tmp_path / "base")
    return model


@pytest.mark.parametrize("family", TARGETS)
def test_peft_opens_ours_and_we_open_what_it_saves(family, tmp_path):
    model = adapted(tmp_path, family)
    model.save(tmp_path / "ours")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert_near(logits_of(model), their_logits(theirs))
    assert not torch.allclose(logits_of(model), logits_of(load(tmp_path / "base")))
    theirs.save_pretrained(tmp_path / "theirs")
    for place in ("ours", "theirs"):
        assert_near(logits_of(load(tmp_path / place)), logits_of(model))


@pytest.mark.parametrize("family", TARGETS)
def test_merged_it_is_one_folder_with_the_same_answers(family, tmp_path):
    model = adapted(tmp_path, family)
    model.merge().save(tmp_path / "merged")
    assert_near(logits_of(load(tmp_path / "merged")), logits_of(model))
    assert model.adapter is not None
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert_near(logits_of(model), their_logits(theirs))
    packed = model.to_precision("bf16")
    assert not any(isinstance(layer, LoraLinear) for layer in packed.body.modules())


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"alpha_pattern": {"c_attn": 3}},
        {"alpha_pattern": {r"h\.0\.attn\.c_attn": 16}, "rank_pattern": {"c_fc": 2}},
    ],
)
def test_adapters_that_peft_made_are_read_with_their_scales(settings, tmp_path):
    make_decoder("gpt2").save(tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, **settings
    )
    theirs = peft.get_peft_model(base, config).eval()
    shake(theirs.base_model)
    # Only the adapters are saved.
    base.load_state_dict(
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").state_dict(),
        strict=False,
    )
    theirs.save_pretrained(tmp_path / "theirs")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    again = peft.PeftModel.from_pretrained(base, tmp_path / "theirs").eval()
    model = load(tmp_path / "theirs")
    assert_near(logits_of(model), their_logits(again))
    # Saved once more, each module keeps its scale, and nothing but the adapters is written.
    model.save(tmp_path / "ours")
    assert_near(logits_of(load(tmp_path / "ours")), their_logits(again))
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None


def classifier(tmp_path) -> Model:
    tokenizer = train_tokenizer(
        "word", ["red blue black white"], vocab_size=60, specials=SPECIALS["bert"]
    )
    config = dataclasses.replace(
        registry.load_class("models", "bert").tiny(), vocab_size=tokenizer.vocab_size
    )
    task = make_task("classification", {"dropout": 0.0})
    torch.manual_seed(1)
    body = make_body("bert", config, task.head)
    shake(body)
    head = task.make_head(body, ("no", "yes", "perhaps"))
    model = Model(
        body.eval(),
        tokenizer,
        task,
        task_name="classification",
        architecture="bert",
        head=head.eval(),
        labels=("no", "yes", "perhaps"),
    )
    model.save(tmp_path / "base")
    add_lora(model.body, ("query", "value"), rank=2, alpha=4.0)
    learn(model.body)
    model.body.pooler.requires_grad_(True)
    with torch.no_grad():
        model.body.pooler.dense.weight.add_(0.5)
        model.head.output.weight.add_(torch.randn(3, 1))
    model.adapter = base_of(tmp_path / "base")
    return model


def test_a_classifier_brings_its_head_and_pooler(tmp_path):
    model = classifier(tmp_path)
    model.save(tmp_path / "ours")
    rows = [{"text": "red blue"}, {"text": "white"}, {"text": "black black red"}]
    answers = model.predict(rows)
    loaded = load(tmp_path / "ours")
    assert loaded.predict(rows) == answers
    assert loaded.labels == model.labels
    config = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert config["modules_to_save"] == ["bert.pooler.dense", "classifier"]
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    for row, answer in zip(rows, answers, strict=True):
        ids = torch.tensor(model.tokenizer.encode_ids([row["text"]]))
        with torch.no_grad():
            probs = theirs(input_ids=ids).logits.softmax(-1)[0]
        for name, value in zip(model.labels, probs.tolist(), strict=True):
            assert answer["probabilities"][name] == pytest.approx(value, abs=1e-5)


def test_an_adapter_for_another_model_is_refused(tmp_path):
    model = adapted(tmp_path, "gpt2")
    model.save(tmp_path / "ours")
    make_decoder("gpt2", num_hidden_layers=1).save(tmp_path / "base")
    with pytest.raises(FileError, match="other weights"):
        load(tmp_path / "ours")
    # Nobody wrote down whose it is: then what does not fit is named.
    path = tmp_path / "ours" / "headway.json"
    own = json.loads(path.read_text())
    del own["base"]
    path.write_text(json.dumps(own))
    with pytest.raises(FileError, match="does not fit its base model"):
        load(tmp_path / "ours")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens"),
        ({"bias": "all"}, "bias"),
        ({"base_model_name_or_path": "nobody/nothing"}, "nobody/nothing"),
    ],
)
def test_what_an_adapter_asks_for_beyond_is_named(changes, message, tmp_path):
    model = adapted(tmp_path, "gpt2")
    model.save(tmp_path / "ours")
    path = tmp_path / "ours" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FileError, match=message):
        load(tmp_path / "ours")


def test_a_model_without_adapters_is_not_merged():
    with pytest.raises(RequestError, match="no adapter"):
        make_decoder("gpt2", tokenizer=make_tokenizer()).merge()


def test_a_classifier_of_peft_opens_with_its_head(tmp_path):
    make_decoder("llama").save(tmp_path / "base")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "base", num_labels=3, pad_token_id=0
    )
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"])
    theirs = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name or "score" in name:
                parameter.normal_()
    theirs.save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    assert model.task_name == "classification"
    assert model.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    ids = torch.tensor(model.tokenizer.encode_ids(["The sea"]))
    with torch.no_grad():
        probs = theirs(input_ids=ids).logits.softmax(-1)[0].tolist()
    (answer,) = model.predict([{"text": "The sea"}])
    assert list(answer["probabilities"].values()) == pytest.approx(probs, abs=1e-5)


def test_output_layers_have_no_adapters(tmp_path):
    make_decoder("gpt2").save(tmp_path / "base")
    model = load(tmp_path / "base")
    names = add_lora(model.body, ("output",), rank=2, alpha=2.0)
    assert sorted(names) == [f"decoder.layers.{n}.attention.output" for n in range(2)]


def test_a_model_packed_in_single_precision_is_neither_saved_nor_packed_again(tmp_path):
    packed = make_decoder("gpt2").to_precision("fp32", packed=True)
    with pytest.raises(RequestError, match="packed for inference"):
        packed.save(tmp_path / "out")
    with pytest.raises(RequestError, match="packed for inference"):
        packed.to_precision("bf16")
    adapter = adapted(tmp_path, "gpt2").to_precision("fp32", packed=True)
    with pytest.raises(RequestError, match="packed for inference"):
        adapter.save(tmp_path / "out")


@pytest.mark.parametrize("name", ["adapter", "base"])
def test_what_is_merged_is_never_written_over(name, tmp_path, capsys):
    adapted(tmp_path, "gpt2").save(tmp_path / "adapter")
    before = {path: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert main(["merge", str(tmp_path / "adapter"), str(tmp_path / name)]) == 2
    assert "would be lost" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / name).iterdir()} == before
    assert main(["merge", str(tmp_path / "adapter"), str(tmp_path / "merged")]) == 0
    # What is there already stays as it is.
    assert main(["merge", str(tmp_path / "adapter"), str(tmp_path / "merged")]) == 1
    assert "is not empty. name a new folder" in capsys.readouterr().err
