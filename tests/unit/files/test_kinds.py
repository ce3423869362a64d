"""The kind of head that a folder is opened with, by its class and by its tensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders import make_encoder
from headway import registry
from headway.files.folder import make_body, read_model, write_model
from headway.layers.heads import LinearHead
from headway.tasks._load import load
from headway.tasks.masked_lm import MaskedLm

NUM_LABELS = {"sequence": 3, "token": 4, "span": 2, "choice": 1, "pair": 2, "masked_lm_pair": 2}
CASES = [
    (family, kind, is_tied)
    for family in ("bert", "roberta", "albert", "distilbert")
    for kind in registry.load_module("models", family).HEADS
    for is_tied in (True, False)
]


def change(path: Path, **values: Any) -> None:
    """Change a JSON file; None removes a key."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("named", [None, ["SomebodysOwnModel"]])
@pytest.mark.parametrize(("family", "kind", "is_tied"), CASES)
def test_a_folder_without_a_known_class_opens_by_its_tensors(
    family, kind, is_tied, named, tmp_path
):
    config_class = type(registry.load_class("models", family).tiny())
    tiny = vars(registry.load_class("models", family).tiny())
    config = config_class(**tiny | {"tie_word_embeddings": is_tied})
    head = LinearHead(config.hidden_size, NUM_LABELS[kind]) if kind in NUM_LABELS else None
    write_model(tmp_path, family, make_body(family, config, kind), kind=kind, head=head)
    change(tmp_path / "config.json", architectures=named)
    if is_tied:
        # Others leave out what shares the embeddings' memory, and the second name of a bias.
        tensors = load_file(tmp_path / "model.safetensors")
        kept = {name: value for name, value in tensors.items() if "decoder" not in name}
        save_file(kept, tmp_path / "model.safetensors")
    loaded = read_model(tmp_path)
    # A head of one result on the pooled vector may be either.
    assert loaded.kind in (kind, {"choice": "sequence"}.get(kind))
    assert not loaded.fresh
    assert not loaded.unused


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Save a model that tells pairs apart as others publish it."""
    path = tmp_path_factory.mktemp("pairs") / "model"
    make_encoder(task=MaskedLm(pair="next-sentence")).save(path)
    for name in ("manifest.json", "headway.json"):
        (path / name).unlink()
    return path


@pytest.fixture
def folder(pairs, tmp_path) -> Callable[..., Path]:
    """Give a copy of it whose config.json names a class."""

    def copy(*named: str) -> Path:
        path = Path(shutil.copytree(pairs, tmp_path / "model"))
        change(path / "config.json", architectures=list(named) or None)
        return path

    return copy


@pytest.mark.parametrize("named", ["BertForMaskedLM", "BertLMHeadModel", "BertForPreTraining"])
def test_a_file_that_holds_all_of_a_richer_kind_is_opened_as_that(named, folder):
    path = folder(named)
    model = load(path)
    assert (model.kind, model.task, model.notes) == (
        "masked_lm_pair",
        MaskedLm(pair="next-sentence"),
        (),
    )
    rows = [{"text": "the [MASK] sat"}, {"text": "the cat sat", "text_pair": "a bird"}]
    assert model.predict(rows) == make_encoder(task=MaskedLm(pair="next-sentence")).predict(rows)


def test_their_pairs_are_told_apart_as_they_tell_them_whatever_the_class_says(folder):
    transformers = pytest.importorskip("transformers")
    path = folder("BertForMaskedLM")
    theirs = transformers.BertForPreTraining.from_pretrained(path).eval()
    model = load(path)
    ids = model.tokenizer.encode_ids(["the cat sat", "a bird"], bare=True)
    start, end = model.tokenizer.start_id, model.tokenizer.end_id
    row = [start, *ids[0], end, *ids[1], end]
    types = [0] * (len(ids[0]) + 2) + [1] * (len(ids[1]) + 1)
    with torch.no_grad():
        out = theirs(input_ids=torch.tensor([row]), token_type_ids=torch.tensor([types]))
    expected = out["seq_relationship_logits"][0].softmax(-1)
    (answer,) = model.predict([{"text": "the cat sat", "text_pair": "a bird"}])
    found = torch.tensor(list(answer["probabilities"].values()))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_kind_of_which_something_lacks_is_not_taken(folder):
    path = folder("BertForMaskedLM")
    tensors = load_file(path / "model.safetensors")
    del tensors["bert.pooler.dense.bias"]
    save_file(tensors, path / "model.safetensors")
    assert load(path).kind == "masked_lm"


def test_a_task_that_leaves_the_head_for_pairs_out_says_how_to_keep_it(folder):
    path = folder("BertForMaskedLM")
    (note,) = load(path, task=MaskedLm(), task_name="masked_lm").notes
    assert note.startswith(f"{path}: not used: ")
    assert "bert.pooler.dense.bias" in note
    assert "not saved with what is trained; to keep and train them set task.pair" in note
    kept = load(path, task=MaskedLm(pair="next-sentence"), task_name="masked_lm")
    assert kept.notes == ()


def test_a_word_classifier_with_a_layer_too_many_stays_one(tmp_path):
    config = registry.load_class("models", "distilbert").tiny()
    body = make_body("distilbert", config, "token")
    write_model(tmp_path, "distilbert", body, kind="token", head=LinearHead(16, 4))
    tensors = load_file(tmp_path / "model.safetensors")
    more = {"pre_classifier.weight": torch.ones(16, 16), "pre_classifier.bias": torch.ones(16)}
    save_file(tensors | more, tmp_path / "model.safetensors")
    assert read_model(tmp_path).kind == "token"
