"""Tiny models that write characters, and one tiny run.

Helpers are fixtures, as test files cannot import from each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headway import read_recipe, registry
from headway.tasks._model import Model
from headway.tasks.translation import Translation
from headway.text.train import train_tokenizer
from headway.train.run import train

LETTERS = "abcdefgh"
# Text that would do harm in a page that does not escape, and scripts that need the reader's fonts.
HOSTILE = "<script>alert(1)</script>"
MANY_SCRIPTS = "\u4e2d\u6587 \u0627\u0644\u0639 \u0e44\u0e17\u0e22"


def _build_model(architecture: str, **settings: Any) -> Model:
    """A model with fresh weights that reads and writes characters."""
    texts = [f"{LETTERS} {MANY_SCRIPTS} {HOSTILE}", LETTERS]
    tokenizer = train_tokenizer("character", texts, vocab_size=80)
    body_class = registry.load_class("models", architecture)
    sizes = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 16,
        "pad_token_id": tokenizer.pad_id,
        "eos_token_id": tokenizer.end_id,
        "max_position_embeddings": 64,
    }
    if architecture == "transformer":
        sizes |= {
            "num_encoder_layers": 2,
            "num_decoder_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
    else:
        sizes |= {"embedding_size": 12, "attention_size": 8}
    torch.manual_seed(0)
    config = registry.load_module("models", architecture)
    config_class = getattr(config, registry.class_name(architecture) + "Config")
    body = body_class(config_class(**{**sizes, **settings}))
    return Model(
        body.eval(),
        tokenizer,
        Translation(num_beams=3, max_target_tokens=12),
        task_name="translation",
        architecture=architecture,
    )


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Model]:
    return _build_model


@pytest.fixture(scope="session")
def hostile() -> str:
    return HOSTILE


@pytest.fixture(scope="session")
def many_scripts() -> str:
    return MANY_SCRIPTS


@pytest.fixture(scope="session")
def transformer() -> Model:
    return _build_model("transformer")


@pytest.fixture(scope="session")
def recurrent() -> Model:
    return _build_model("seq2seq")


def _write_rows(path: Path, count: int, *, first: int = 0) -> None:
    rows = []
    for number in range(first, first + count):
        word = "".join(LETTERS[(number * step + step) % 8] for step in range(1, 6))
        rows.append({"source": f"{word} {number}", "target": word[::-1]})
    rows[0]["source"] = HOSTILE
    rows[-1]["source"] = MANY_SCRIPTS
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


RECIPE = """
[data]
train = ["{folder}/train.jsonl"]
valid = ["{folder}/valid.jsonl"]
[text]
tokenizer = "character"
vocab-size = 100
[model]
hidden-size = 16
num-encoder-layers = 1
num-decoder-layers = 2
num-attention-heads = 2
intermediate-size = 32
max-position-embeddings = 64
[task]
max-target-tokens = 12
num-beams = 3
[training]
steps = 6
batch-rows = 16
evaluate-steps = 3
precision = "fp32"
"""


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("explain")
    _write_rows(folder / "train.jsonl", 40)
    _write_rows(folder / "valid.jsonl", 15, first=100)
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder), encoding="utf-8")
    for _ in train(read_recipe(folder / "recipe.toml"), folder / "run"):
        pass
    return folder / "run"
