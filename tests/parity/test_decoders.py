"""Every decoder with every head gives what transformers gives, from its files and to them."""

from __future__ import annotations

import json

import pytest
import torch

from decoders import FAMILIES, config_of, open_there, shake
from headway import registry
from headway.files import folder
from headway.layers.heads import LinearHead
from headway.layers.side import Side

transformers = pytest.importorskip("transformers")

CASES = [
    pytest.param(family, kind, variant, id=f"{family}-{kind}-{variant or 'tiny'}")
    for family in FAMILIES
    for kind, head in registry.load_module("models", family).LAYOUTS[0].heads.items()
    # Choices have no published class: the body's, with a head in a file of its own.
    if kind == "body" or not head.is_body
    for variant in ("", *registry.load_module("models", family).VARIANTS)
]
ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18, 19]]
NUM_LABELS = 3


def outputs(body, head, side: Side) -> dict[str, torch.Tensor]:
    memory = body.encode(side)
    found = {"hidden": memory.hidden[side.attention_mask]}
    if body.output is not None:
        found["logits"] = body.logits(memory.hidden)[side.attention_mask]
    if head is not None:
        found["pooled"] = head(body.pooler(memory.hidden, memory.documents))
    return found


def their_outputs(model, kind: str) -> dict[str, torch.Tensor]:
    """Row by row: what padding does is ours to promise."""
    found: dict[str, list[torch.Tensor]] = {}
    for row in ROWS:
        out = model(input_ids=torch.tensor([row]), output_hidden_states=True)
        found.setdefault("hidden", []).append(out.hidden_states[-1][0])
        if kind == "causal_lm":
            found.setdefault("logits", []).append(out.logits[0])
        if kind == "sequence":
            found.setdefault("pooled", []).append(out.logits)
    return {name: torch.cat(parts) for name, parts in found.items()}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], factor=1e-5):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        bound = factor * max(1.0, float(value.abs().max()))
        assert (ours[name] - value).abs().max() <= bound, name


def our_model(family: str, kind: str, config):
    torch.manual_seed(1)
    body = folder.make_body(family, config, kind).eval()
    head = LinearHead(config.hidden_size, NUM_LABELS, bias=False) if kind == "sequence" else None
    for part in filter(None, (body, head)):
        shake(part)
    return body, head


def write(folder_, family: str, kind: str, config):
    body, head = our_model(family, kind, config)
    labels = [f"name {i}" for i in range(NUM_LABELS)] if head else []
    folder.write_model(folder_, family, body, kind=kind, head=head, labels=labels)
    return body, head


@pytest.mark.parametrize(("family", "kind", "variant"), CASES)
def test_our_files_open_there_and_theirs_here(family, kind, variant, tmp_path):
    config = config_of(family, variant)
    tmp_path.joinpath("ours").mkdir()
    body, head = write(tmp_path / "ours", family, kind, config)
    model = open_there(tmp_path / "ours", family, kind, config)
    with torch.no_grad():
        theirs = their_outputs(model, kind)
        assert_equal(outputs(body, head, Side.padded(ROWS)), theirs)
    model.save_pretrained(tmp_path / "theirs")
    loaded = folder.read_model(tmp_path / "theirs")
    assert (loaded.key, loaded.kind, loaded.body.config) == (family, kind, config)
    assert not loaded.fresh
    assert not loaded.unused
    parameters = dict(loaded.body.named_parameters())
    for name, value in body.named_parameters():
        assert torch.equal(parameters[name], value), name


@pytest.mark.parametrize(("family", "kind", "variant"), CASES)
def test_gradients_agree(family, kind, variant, tmp_path):
    config = config_of(family, variant)
    tmp_path.joinpath("ours").mkdir()
    body, head = write(tmp_path / "ours", family, kind, config)
    model = open_there(tmp_path / "ours", family, kind, config)
    ours, theirs = outputs(body, head, Side.padded(ROWS)), their_outputs(model, kind)
    for found in (ours, theirs):
        sum((value.tanh() ** 2).sum() for value in found.values()).backward()
    from headway.files.rename import to_published

    gradients = {n: p.grad for n, p in body.named_parameters() if p.grad is not None}
    gradients |= {f"head.{n}": p.grad for n, p in head.named_parameters()} if head else {}
    published = to_published(gradients, folder.pick_layout(family, config).table(kind))
    wanted = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert published.keys() == wanted.keys()
    for name, value in wanted.items():
        bound = 1e-4 * max(1.0, float(value.abs().max()))
        assert (published[name] - value).abs().max() <= bound, name


@pytest.mark.parametrize(
    ("family", "preset", "count"),
    [
        ("gpt", "base", 116_534_784),
        ("gpt2", "small", 124_439_808),
        ("gpt2", "medium", 354_823_168),
        ("gpt2", "large", 774_030_080),
        ("gpt2", "xl", 1_557_611_200),
        ("llama", "7b", 6_738_415_616),
        ("llama", "llama-2-13b", 13_015_864_320),
        ("llama", "llama-2-70b", 68_976_648_192),
        ("llama", "mistral-7b", 7_241_732_096),
        ("bloom", "560m", 559_214_592),
        ("bloom", "176b", 176_247_271_424),
    ],
)
def test_presets_have_the_published_number_of_parameters(family, preset, count):
    assert count_parameters(family, preset) == count


@pytest.mark.parametrize(
    ("preset", "billions"),
    [
        ("125m", 0.125),
        ("350m", 0.350),
        ("760m", 0.760),
        ("1.3b", 1.3),
        ("2.7b", 2.7),
        ("6.7b", 6.7),
        ("13b", 13.0),
        ("175b", 175.0),
    ],
)
def test_gpt3_has_the_sizes_of_its_table_within_three_percent(preset, billions):
    assert count_parameters("gpt3", preset) == pytest.approx(billions * 1e9, rel=0.03)


def count_parameters(family: str, preset: str) -> int:
    module = registry.load_module("models", family)
    config_class = vars(module)[registry.class_name(family) + "Config"]
    with torch.device("meta"):
        body = registry.load_class("models", family)(config_class(**module.PRESETS[preset]))
    return sum(parameter.numel() for parameter in body.parameters())


def test_old_and_new_words_for_turned_positions_are_read(tmp_path):
    body, _ = write(tmp_path, "llama", "causal_lm", config_of("llama", "wide heads"))
    path = tmp_path / "config.json"
    published = json.loads(path.read_text())
    base = published.pop("rope_theta")
    assert published["rope_parameters"] == {"rope_theta": base, "rope_type": "default"}
    path.write_text(json.dumps(published))
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    assert folder.read_model(tmp_path).body.config == body.config


def test_stretched_positions_are_refused(tmp_path):
    write(tmp_path, "llama", "causal_lm", config_of("llama", ""))
    path = tmp_path / "config.json"
    published = json.loads(path.read_text())
    published["rope_scaling"] = {"type": "linear", "factor": 2.0}
    path.write_text(json.dumps(published))
    (tmp_path / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(Exception, match="rope_scaling"):
        folder.read_model(tmp_path)
