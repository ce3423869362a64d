"""The data pack's sets for fine-tuning: files, columns, recipes, and what is scored."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Rows of the large sets that both sides learn from.
SAMPLE_ROWS = 8000


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One set.

    Args:
        name: As printed.
        recipe: Shipped recipe that learns it.
        train: Training file in the pack.
        test: What is scored.
        score: Which score the table shows.
        columns: Ours=theirs.
        flags: Further flags of the recipe.
        num_seeds: Seeds in the table.
        sample: Only the first SAMPLE_ROWS of a fixed shuffle are learned from.
        pair: There are two texts.
    """

    name: str
    recipe: str
    train: str
    test: str
    score: str
    columns: tuple[str, ...] = ()
    flags: dict[str, str] = field(default_factory=dict)
    num_seeds: int = 3
    sample: bool = False


_PAIR = ("text=sentence1", "text_pair=sentence2")
SETS = (
    DataSet(
        name="TREC",
        recipe="classify",
        train="trec/train.tsv",
        test="trec/test.tsv",
        score="accuracy",
        columns=("text=question", "label=coarse"),
    ),
    DataSet(
        name="PhraseBank",
        recipe="classify",
        train="financial_phrasebank/train.tsv.gz",
        test="financial_phrasebank/valid.tsv",
        score="macro_f1",
        columns=("text=sentence",),
    ),
    DataSet(
        name="MRPC",
        recipe="pair",
        train="mrpc/train.tsv.gz",
        test="mrpc/dev.tsv.gz",
        score="accuracy",
        columns=_PAIR,
    ),
    DataSet(
        name="RTE",
        recipe="pair",
        train="rte/train.tsv.gz",
        test="rte/dev.tsv.gz",
        score="accuracy",
        columns=_PAIR,
    ),
    DataSet(
        name="STS-B",
        recipe="regress",
        train="stsb/train.tsv.gz",
        test="stsb/dev.tsv.gz",
        score="spearman",
        columns=(*_PAIR, "label=score"),
    ),
    DataSet(
        name="SICK",
        recipe="pair",
        train="sick/train.tsv.gz",
        test="sick/test.tsv.gz",
        score="accuracy",
        columns=(*_PAIR, "label=entailment"),
    ),
    DataSet(
        name="WNUT-17",
        recipe="tag",
        train="wnut17/train.conll.gz",
        test="wnut17/valid.conll.gz",
        score="entity_f1",
    ),
    DataSet(
        name="SST-2",
        recipe="classify",
        train="sst2/train.tsv.gz",
        test="sst2/dev.tsv",
        score="accuracy",
        columns=("text=sentence",),
        num_seeds=1,
        sample=True,
    ),
    DataSet(
        name="AG News",
        recipe="classify",
        train="ag_news/train.jsonl.gz",
        test="ag_news/test.jsonl.gz",
        score="accuracy",
        columns=("label=label_name",),
        num_seeds=1,
        sample=True,
    ),
    DataSet(
        name="CoNLL-2003",
        recipe="tag",
        train="conll2003/train.conll.gz",
        test="conll2003/valid.conll.gz",
        score="entity_f1",
        num_seeds=1,
        sample=True,
    ),
    DataSet(
        name="SQuAD",
        recipe="answer",
        # The pack's train has questions in its style; dev is the first half of its dev.
        train="squad/train.json.gz",
        test="squad/dev.json.gz",
        score="answer_f1",
        num_seeds=1,
        sample=True,
    ),
)


def find_set(name: str) -> DataSet:
    """Find a set by its name, in any case."""
    known = {item.name.lower(): item for item in SETS}
    if name.lower() not in known:
        raise SystemExit(f"there is no set {name!r}; there are {', '.join(known)}")
    return known[name.lower()]


def read_rows(pack: Path, file: str, item: DataSet) -> list[dict]:
    """Read a file of a set with our columns."""
    from headway import recipe as recipes
    from headway import registry
    from headway.data.read import read_records

    task = registry.load_class("tasks", recipes.read(recipes.find(item.recipe)).task.name)
    return read_records(
        [str(pack / file)], columns=task.columns, optional=task.optional, names=item.columns
    ).rows


def _shuffled(rows: list[dict], count: int) -> Iterator[dict]:
    import random

    yield from random.Random(0).sample(rows, min(count, len(rows)))


def training_file(pack: Path, work: Path, item: DataSet) -> Path:
    """Write the rows that both sides learn from, one file for both."""
    path = work / "sets" / f"{item.name.replace(' ', '-')}.jsonl.gz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = read_rows(pack, item.train, item)
        kept = _shuffled(rows, SAMPLE_ROWS) if item.sample else rows
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    return path


def test_file(pack: Path, work: Path, item: DataSet) -> Path:
    """Write the rows that are scored."""
    path = work / "sets" / f"{item.name.replace(' ', '-')}-test.jsonl.gz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = read_rows(pack, item.test, item)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path
