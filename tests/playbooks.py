"""Small runs with a playbook: data, a recipe, a trainer."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from encoders import make_encoder
from headway import recipe as recipes
from headway.train.loop import Trainer
from headway.train.prepare import prepare

TEXTS = ("the cat sat on the mat", "a bird sings", "the dog ran to the house and sat", "old river")


def write_data(folder: Path) -> Path:
    """Write what is learned from and scored on."""
    for name, count in (("train", 24), ("valid", 6)):
        rows = [{"text": TEXTS[i % 4] + " cat" * (i % 3), "label": i % 2} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_recipe(folder: Path, architecture: str = "bert", *, task=None, training=None, **playbook):
    body = folder / architecture
    if not body.exists():
        # ALBERT's tiny size has its own number of layers.
        make_encoder(architecture).save(body)
    return recipes.read(
        recipes.find("classify"),
        {
            "data": {"train": str(folder / "train.jsonl"), "valid": str(folder / "valid.jsonl")},
            "model": {"path": str(body)},
            "task": {"max-tokens": 16, "dropout": 0.1, **(task or {})},
            "training": {
                "batch-rows": 6,
                "epochs": 6,
                "peak-lr": 1e-2,
                "precision": "fp32",
                "warmup-steps": 0,
                **(training or {}),
            },
            "playbook": playbook,
        },
    )


def make_trainer(folder: Path, architecture: str = "bert", **changes) -> Trainer:
    prepared = prepare(make_recipe(folder, architecture, **changes))
    recipe = prepared.recipe
    return Trainer(
        prepared.model,
        prepared.examples.train,
        recipe.training,
        playbook=recipe.playbook,
        work_dir=folder,
    )


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}
