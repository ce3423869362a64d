"""Encoder folders of others: what does not fit is one line, what is hostile is never run."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders import make_encoder, make_tokenizer
from headway.cli._main import main
from headway.errors import ConfigError, FileError, HeadwayError
from headway.files import unpickle
from headway.files.folder import list_files, make_body, write_model
from headway.layers.heads import LinearHead
from headway.layers.side import Side
from headway.tasks._embedding import embed
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.tasks.classification import Classification
from headway.tasks.masked_lm import MaskedLm
from limits import seconds_at_most

ROWS = [{"text": "the [MASK] sat"}, {"text": "a bird [MASK]"}]
WEIGHTS, INDEX, OLD = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Save one model of each family as others publish it: no manifest, no file of ours."""
    root = tmp_path_factory.mktemp("saved")
    for architecture in ("bert", "roberta", "albert", "distilbert"):
        publish(make_encoder(architecture), root / architecture)
    publish(make_encoder(task=MaskedLm(pair="next-sentence")), root / "pairs")
    publish(make_encoder(kind="body"), root / "body")
    return root


def publish(model: Model, folder: Path) -> None:
    model.save(folder)
    for name in ("manifest.json", "headway.json"):
        (folder / name).unlink()


@pytest.fixture
def folder(saved, tmp_path) -> Callable[[str], Path]:
    """Give a copy of a folder to damage."""

    def copy(name: str = "bert") -> Path:
        return Path(shutil.copytree(saved / name, tmp_path / name))

    return copy


def change(path: Path, **values: Any) -> None:
    """Change a JSON file; None removes a key."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors of the weights; None removes one."""
    tensors = load_file(folder / WEIGHTS) | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / WEIGHTS)


def refuse(folder: Path, *patterns: str, kind: type[HeadwayError] = FileError) -> str:
    """Load what cannot be loaded; give the message."""
    with pytest.raises(HeadwayError) as error:
        load(folder)
    message = str(error.value)
    assert isinstance(error.value, kind), message
    assert "\n" not in message
    for pattern in patterns:
        assert pattern in message, message
    return message


class Shell:
    """Runs commands in this process."""

    def __init__(self, capsys, monkeypatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def run(self, *words: Any) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), "utf-8"))
        self.capsys.readouterr()
        return main([str(word) for word in words]), *self.capsys.readouterr()


@pytest.fixture
def shell(capsys, monkeypatch) -> Shell:
    return Shell(capsys, monkeypatch)


# config.json


@pytest.mark.parametrize("name", ["bert", "roberta", "albert", "distilbert", "pairs", "body"])
def test_a_folder_without_any_file_of_ours_opens(name, folder):
    model = load(folder(name))
    assert model.task_name == "masked_lm"
    assert model.notes == ()


@pytest.mark.parametrize(
    ("model_type", "patterns"),
    [
        ("bret", ("model_type 'bret' is not one that Headway reads", "did you mean 'bert'")),
        ("xlm-roberta", ("model_type 'xlm-roberta'", "'roberta'")),
        (None, ("config.json does not say its model_type",)),
        (["bert"], ("config.json does not say its model_type",)),
        ("../bert", ("model_type '../bert'",)),
    ],
)
def test_an_architecture_that_is_unknown_names_the_nearest(model_type, patterns, folder):
    path = folder()
    change(path / "config.json", model_type=model_type)
    message = refuse(path, *patterns, kind=ConfigError)
    assert str(path / "config.json") in message


