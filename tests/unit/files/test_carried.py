"""What others' files say and Headway does not use is there again after loading and saving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from encoders import make_encoder
from headway import recipe as recipes
from headway.tasks._load import load
from headway.tasks.classification import Classification
from headway.train.prepare import prepare

PLAIN = {"bos_token_id": 7, "use_cache": True, "note": "theirs", "ratio": 0.25, "nothing": None}
# Written anew, of another place or of another model, or no plain value.
LEFT = {"_name_or_path": "/a/b", "transformers_version": "4.1", "num_labels": 9, "dtype": "float16"}
NESTED = {"quantization_config": {"bits": 4}, "layers_to_skip": [1, 2]}
KEYS = {
    "bert": "classifier_dropout",
    "roberta": "classifier_dropout",
    "albert": "classifier_dropout_prob",
    "distilbert": "seq_classif_dropout",
}


def publish(folder: Path, architecture: str, **values: Any) -> Path:
    """Write a model as others do, with more in its config.json."""
    path = folder / architecture
    make_encoder(architecture, kind="body").save(path)
    for name in ("manifest.json", "headway.json"):
        (path / name).unlink()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | values))
    return path


def config_of(path: Path) -> dict[str, Any]:
    return json.loads((path / "config.json").read_text())


@pytest.mark.parametrize("architecture", KEYS)
def test_keys_that_are_not_used_are_written_back(architecture, tmp_path):
    key = KEYS[architecture]
    path = publish(tmp_path, architecture, **PLAIN, **LEFT, **NESTED, **{key: 0.3})
    load(path).save(tmp_path / "copy")
    load(tmp_path / "copy").save(tmp_path / "again")
    for name in ("copy", "again"):
        found = config_of(tmp_path / name)
        assert PLAIN.items() <= found.items()
        assert found[key] == 0.3
        assert not (LEFT | NESTED).keys() & found.keys()


@pytest.mark.parametrize("key", ["seq_classif_dropout", "qa_dropout"])
def test_rates_of_other_heads_are_written_back(key, tmp_path):
    load(publish(tmp_path, "distilbert", **{key: 0.4})).save(tmp_path / "copy")
    assert config_of(tmp_path / "copy")[key] == 0.4


@pytest.mark.parametrize(
    ("length", "expected"), [(20, 20), (64, 64), (10**30, 64), (None, 64), ("long", 64)]
)
def test_the_tokenizers_longest_input_is_kept(length, expected, tmp_path):
    path = publish(tmp_path, "bert")
    settings = json.loads((path / "tokenizer_config.json").read_text())
    settings |= {"model_max_length": length}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    load(path).save(tmp_path / "copy")
    found = json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    assert found["model_max_length"] == expected


@pytest.mark.parametrize("architecture", KEYS)
@pytest.mark.parametrize(
    ("said", "recipe", "rate"), [(0.3, {}, 0.3), (0.3, {"dropout": "0.2"}, 0.2), (None, {}, 0.1)]
)
def test_a_head_drops_out_as_the_folder_or_the_recipe_says(
    architecture, said, recipe, rate, tmp_path
):
    key = KEYS[architecture]
    path = publish(tmp_path, architecture, **{key: said})
    rows = "".join(json.dumps({"text": "a cat", "label": n % 2}) + "\n" for n in range(8))
    (tmp_path / "rows.jsonl").write_text(rows)
    rows_of = str(tmp_path / "rows.jsonl")
    prepared = prepare(
        recipes.read(
            recipes.find("classify"),
            {
                "data": {"train": rows_of, "valid": rows_of},
                "model": {"path": str(path)},
                "task": {"max-tokens": 16, **recipe},
            },
        )
    )
    model = prepared.model
    assert (model.head.dropout.rate, model.task.dropout) == (rate, rate)
    # A run that is resumed finds the rate in its recipe.
    assert prepared.recipe.task.settings.get("dropout", 0.1) == rate
    model.save(tmp_path / "copy")
    assert config_of(tmp_path / "copy")[key] == (None if said is None else rate)
    # Opened without any file of ours, it is the same.
    for name in ("manifest.json", "headway.json"):
        (tmp_path / "copy" / name).unlink()
    again = load(tmp_path / "copy")
    assert isinstance(again.task, Classification)
    assert again.task.dropout == rate


def test_a_rate_that_is_none_is_written_back_and_not_used(tmp_path):
    path = publish(tmp_path, "bert", classifier_dropout=1.5)
    model = load(path, task=Classification(), task_name="classification", labels=("a", "b"))
    assert model.head.dropout.rate == 0.1
    model.save(tmp_path / "copy")
    assert config_of(tmp_path / "copy")["classifier_dropout"] == 1.5
