"""A run small enough for tests: made-up pairs and a tiny model, everything switched on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from headway import recipe as recipes
from headway.sections import Recipe

COLORS = {"red": "rot", "green": "gruen", "blue": "blau", "black": "schwarz", "white": "weiss"}

RECIPE = """
[text]
tokenizer = "word"
vocab-size = 40

[model]
architecture = "{architecture}"
hidden-size = 16
dropout = 0.2
{more}

[task]
name = "translation"
max-target-tokens = 12
num-beams = 2

[training]
batch-tokens = 120
micro-batch-tokens = 80
peak-lr = 1e-2
warmup-steps = 3
steps = 14
evaluate-steps = 5
precision = "fp32"

[playbook]
average-checkpoints = 2
choose-by = "chrf"
"""
MORE = {
    "transformer": "num-encoder-layers = 1\nnum-decoder-layers = 1\nnum-attention-heads = 2\n"
    "intermediate-size = 24\nmax-position-embeddings = 32",
    "seq2seq": "embedding-size = 12\nattention-size = 8",
}


def write_pairs(folder: Path, *, count: int = 60) -> dict[str, dict[str, Any]]:
    """Write training and validation files; give the recipe's data section."""
    generator = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", count), ("valid", 8)):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            for _ in range(rows):
                words = generator.choices(list(COLORS), k=generator.randint(1, 5))
                row = {
                    "source": " ".join(words),
                    "target": " ".join(COLORS[word] for word in words),
                }
                stream.write(json.dumps(row) + "\n")
    return {"data": {"train": str(folder / "train.jsonl"), "valid": str(folder / "valid.jsonl")}}


def write_recipe(folder: Path, architecture: str = "transformer") -> Path:
    """Write the recipe file."""
    path = folder / "small.toml"
    path.write_text(RECIPE.format(architecture=architecture, more=MORE[architecture]))
    return path


def make_recipe(folder: Path, architecture: str = "transformer", **training: Any) -> Recipe:
    """Read the recipe with its data and some changes to the training section."""
    overrides = {**write_pairs(folder), "training": training}
    return recipes.read(write_recipe(folder, architecture), overrides)
