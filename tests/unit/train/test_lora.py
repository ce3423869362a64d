"""Training with low-rank adapters: they learn and the rest does not, stop and go on, are saved."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from headway.errors import ConfigError
from headway.layers.dropout import Dropout
from headway.tasks._load import load
from headway.train.guard import Stopped
from headway.train.run import Report, resume, train
from headway.train.state import list_checkpoints, read_weights
from playbooks import changed, make_recipe, make_trainer, write_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data, and room for a small pretrained body."""
    return write_data(tmp_path)


def test_adapters_head_and_pooler_learn_and_nothing_else_moves(folder):
    trainer = make_trainer(folder, lora_rank=2)
    before = {n: p.detach().clone() for n, p in trainer.modules.named_parameters()}
    for _ in range(4):
        trainer.take_step()
    moved = {n for n, p in trainer.modules.named_parameters() if not torch.equal(p, before[n])}
    others = {name for name in moved if ".lora_" not in name}
    assert others == {
        "head.output.weight",
        "head.output.bias",
        "body.pooler.dense.weight",
        "body.pooler.dense.bias",
    }
    assert {name.rpartition(".")[2] for name in moved - others} == {"lora_down", "lora_up"}
    assert all(".query." in name or ".value." in name for name in moved - others)


def test_nothing_changes_before_something_is_learned(folder):
    plain, adapted = (make_trainer(folder, **more) for more in ({}, {"lora_rank": 4}))
    for trainer in (plain, adapted):
        trainer.modules.eval()
    rows = [{"text": "the cat sat"}]
    one, other = (t.model.body.encode(batch(t, rows)).hidden for t in (plain, adapted))
    assert torch.equal(one, other)


def batch(trainer, rows):
    task, setting = trainer.model.task, trainer.model.setting
    examples = task.encode(rows, setting).examples
    return task.collate([[example] for example in examples], setting).source


def test_a_run_stops_goes_on_to_the_same_bits_and_saves_an_adapter(folder):
    torch.use_deterministic_algorithms(True)
    try:
        recipe = make_recipe(folder, lora_rank=2, lora_targets=("query", "up"))
        list(train(recipe, folder / "whole"))
        with pytest.raises(Stopped):
            for event in train(recipe, folder / "parts"):
                if isinstance(event, Report) and event.step >= 7:
                    os.kill(os.getpid(), signal.SIGTERM)
        list(resume(folder / "parts"))
    finally:
        torch.use_deterministic_algorithms(False)
    ends = [list_checkpoints(folder / name / "checkpoints")[-1] for name in ("whole", "parts")]
    assert not changed(*(read_weights(path / "model.safetensors") for path in ends))
    model_dir = folder / "whole" / "model"
    assert not (model_dir / "model.safetensors").exists()
    config = json.loads((model_dir / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder / "bert")
    rows = [{"text": "the cat sat on the mat"}, {"text": "old river"}]
    model = load(model_dir)
    assert model.labels == ("0", "1")
    model.merge().save(folder / "merged")
    ours, merged = model.predict(rows), load(folder / "merged").predict(rows)
    assert [a["prediction"] for a in ours] == [a["prediction"] for a in merged]
    for one, other in zip(ours, merged, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": 2, "lora_targets": ("qery",)}, "no layer is called qery"),
        ({"lora_rank": 2, "reinit_layers": 1}, "lora-rank"),
        ({"lora_rank": -1}, "lora-rank is -1"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, "lora-alpha"),
    ],
)
def test_what_cannot_be_is_named(folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(folder, **settings)


def test_what_learns_drops_out_and_checkpoints_hold_nothing_else(folder):
    trainer = make_trainer(folder, lora_rank=2)
    trainer.take_step()
    rates = {
        name: module.training
        for name, module in trainer.modules.named_modules()
        if isinstance(module, Dropout)
    }
    inside = [on for name, on in rates.items() if "encoder.layers" in name]
    assert inside
    assert all(inside)
    # Nothing of the embeddings learns.
    assert not any(on for name, on in rates.items() if "embeddings" in name)
    (folder / "kept").mkdir()
    path = trainer.save(folder / "kept")
    names = read_weights(path / "model.safetensors").keys()
    assert any(".lora_down" in name for name in names)
    assert all(".lora_" in n or n.startswith(("head.", "body.pooler.")) for n in names)


def test_training_goes_on_from_an_adapter(folder):
    list(train(make_recipe(folder, lora_rank=2), folder / "first"))
    recipe = make_recipe(folder)
    path = str(folder / "first" / "model")
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, path=path))
    list(train(recipe, folder / "second"))
    before, after = (load(folder / name / "model") for name in ("first", "second"))
    assert after.adapter is not None
    assert (folder / "second" / "model" / "adapter_config.json").is_file()
    moved = changed(before.body.state_dict(), after.body.state_dict())
    assert moved and all(".lora_" in name or name.startswith("pooler.") for name in moved)
    again = dataclasses.replace(recipe.playbook, lora_rank=2)
    with pytest.raises(ConfigError, match="adapter already"):
        list(train(dataclasses.replace(recipe, playbook=again), folder / "third"))
