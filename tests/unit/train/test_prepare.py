"""From a recipe to a run: the same recipe and data make the same vocabulary and find its store."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from headway import recipe as recipes
from headway.data import store as stores
from headway.train.prepare import Prepared, prepare

LINES = [
    "the cat sat on the mat and the dog ran to the house",
    "a bird sings in the old tree near a river",
    "unhappy people read long books about short words, don't they?",
] * 5
KINDS = ["bpe", "wordpiece", "unigram"]
SIZES = {"hidden-size": 8, "num-attention-heads": 2, "intermediate-size": 8}

RECIPE = """
[model]
architecture = "lstm"
embedding-size = 8
hidden-size = 8
max-position-embeddings = 32
[task]
name = "classification"
pooling = "attention"
max-tokens = 16
[training]
precision = "fp32"
"""


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "headway"


def of_corpus(kind: str, folder: Path, **changes) -> Prepared:
    (folder / "a.txt").write_text("\n".join(LINES))
    overrides = {
        "data": {"train": str(folder / "a.txt"), **changes.get("data", {})},
        "text": {"tokenizer": kind, "vocab-size": 90, **changes.get("text", {})},
        "model": SIZES,
        "task": {"max-tokens": 16, "short-tokens": 8, **changes.get("task", {})},
    }
    return prepare(recipes.read(recipes.find("bert-mini-pretrain"), overrides))


def of_records(kind: str, folder: Path, train: str, **data) -> Prepared:
    (folder / "short.toml").write_text(RECIPE)
    overrides = {"data": {"train": train, **data}, "text": {"tokenizer": kind, "vocab-size": 90}}
    return prepare(recipes.read(folder / "short.toml", overrides))


def rows_of(lines: list[str]) -> str:
    rows = [{"text": line, "label": str(place % 2)} for place, line in enumerate(lines)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_over_a_corpus_finds_vocabulary_and_store(kind, cache, tmp_path, monkeypatch):
    first = of_corpus(kind, tmp_path)
    monkeypatch.setattr(stores, "_tokenize", lambda *_: pytest.fail("tokenized again"))
    again = of_corpus(kind, tmp_path, task={"mask-ratio": 0.3})
    assert again.model.tokenizer.to_json() == first.model.tokenizer.to_json()
    assert len(list((cache / "stores").iterdir())) == 1
    assert len(list((cache / "vocabularies").iterdir())) == 1


@pytest.mark.parametrize(
    "changes",
    [{"text": {"lowercase": False}}, {"text": {"vocab-size": 80}}, {"data": {"max-rows": 2}}],
    ids=str,
)
def test_another_section_or_limit_learns_another_vocabulary(changes, cache, tmp_path):
    first = of_corpus("wordpiece", tmp_path)
    other = of_corpus("wordpiece", tmp_path, **changes)
    assert len(list((cache / "vocabularies").iterdir())) == 2
    assert first.model.tokenizer.to_json() != other.model.tokenizer.to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_over_records_finds_the_vocabulary(kind, cache, tmp_path):
    (tmp_path / "a.jsonl").write_text(rows_of(LINES))
    first, again = (of_records(kind, tmp_path, str(tmp_path / "a.jsonl")) for _ in range(2))
    assert again.model.tokenizer.to_json() == first.model.tokenizer.to_json()
    of_records(kind, tmp_path, str(tmp_path / "a.jsonl"), **{"skip-bad": True})
    assert len(list((cache / "vocabularies").iterdir())) == 2


def test_a_vocabulary_from_standard_input_is_not_kept(cache, tmp_path, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(rows_of(LINES).encode()))
    monkeypatch.setattr("sys.stdin", stream)
    of_records("bpe", tmp_path, "-")
    assert not (cache / "vocabularies").exists()
