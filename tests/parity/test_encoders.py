"""Every encoder with every head gives what transformers gives, from its files and to them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from headway import registry
from headway.data.batch import Example, lay_out
from headway.files import folder
from headway.files.rename import to_published
from headway.layers.heads import LinearHead
from headway.layers.side import Side

transformers = pytest.importorskip("transformers")

FAMILIES = ("bert", "roberta", "albert", "distilbert")
CASES = [
    pytest.param(family, kind, variant, id=f"{family}-{kind}-{variant or 'tiny'}")
    for family in FAMILIES
    for kind in registry.load_module("models", family).HEADS
    for variant in ("", *registry.load_module("models", family).VARIANTS)
]
PACKED = [case for case in CASES if case.values[1] == "sequence"]
ROWS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18, 19]]
NUM_LABELS = {"sequence": 3, "token": 4, "span": 2, "choice": 1, "pair": 2, "masked_lm_pair": 2}


def config_of(family: str, variant: str):
    module = registry.load_module("models", family)
    values = module.VARIANTS[variant] if variant else {}
    return dataclasses.replace(registry.load_class("models", family).tiny(), **values)


def shake(module: torch.nn.Module, seed: int = 4) -> None:
    """Make logits of order 10, and biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.3 if parameter.dim() > 1 else 0.1))


def types_of(config, length: int) -> list[int]:
    segments = getattr(config, "type_vocab_size", 0)
    return [int(segments > 1 and place > length // 2) for place in range(length)]


def our_side(config, rows: list[list[int]]) -> Side:
    side = Side.padded(rows, pad_id=config.pad_token_id)
    types = torch.zeros_like(side.ids)
    for number, row in enumerate(rows):
        types[number, : len(row)] = torch.tensor(types_of(config, len(row)))
    return dataclasses.replace(side, token_type_ids=types)


def our_outputs(body, head, kind: str, side: Side) -> dict[str, torch.Tensor]:
    memory = body.encode(side)
    found = {"hidden": memory.hidden[side.attention_mask]}
    if kind.startswith("masked_lm"):
        found["masked_lm"] = body.masked_lm(memory.hidden)[side.attention_mask]
    if kind in ("sequence", "choice", "pair", "masked_lm_pair"):
        found["pooled"] = head(body.pooler(memory.hidden, memory.documents))
    elif kind in ("token", "span"):
        found["tokens"] = head(memory.hidden)[side.attention_mask]
    elif kind == "body" and body.pooler is not None:
        found["pooled"] = body.pooler(memory.hidden, memory.documents)
    return found


def their_outputs(model, config, kind: str, rows: list[list[int]]) -> dict[str, torch.Tensor]:
    side = our_side(config, rows)
    inputs = {"input_ids": side.ids, "attention_mask": side.attention_mask.long()}
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = side.token_type_ids
    if kind == "choice":
        # Every row is a choice of one question.
        inputs = {name: value[None] for name, value in inputs.items()}
    out = model(**inputs, output_hidden_states=True)
    real = side.attention_mask
    found = {"hidden": out.hidden_states[-1][real]}
    if kind == "masked_lm_pair":
        pair = out["sop_logits"] if "sop_logits" in out else out["seq_relationship_logits"]
        found |= {"masked_lm": out["prediction_logits"][real], "pooled": pair}
    elif kind == "masked_lm":
        found["masked_lm"] = out.logits[real]
    elif kind in ("sequence", "pair"):
        found["pooled"] = out.logits
    elif kind == "choice":
        found["pooled"] = out.logits.T
    elif kind == "token":
        found["tokens"] = out.logits[real]
    elif kind == "span":
        found["tokens"] = torch.stack([out.start_logits[real], out.end_logits[real]], -1)
    elif "pooler_output" in out:
        found["pooled"] = out.pooler_output
    return found


def head_of(loaded: folder.Loaded) -> LinearHead | None:
    if not loaded.head:
        return None
    labels, width = loaded.head["output.weight"].shape
    head = LinearHead(width, labels)
    head.load_state_dict(loaded.head)
    return head


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], factor=1e-5):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        bound = factor * max(1.0, float(value.abs().max()))
        assert (ours[name] - value).abs().max() <= bound, name


def their_model(family: str, kind: str, config):
    module = registry.load_module("models", family)
    layout = module.LAYOUTS[0]
    published = {key: getattr(config, n) for n, keys in layout.config.items() for key in keys}
    config_class = transformers.AutoConfig.for_model(family).__class__
    labels = {str(i): f"name {i}" for i in range(NUM_LABELS.get(kind, 2))}
    theirs = config_class(**published, id2label=labels, attn_implementation="eager")
    torch.manual_seed(8)
    model = getattr(transformers, layout.heads[kind].architecture)(theirs).eval()
    shake(model)
    return model


@pytest.mark.parametrize(("family", "kind", "variant"), CASES)
def test_their_files_open_here(family, kind, variant, tmp_path):
    config = config_of(family, variant)
    model = their_model(family, kind, config)
    model.save_pretrained(tmp_path)
    loaded = folder.read_model(tmp_path)
    assert (loaded.key, loaded.kind, loaded.body.config) == (family, kind, config)
    assert not loaded.fresh
    assert not loaded.unused
    with torch.no_grad():
        ours = our_outputs(loaded.body, head_of(loaded), kind, our_side(config, ROWS))
        assert_equal(ours, their_outputs(model, config, kind, ROWS))


