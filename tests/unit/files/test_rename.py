"""The table of published names runs both ways and names every misfit."""

from __future__ import annotations

import pytest
import torch

from headway.errors import ConfigError, FileError
from headway.files.rename import match_ours, match_published, to_ours, to_published
from headway.names import Ignore, OneRow, Rename, Split, Tie, Transpose

TABLE = (
    Rename("bert.layer.{}.query", "layers.{}.attention.query"),
    Transpose("h.{}.c_fc", "blocks.{}.up"),
    Split("h.{}.c_attn", ("blocks.{}.query", "blocks.{}.key", "blocks.{}.value")),
    OneRow("final_bias", "output.bias"),
    Rename("shared", "embeddings"),
    Tie("lm_head", "embeddings"),
    Ignore("position_ids"),
)


def ours() -> dict[str, torch.Tensor]:
    names = {
        "layers.11.attention.query.weight": (3, 4),
        "layers.11.attention.query.bias": (3,),
        "blocks.0.up.weight": (5, 2),
        "blocks.0.query.weight": (2, 3),
        "blocks.0.key.weight": (2, 3),
        "blocks.0.value.weight": (2, 3),
        "output.bias": (7,),
        "embeddings.weight": (7, 2),
    }
    return {name: torch.randn(shape) for name, shape in names.items()}


def test_there_and_back_gives_the_same_tensors():
    tensors = ours()
    shapes = {name: value.shape for name, value in tensors.items()}
    back = to_ours(to_published(tensors, TABLE), TABLE, shapes)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_published_tensors_have_published_names_and_shapes():
    published = to_published(ours(), TABLE)
    shapes = {name: tuple(value.shape) for name, value in published.items()}
    assert shapes == {
        "bert.layer.11.query.weight": (3, 4),
        "bert.layer.11.query.bias": (3,),
        "h.0.c_fc.weight": (2, 5),
        "h.0.c_attn.weight": (6, 3),
        "final_bias": (1, 7),
        "shared.weight": (7, 2),
    }


def test_a_tie_serves_where_the_name_itself_is_absent():
    tensors = ours()
    published = to_published(tensors, TABLE)
    published["lm_head.weight"] = published.pop("shared.weight")
    shapes = {name: value.shape for name, value in tensors.items()}
    back = to_ours(published, TABLE, shapes)
    assert torch.equal(back["embeddings.weight"], tensors["embeddings.weight"])


def test_ignored_tensors_are_no_misfits():
    assert match_published(TABLE, ["position_ids"])[1] == []


def test_layer_numbers_are_digits_only():
    assert match_published(TABLE, ["bert.layer.x.query.weight"])[1] == ["bert.layer.x.query.weight"]


def test_every_misfit_is_named_in_one_message():
    tensors = ours()
    published = to_published(tensors, TABLE)
    shapes = {name: value.shape for name, value in tensors.items()}
    del published["shared.weight"]
    published["stranger"] = torch.zeros(1)
    published["bert.layer.11.query.bias"] = torch.zeros(9)
    with pytest.raises(FileError) as error:
        to_ours(published, TABLE, shapes)
    for part in ("shared.weight is missing", "stranger", "[9] instead of [3]"):
        assert part in str(error.value)


def test_misfits_are_called_as_in_the_file_and_have_the_shapes_it_has():
    tensors = ours()
    shapes = {name: value.shape for name, value in tensors.items()}
    published = to_published(tensors, TABLE)
    published["h.0.c_fc.weight"] = torch.zeros(4, 5)
    published["h.0.c_attn.weight"] = torch.zeros(6, 2)
    published["final_bias"] = torch.zeros(1, 6)
    with pytest.raises(FileError) as error:
        to_ours(published, TABLE, shapes)
    for part in (
        "h.0.c_fc.weight has shape [4, 5] instead of [2, 5]",
        "h.0.c_attn.weight has shape [6, 2] instead of [6, 3]",
        "final_bias has shape [1, 6] instead of [1, 7]",
    ):
        assert part in str(error.value)
    for name in ("h.0.c_attn.weight", "h.0.c_fc.weight"):
        del published[name]
    with pytest.raises(FileError) as error:
        to_ours(published, TABLE, shapes)
    assert str(error.value).count("is missing") == 2


def test_a_parameter_without_a_published_name_is_an_error():
    with pytest.raises(ConfigError, match=r"surplus\.weight has no published name"):
        match_ours(TABLE, ["surplus.weight"])


def test_two_parameters_with_one_published_name_are_an_error():
    table = (Rename("a", "x"), Rename("a", "y"))
    with pytest.raises(ConfigError, match="one-to-one"):
        match_ours(table, ["x.weight", "y.weight"])