@pytest.mark.parametrize(
    ("name", "values", "pattern"),
    [
        ("bert", {"hidden_size": 0}, "hidden_size is 0, but at least 1 is needed"),
        ("bert", {"hidden_size": -16}, "hidden_size is -16"),
        ("bert", {"hidden_size": 10**12}, "hidden_size is 1000000000000, which is beyond any"),
        ("bert", {"hidden_size": "16"}, "hidden_size is '16', but must be of type int"),
        ("bert", {"hidden_size": 16.0}, "hidden_size is 16.0, but must be of type int"),
        ("bert", {"hidden_size": True}, "hidden_size is True, but must be of type int"),
        ("bert", {"num_attention_heads": 3}, "hidden_size 16 is not divisible"),
        ("bert", {"num_attention_heads": 0}, "num_attention_heads is 0"),
        ("bert", {"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000, which is beyond"),
        ("bert", {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ("bert", {"vocab_size": 10**9}, "vocab_size is 1000000000, which is beyond"),
        ("bert", {"vocab_size": -1}, "vocab_size is -1"),
        ("bert", {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ("bert", {"type_vocab_size": 0}, "type_vocab_size is 0"),
        ("bert", {"pad_token_id": 10**6}, "pad_token_id is 1000000, but the vocabulary has"),
        ("bert", {"pad_token_id": -1}, "pad_token_id is -1"),
        (
            "bert",
            {"hidden_dropout_prob": 1},
            "hidden_dropout_prob is 1.0, but must be from 0",
        ),
        ("bert", {"hidden_act": "swoosh"}, "hidden_act is 'swoosh'"),
        ("bert", {"hidden_act": ["gelu"]}, "hidden_act is ['gelu'], but must be of type str"),
        ("bert", {"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        ("bert", {"layer_norm_eps": 1.0}, "layer_norm_eps is 1.0, but must be from 0 to below 1"),
        ("distilbert", {"n_heads": 3}, "n_heads is 3, but dim 16 is not divisible by it"),
        ("bert", {"is_decoder": True}, "is_decoder is True, but Headway computes only False"),
        ("bert", {"position_embedding_type": "relative_key"}, "Headway computes only 'absolute'"),
        ("bert", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("roberta", {"max_position_embeddings": 2}, "positions begin at pad_token_id + 1 = 2"),
        ("albert", {"num_hidden_groups": 3}, "num_hidden_groups is 3"),
        ("albert", {"embedding_size": 0}, "embedding_size is 0"),
        ("albert", {"inner_group_num": 0}, "inner_group_num is 0"),
        ("distilbert", {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ("distilbert", {"dim": 10**9}, "dim is 1000000000, which is beyond any model"),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused_before_memory_is_taken(
    name, values, pattern, folder
):
    path = folder(name)
    (path / WEIGHTS).unlink()
    change(path / "config.json", **values)
    message = refuse(path, "the config cannot be used", pattern)
    assert str(path / "config.json") in message


def test_all_problems_of_a_config_are_named_together(folder):
    path = folder()
    change(path / "config.json", hidden_size="x", is_decoder=True, vocab_size=[])
    refuse(path, "hidden_size is 'x'", "is_decoder is True", "vocab_size is []")
    change(path / "config.json", hidden_size=15, is_decoder=False, vocab_size=0)
    refuse(path, "hidden_size 15 is not divisible", "vocab_size is 0")


def test_sizes_that_the_weights_do_not_bear_out_take_no_memory(folder):
    path = folder()
    change(path / "config.json", hidden_size=100_000, intermediate_size=1_000_000)
    with seconds_at_most(5):
        refuse(path, "the weights do not fit", "instead of [")


def test_layers_of_layers_beyond_any_model_are_refused(folder):
    path = folder("albert")
    load(path)
    change(path / "config.json", num_hidden_layers=1000, num_hidden_groups=1000)
    change(path / "config.json", inner_group_num=1000)
    with seconds_at_most(0.5):
        refuse(path)


@pytest.mark.parametrize(
    "values",
    [
        {"initializer_range": -1.0},
        {"initializer_range": float("nan")},
        {"layer_norm_eps": float("nan")},
        {"layer_norm_eps": -1.0},
    ],
)
def test_numbers_that_make_no_network_are_refused(values, folder):
    path = folder("pairs")
    change(path / "config.json", **values)
    rewrite(path, **dict.fromkeys(("bert.pooler.dense.weight", "bert.pooler.dense.bias")))
    refuse(path, "the config cannot be used")


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "\x00", '"bert"'])
def test_a_config_that_is_no_object_is_named(content, folder):
    path = folder()
    (path / "config.json").write_text(content)
    refuse(path, "config.json")


@pytest.mark.parametrize("key", ["auto_map", "custom_pipelines", "trust_remote_code"])
@pytest.mark.parametrize("value", [{"AutoModel": "model.Model"}, {}, None, False])
def test_a_folder_that_asks_to_run_code_is_refused(key, value, folder):
    path = folder()
    (path / "model.py").write_text("import os; os.mkdir('ran')\n")
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**content, key: value}))
    refuse(path, f"asks to run code of its own ({key})", "never runs code")
    assert not Path("ran").exists()


# The tokenizer


def test_a_tokenizer_with_more_entries_than_the_embedding_is_refused(folder):
    path = folder()
    larger = json.loads((path / "tokenizer.json").read_text())
    larger["model"]["vocab"]["##xyz"] = 5000
    (path / "tokenizer.json").write_text(json.dumps(larger))
    size = json.loads((path / "config.json").read_text())["vocab_size"]
    refuse(path, "tokenizer.json has ids up to 5000", f"embeds only {size} tokens")


def test_a_tokenizer_with_another_pad_token_is_refused_where_positions_depend_on_it(folder):
    path = folder("roberta")
    change(path / "config.json", pad_token_id=3)
    refuse(path, "<pad> is 1 in tokenizer.json, but 3 in config.json")


@pytest.mark.parametrize("name", ["bert", "albert", "distilbert"])
def test_another_pad_token_is_noted_where_no_result_depends_on_it(name, folder):
    path = folder(name)
    before = load(path).predict([*ROWS, {"text": "a"}])
    change(path / "config.json", pad_token_id=3)
    model = load(path)
    (note,) = model.notes
    assert re.search(r"(\[PAD\]|<pad>) is 0 in tokenizer.json, but 3 in config.json", note)
    assert "no result depends on it" in note
    assert model.predict([*ROWS, {"text": "a"}]) == before


def test_a_tokenizer_of_another_family_is_refused(folder):
    path = folder()
    (path / "tokenizer.json").write_text(make_tokenizer("roberta").to_json())
    refuse(path, "tokenizer.json has ids up to", "<pad> is 1 in tokenizer.json, but 0")


def test_a_folder_without_a_tokenizer_says_so(folder):
    path = folder()
    (path / "tokenizer.json").unlink()
    refuse(path, "there is no tokenizer.json")


# The weights


def test_tensors_of_whole_layers_are_named_together_so_that_none_is_left_unsaid(folder):
    path = folder()
    tensors = load_file(path / "model.safetensors")
    of_layer = [name for name in tensors if ".layer.1." in name]
    change_of = dict.fromkeys(of_layer)
    for number in (2, 3, 5):
        change_of |= {
            name.replace(".1.", f".{number}."): tensors[name].clone() for name in of_layer
        }
    rewrite(path, **change_of, **{"bert.embeddings.LayerNorm.weight": torch.zeros(7)})
    refuse(
        path,
        f"bert.encoder.layer.1.* ({len(of_layer)}) is missing",
        f"bert.encoder.layer.2,3,5.* ({3 * len(of_layer)}) is not part of this architecture",
        "bert.embeddings.LayerNorm.weight has shape [7] instead of [16]",
    )


def test_all_tensors_that_do_not_fit_are_named_in_one_message(folder):
    path = folder()
    change_of = {
        QUERY: None,
        "bert.embeddings.LayerNorm.weight": torch.zeros(7),
        "bert.encoder.layer.5.output.dense.bias": torch.zeros(16),
        "nobody.knows.this": torch.zeros(2),
    }
    rewrite(path, **change_of)
    refuse(
        path,
        f"{QUERY} is missing",
        "bert.embeddings.LayerNorm.weight has shape [7] instead of [16]",
        "bert.encoder.layer.5.output.dense.bias is not part of this architecture",
        "nobody.knows.this is not part of this architecture",
        str(path),
    )


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("roberta", "roberta.encoder.layer.1.output.dense.bias"),
        ("albert", "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output.bias"),
        ("distilbert", "distilbert.transformer.layer.1.ffn.lin2.bias"),
        ("body", "encoder.layer.1.output.dense.bias"),
    ],
)
def test_what_does_not_fit_is_called_as_in_the_file(name, tensor, folder):
    path = folder(name)
    rewrite(path, **{tensor: torch.ones(3)})
    refuse(path, f"fit: {tensor} has shape [3] instead of [16]")
    rewrite(path, **{tensor: None})
    refuse(path, f"fit: {tensor} is missing")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_weights_that_are_no_floating_point_numbers_are_refused(dtype, folder):
    path = folder()
    rewrite(path, **{QUERY: torch.ones(16, 16).to(dtype)})
    refuse(path, QUERY, "no floating-point numbers")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read(dtype, folder):
    path = folder()
    tensors = {name: value.to(dtype) for name, value in load_file(path / WEIGHTS).items()}
    save_file(tensors, path / WEIGHTS)
    body = load(path).body
    assert {value.dtype for value in body.parameters()} == {torch.float32}
    query = body.encoder.layers[1].attention.query.weight
    assert torch.equal(query, tensors[QUERY].float())


@pytest.mark.parametrize("content", [b"", b"garbage" * 20, b"\xff" * 100, None])
def test_damaged_weights_are_named(content, folder):
    path = folder()
    whole = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(whole[:-10] if content is None else content)
    refuse(path, "model.safetensors is damaged", str(path))


def test_a_folder_of_pickled_weights_says_how_to_convert_it(folder):
    path = folder()
    (path / WEIGHTS).rename(path / OLD)
    refuse(path, "there is no model.safetensors", f"headway convert {path}")


def test_the_names_of_a_wrapped_network_are_read_without_the_wrapper(folder):
    path = folder()
    before = load(path).predict(ROWS)
    tensors = load_file(path / WEIGHTS)
    for prefix in ("module.", "_orig_mod.", "module._orig_mod."):
        save_file({prefix + name: value for name, value in tensors.items()}, path / WEIGHTS)
        assert load(path).predict(ROWS) == before
    some = {n if n == QUERY else f"module.{n}": value for n, value in tensors.items()}
    save_file(some, path / WEIGHTS)
    refuse(path, "names begin with module., which a wrapper in training adds")


def test_an_output_that_is_not_the_embeddings_says_how_it_can_be_read(folder):
    path = folder()
    table = load_file(path / WEIGHTS)["bert.embeddings.word_embeddings.weight"]
    rewrite(path, **{"cls.predictions.decoder.weight": table + 1})
    refuse(
        path,
        "cls.predictions.decoder.weight differs from the tensor it should share",
        'set "tie_word_embeddings": false in config.json',
    )
    change(path / "config.json", tie_word_embeddings=False)
    model = load(path)
    assert torch.equal(model.body.masked_lm.output.weight, table + 1)


def test_gelu_has_another_name_too(folder):
    path = folder()
    before = load(path).predict(ROWS)
    change(path / "config.json", hidden_act="gelu_python")
    assert load(path).predict(ROWS) == before


@pytest.mark.parametrize("part", ["pooler", "head", "both"])
def test_missing_parts_are_drawn_and_the_note_says_so(part, folder):
    path = folder("pairs")
    parts = {
        "pooler": ["bert.pooler.dense"],
        "head": ["cls.seq_relationship"],
        "both": ["bert.pooler.dense", "cls.seq_relationship"],
    }[part]
    before = load(path)
    rewrite(path, **{f"{name}.{end}": None for name in parts for end in ("weight", "bias")})
    model = load(path)
    named = {"both": "pooler and head"}.get(part, part)
    assert model.notes == (f"{path} has no {named}: newly initialized, to be trained",)
    assert torch.equal(model.body.embeddings.token.weight, before.body.embeddings.token.weight)
    if part != "head":
        assert 0 < model.body.pooler.dense.weight.std() < 0.05
        assert not model.body.pooler.dense.bias.any()
    assert model.predict([{"text": "a cat", "text_pair": "a dog"}])


def test_a_missing_head_for_masks_is_drawn_and_shares_the_embeddings(folder):
    path = folder("bert")
    names = [name for name in load_file(path / WEIGHTS) if name.startswith("cls.")]
    rewrite(path, **dict.fromkeys(names))
    model = load(path)
    assert model.notes == (f"{path} has no masked lm: newly initialized, to be trained",)
    assert model.body.masked_lm.output.weight is model.body.embeddings.token.weight
    assert model.predict(ROWS)


def test_half_of_a_part_is_missing_not_drawn(folder):
    path = folder("pairs")
    rewrite(path, **{"bert.pooler.dense.bias": None})
    refuse(path, "bert.pooler.dense.bias is missing")


def test_heads_of_other_classes_are_left_out_and_named(folder):
    path = folder("pairs")
    (note,) = load(path, task=MaskedLm(), task_name="masked_lm").notes
    assert note.startswith(f"{path}: not used: ")
    for name in ("bert.pooler.dense.weight", "cls.seq_relationship.bias"):
        assert name in note


def test_a_pooler_that_the_head_has_in_its_place_is_left_out_and_named(folder):
    path = folder("roberta")
    body = make_body("roberta", load(path).body.config, "sequence")
    write_model(path, "roberta", body, kind="sequence", head=LinearHead(16, 2), labels=("a", "b"))
    rows = [{"text": "the cat sat"}]
    expected = load(path).predict(rows)
    own = load_file(path / WEIGHTS)["classifier.dense.weight"]
    rewrite(path, **{"roberta.pooler.dense.weight": own + 1})
    model = load(path)
    assert model.notes == (f"{path}: not used: roberta.pooler.dense.weight",)
    assert model.predict(rows) == expected


def test_a_body_opened_to_learn_something_gets_the_parts_for_it(folder):
    task = MaskedLm(pair="next-sentence")
    model = load(folder("body"), task=task, task_name="masked_lm")
    (note,) = model.notes
    assert "has no masked lm and head: newly initialized" in note
    assert set(model.predict([{"text": "a", "text_pair": "b"}])[0]) == {
        "prediction",
        "probabilities",
    }


def test_loading_what_lacks_nothing_gives_the_answers_of_the_model(folder):
    found = load(folder()).predict(ROWS)
    assert found == make_encoder().predict(ROWS)


# Weights in several files


def split(path: Path, **changes: Any) -> dict[str, str]:
    """Write the weights as two files and an index; give what it lists."""
    tensors = load_file(path / WEIGHTS)
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: tensors[name] for name in chosen}, path / file)
    (path / WEIGHTS).unlink()
    listed = {name: file for file, chosen in parts.items() for name in chosen} | changes
    (path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return listed


def test_weights_in_several_files_are_put_together(folder):
    path = folder()
    before = load(path).predict(ROWS)
    split(path)
    assert load(path).predict(ROWS) == before


def test_one_whole_file_goes_before_an_index(folder):
    path = folder()
    (path / INDEX).write_text("{")
    assert load(path).predict(ROWS) == make_encoder().predict(ROWS)


def test_a_file_of_several_that_is_cut_short_is_named(folder):
    path = folder()
    split(path)
    content = (path / "two.safetensors").read_bytes()
    (path / "two.safetensors").write_bytes(content[:-10])
    assert "one.safetensors" not in refuse(path, "two.safetensors is damaged", str(path))


def test_a_file_of_several_that_is_missing_is_named(folder):
    path = folder()
    split(path)
    (path / "two.safetensors").unlink()
    refuse(path, "there is no two.safetensors")


def test_weights_in_a_folder_below_are_read(folder):
    path = folder()
    before = load(path).predict(ROWS)
    listed = split(path)
    (path / "parts").mkdir()
    for name in set(listed.values()):
        (path / name).rename(path / "parts" / name)
    below = {name: f"parts/{file}" for name, file in listed.items()}
    (path / INDEX).write_text(json.dumps({"weight_map": below}))
    assert load(path).predict(ROWS) == before
    assert {path / "parts" / file for file in listed.values()} < set(list_files(path))


def test_an_index_that_leads_out_by_a_link_is_refused(folder, tmp_path):
    path = folder()
    (tmp_path / "far").mkdir()
    save_file({"secret": torch.ones(2)}, tmp_path / "far" / "secret")
    (path / "parts").symlink_to(tmp_path / "far")
    (path / "sub").mkdir()
    (path / "sub" / "linked").symlink_to(tmp_path / "far" / "secret")
    listed = split(path, secret="parts/secret")
    refuse(path, f"{INDEX} points outside of its folder: parts/secret")
    (path / INDEX).write_text(json.dumps({"weight_map": listed | {"secret": "sub/linked"}}))
    refuse(path, f"{INDEX} points outside of its folder: sub/linked")


def test_parts_that_are_links_themselves_are_read_as_one_file_is(folder, tmp_path):
    # So a downloaded model lies in the cache of its library.
    path = folder()
    before = load(path).predict(ROWS)
    split(path)
    (path / "two.safetensors").rename(tmp_path / "blob")
    (path / "two.safetensors").symlink_to(tmp_path / "blob")
    assert load(path).predict(ROWS) == before


@pytest.mark.parametrize("place", ["../secret", "/secret", "sub/../../secret", "..", ".", ""])
def test_an_index_that_points_elsewhere_is_refused(place, folder, tmp_path):
    path = folder()
    (path / "sub").mkdir()
    name = str(tmp_path / "secret") if place == "/secret" else place
    for target in (tmp_path / "secret", path / "sub" / "secret", path / "x"):
        save_file({"secret": torch.ones(2)}, target)
    split(path, secret=name)
    # The message ends in a full stop of its own.
    refuse(path, f"{INDEX} points outside of its folder: {name.rstrip('.')}" if place else "")


def test_an_index_that_lists_what_the_files_lack_is_refused(folder):
    path = folder()
    split(path, **{"bert.pooler.dense.bias": "one.safetensors"})
    refuse(path, f"the files lack what {INDEX} lists: bert.pooler.dense.bias")


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"weight_map": []}',
        '{"weight_map": null}',
        '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": ["one.safetensors"]}}',
    ],
)
def test_an_index_without_a_map_of_names_is_refused(content, folder):
    path = folder()
    split(path)
    (path / INDEX).write_text(content)
    refuse(path, f"{INDEX} has no weight_map")


def test_an_empty_index_leaves_every_tensor_missing(folder):
    path = folder()
    split(path)
    (path / INDEX).write_text('{"weight_map": {}}')
    refuse(path, "the weights do not fit", "is missing")


# Pickled weights


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def raw_pickle(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)


def saved_by_torch(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def saved_by_old_torch(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.parametrize("write", [raw_pickle, saved_by_torch, saved_by_old_torch])
@pytest.mark.parametrize("wrap", [False, True])
def test_pickled_code_is_refused_and_never_run(write, wrap, tmp_path):
    evil = Evil(tmp_path / "ran")
    (tmp_path / OLD).write_bytes(write({"a": torch.ones(2), "b": evil} if wrap else evil))
    with pytest.raises(FileError, match=r"holds more than tensors|is damaged"):
        unpickle.convert(tmp_path, tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [OLD]


def test_the_test_of_pickled_code_would_notice(tmp_path):
    pickle.loads(raw_pickle(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").is_dir()


def test_convert_refuses_pickled_code(shell, folder, tmp_path):
    path = folder()
    (path / WEIGHTS).unlink()
    (path / OLD).write_bytes(saved_by_torch({"a": Evil(tmp_path / "ran")}))
    before = sorted(path.iterdir())
    code, out, err = shell.run("convert", path)
    assert (code, out) == (1, "")
    assert err == (f"headway: {OLD} holds more than tensors, and is not opened. In {path}.\n")
    assert sorted(path.iterdir()) == before
    assert not (tmp_path / "ran").exists()


def old_folder(path: Path) -> dict[str, torch.Tensor]:
    """Make a folder as it was published years ago; give its tensors."""
    tensors = load_file(path / WEIGHTS)
    # A view, half precision and names of norms as they were.
    tensors[QUERY] = tensors[QUERY].t().contiguous().t()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in tensors.items()
    }
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    torch.save(old, path / OLD)
    (path / WEIGHTS).unlink()
    vocabulary = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    (path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (path / "tokenizer.json").unlink()
    return old


def test_convert_makes_an_old_folder_readable(shell, folder):
    path = folder()
    old = old_folder(path)
    kept = {file: file.read_bytes() for file in path.iterdir()}
    code, out, err = shell.run("convert", path)
    assert (code, err) == (0, "")
    assert out.split() == [str(path / WEIGHTS), str(path / "tokenizer.json")]
    tensors = load_file(path / WEIGHTS)
    assert tensors.keys() == old.keys()
    assert all(torch.equal(tensors[name], value) for name, value in old.items())
    assert {file: file.read_bytes() for file in kept} == kept
    assert {file.name for file in path.iterdir()} == {
        *(file.name for file in kept),
        WEIGHTS,
        "tokenizer.json",
    }
    assert load(path).predict(ROWS) == make_encoder().predict(ROWS)


def test_convert_without_a_vocabulary_writes_the_weights_and_warns(shell, folder):
    path = folder()
    old_folder(path)
    (path / "vocab.txt").unlink()
    code, out, err = shell.run("convert", path)
    assert (code, out) == (0, f"{path / WEIGHTS}\n")
    assert err.startswith("warning: no vocabulary was found")
    names = ("tokenizer.json", "vocab.txt", "vocab.json with merges.txt", "spiece.model")
    for name in (*names, "tokenizer.model"):
        assert name in err
    code, out, err = shell.run("convert", path)
    assert (code, out) == (1, "")
    assert "there is no tokenizer.json" in err
    assert "spiece.model" in err


def test_convert_says_what_it_wrote_before_it_failed(shell, folder):
    path = folder()
    old_folder(path)
    (path / "vocab.txt").write_text("")
    code, out, err = shell.run("convert", path)
    assert (code, out) == (1, f"{path / WEIGHTS}\n")
    assert "the vocabulary lacks" in err


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict"])
def test_convert_takes_the_tensors_of_a_trainers_checkpoint(name, shell, folder):
    path = folder()
    before = load(path).predict(ROWS)
    tensors = {f"module.{n}": value for n, value in load_file(path / WEIGHTS).items()}
    state = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({name: tensors, "epoch": 3, "optimizer": state}, path / OLD)
    (path / WEIGHTS).unlink()
    assert shell.run("convert", path)[0] == 0
    assert load(path).predict(ROWS) == before


def test_a_folder_that_needs_no_conversion_is_left_alone(shell, folder):
    path = folder()
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    code, out, err = shell.run("convert", path)
    assert (code, out, err) == (0, "", f"{path} needs no conversion\n")
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before


@pytest.mark.parametrize("write", [saved_by_torch, saved_by_old_torch])
def test_tensors_of_every_kind_come_through_equal(write, tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "whole": whole,
        "view": whole[1:, ::2],
        "turned": whole.t(),
        "half": whole.half(),
        "numbers": torch.arange(3),
        "one": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(whole + 1),
    }
    (tmp_path / OLD).write_bytes(write({**tensors, "epoch": 3, "names": ["a"]}))
    assert unpickle.convert(tmp_path, tmp_path / "out.safetensors") == len(tensors)
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_pickles_in_several_files_are_put_together(tmp_path):
    names = {"a": "p-1.bin", "b": "p-2.bin"}
    for number, (name, file) in enumerate(names.items()):
        torch.save({name: torch.full((2,), float(number))}, tmp_path / file)
    (tmp_path / f"{OLD}.index.json").write_text(json.dumps({"weight_map": names}))
    assert unpickle.convert(tmp_path, tmp_path / "out.safetensors") == 2
    found = load_file(tmp_path / "out.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {"a": [0, 0], "b": [1, 1]}


@pytest.mark.parametrize(
    ("listed", "pattern"),
    [
        ({"a": "../p.bin"}, "points outside of its folder"),
        ({"a": "/p.bin"}, "points outside of its folder"),
        ({"a": ".."}, "points outside of its folder"),
        ({"a": "sub/../../p.bin"}, "points outside of its folder"),
        ({}, "points outside of its folder"),
        ([], "points outside of its folder"),
        ({"a": "nowhere.bin"}, r"there is no nowhere\.bin"),
    ],
)
def test_an_index_of_pickles_that_points_elsewhere_is_refused(listed, pattern, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    torch.save({"a": torch.ones(2)}, tmp_path / "p.bin")
    (inner / f"{OLD}.index.json").write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(FileError, match=pattern):
        unpickle.convert(inner, inner / "out.safetensors")
    assert not (inner / "out.safetensors").exists()


def test_a_folder_without_pickles_says_so(tmp_path):
    with pytest.raises(FileError, match=r"there is no pytorch_model\.bin.*converted already\?"):
        unpickle.find_pickles(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x80\x02", b"PK\x03\x04" + b"\0" * 50, "cut", "list"]
)
def test_a_damaged_pickle_is_one_line(content, tmp_path):
    whole = saved_by_torch({"a": torch.ones(1000)})
    content = {"cut": whole[:-100], "list": saved_by_torch([torch.ones(2)])}.get(content, content)
    (tmp_path / OLD).write_bytes(content)
    with pytest.raises(FileError, match=OLD):
        unpickle.convert(tmp_path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("ratio", [0.6, 0.7, 0.8])
def test_an_old_pickle_cut_short_is_one_line(ratio, tmp_path):
    whole = saved_by_old_torch({"a": torch.ones(2), "b": torch.ones(2)})
    for length in range(int(len(whole) * ratio), int(len(whole) * (ratio + 0.1))):
        (tmp_path / OLD).write_bytes(whole[:length])
        with pytest.raises(FileError, match=OLD):
            unpickle.read_pickle(tmp_path / OLD)


@pytest.mark.parametrize(
    "value", [{}, {"state_dict": {}}, {"net": {"a": torch.ones(2)}}, {"epoch": 3}]
)
def test_a_pickle_without_tensors_is_refused(value, tmp_path):
    torch.save(value, tmp_path / OLD)
    with pytest.raises(FileError, match=OLD):
        unpickle.convert(tmp_path, tmp_path / "out.safetensors")


def test_vectors_of_a_converted_folder_are_those_of_the_model(folder):
    path = folder()
    old_folder(path)
    unpickle.convert(path, path / WEIGHTS)
    vector = embed(load(path), ["the cat sat"])[0].vectors
    expected = embed(make_encoder(), ["the cat sat"])[0].vectors
    torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-5)


# Segments


@pytest.mark.parametrize("name", ["bert", "roberta", "albert"])
def test_pairs_are_read_without_segments_where_the_model_has_one(name, tmp_path):
    model = make_encoder(name, kind="body", type_vocab_size=1)
    # Told apart by the tokenizer of a family with segments.
    engine = make_tokenizer("bert")
    sizes = dataclasses.replace(
        model.body.config, vocab_size=engine.vocab_size, pad_token_id=engine.pad_id
    )
    body = make_body(name, sizes, "body")
    assert engine.tells_segments
    task = Classification()
    torch.manual_seed(1)
    head = task.make_head(body, ("a", "b"))
    kwargs: dict[str, Any] = {"task_name": "classification", "architecture": name}
    model = Model(body, engine, task, head=head, labels=("a", "b"), **kwargs)
    pair = {"text": "the cat sat", "text_pair": "a bird"}
    joined = {"text": "the cat sat [SEP] a bird"}
    side = Side.padded([engine.encode(joined["text"], special=True).ids])
    with torch.inference_mode():
        memory = body.eval().encode(side)
        expected = head.eval()(body, memory).softmax(-1)[0]
    (answer,) = model.predict([pair])
    found = torch.tensor([answer["probabilities"][name] for name in ("a", "b")])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