def test_layers_of_albert_that_do_not_divide_evenly_go_to_the_same_groups(tmp_path):
    # Here the tenth layer falls between two groups, and how it is rounded decides.
    uneven = {"num_hidden_layers": 18, "num_hidden_groups": 14}
    config = dataclasses.replace(config_of("albert", ""), **uneven)
    model = their_model("albert", "body", config)
    model.save_pretrained(tmp_path)
    body = folder.read_model(tmp_path).body
    with torch.no_grad():
        ours = our_outputs(body, None, "body", our_side(config, ROWS))
        assert_equal(ours, their_outputs(model, config, "body", ROWS))


@pytest.mark.parametrize(("family", "kind", "variant"), CASES)
def test_our_files_open_there(family, kind, variant, tmp_path):
    config = config_of(family, variant)
    body = folder.make_body(family, config, kind).eval()
    shake(body)
    head = None
    if kind in NUM_LABELS:
        head = LinearHead(config.hidden_size, NUM_LABELS[kind])
        shake(head)
    labels = [f"name {i}" for i in range(NUM_LABELS.get(kind, 0))]
    folder.write_model(tmp_path, family, body, kind=kind, head=head, labels=labels)
    architecture = registry.load_module("models", family).HEADS[kind].architecture
    published = getattr(transformers, architecture)
    model, notes = published.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(notes[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        theirs = their_outputs(model.eval(), config, kind, ROWS)
        assert_equal(our_outputs(body, head, kind, our_side(config, ROWS)), theirs)


@pytest.mark.parametrize(("family", "kind", "variant"), CASES)
def test_gradients_agree(family, kind, variant, tmp_path):
    config = config_of(family, variant)
    model = their_model(family, kind, config)
    model.save_pretrained(tmp_path)
    loaded = folder.read_model(tmp_path)
    head = head_of(loaded)
    ours = our_outputs(loaded.body, head, kind, our_side(config, ROWS))
    theirs = their_outputs(model, config, kind, ROWS)
    for outputs in (ours, theirs):
        sum((value.tanh() ** 2).sum() for value in outputs.values()).backward()
    modules = torch.nn.ModuleDict({"body": loaded.body} | ({"head": head} if head else {}))
    found = {
        name.removeprefix("body."): parameter.grad
        for name, parameter in modules.named_parameters()
        if parameter.grad is not None
    }
    layout = registry.load_module("models", family).LAYOUTS[0]
    written = to_published(found, layout.table(kind))
    expected = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    # A bias that has two names is written under both.
    assert {name for name in written if not name.endswith("bias")} <= expected.keys()
    for name, gradient in expected.items():
        bound = 1e-4 * max(1.0, float(gradient.abs().max()))
        assert (written[name] - gradient).abs().max() <= bound, name


@pytest.mark.parametrize(("family", "kind", "variant"), PACKED)
def test_packed_rows_give_what_transformers_gives_for_each_alone(family, kind, variant, tmp_path):
    config = config_of(family, variant)
    model = their_model(family, kind, config)
    model.save_pretrained(tmp_path)
    loaded = folder.read_model(tmp_path)
    examples = []
    for index, row in enumerate(ROWS):
        types = types_of(config, len(row))
        examples.append(Example(index, row, second=types.index(1) if 1 in types else None))
    packed = lay_out([examples[:2], examples[2:]], pad_id=config.pad_token_id, start_id=0).source
    assert len(packed.ids) < len(ROWS)
    with torch.no_grad():
        found = our_outputs(loaded.body, head_of(loaded), kind, packed)
        assert_equal(found, their_outputs(model, config, kind, ROWS))


@pytest.mark.parametrize(
    ("family", "preset", "published"),
    [
        # transformers counts them so; the papers round to 110 M, 340 M, 12 M, 66 M, ...
        ("bert", "base", "BertModel"),
        ("bert", "large", "BertModel"),
        ("roberta", "base", "RobertaModel"),
        ("roberta", "large", "RobertaModel"),
        ("albert", "base", "AlbertModel"),
        ("albert", "large", "AlbertModel"),
        ("albert", "xlarge", "AlbertModel"),
        ("albert", "xxlarge", "AlbertModel"),
        ("distilbert", "base", "DistilBertModel"),
    ],
)
def test_sizes_have_as_many_parameters_as_published(family, preset, published):
    module = registry.load_module("models", family)
    config_class = getattr(module, registry.class_name(family) + "Config")
    config = config_class(**module.PRESETS[preset])
    layout = module.LAYOUTS[0]
    theirs = {key: getattr(config, n) for n, keys in layout.config.items() for key in keys}
    with torch.device("meta"):
        body = folder.make_body(family, config, "body")
        model_config = transformers.AutoConfig.for_model(family, **theirs)
        model = getattr(transformers, published)(model_config)
    count = sum(parameter.numel() for parameter in body.parameters())
    assert count == sum(parameter.numel() for parameter in model.parameters())
    millions = {
        "bert-base": 109.5, "bert-large": 335.1, "roberta-base": 124.6, "roberta-large": 355.4,
        "albert-base": 11.7, "albert-large": 17.7, "albert-xlarge": 58.7, "albert-xxlarge": 222.6,
        "distilbert-base": 66.4,
    }  # fmt: skip
    assert count / 1e6 == pytest.approx(millions[f"{family}-{preset}"], rel=0.002)
