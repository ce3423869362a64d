"""A GPT taught to answer from a passage, and to talk.

    python benchmarks/chatbots.py --data PACK --model FOLDER --out WORK [--rows 200]

Passages and questions of SQuAD become conversations of two turns (passages longer than the model
reads are left out, and counted); answers are scored with SQuAD's F1 and exact match on the first
rows of dev, beside an answer of the passage's first words. dailydialog is scored by the perplexity
of every second turn.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _jobs import Job, train, training_minutes
from _tables import describe_run
from headway.data.lines import write_jsonl
from headway.metrics.answers import answer_statistics
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.train.evaluate import evaluate

_TURNS = ("user", "assistant")
# What a conversation needs beside passage and question: names of turns and an answer.
_SPARE_TOKENS = 40


def passages(path: Path) -> Iterator[dict[str, Any]]:
    """Give passage, question and answers of a SQuAD file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        data = json.load(stream)["data"]
    for article in data:
        for paragraph in article["paragraphs"]:
            for item in paragraph["qas"]:
                answers = [answer["text"] for answer in item["answers"]]
                if answers:
                    yield {
                        "context": paragraph["context"],
                        "question": item["question"],
                        "answers": answers,
                    }


def as_talk(row: dict[str, Any]) -> dict[str, Any]:
    """Write a question on a passage as a conversation."""
    asked = f"{row['context']}\n{row['question']}"
    turns = zip(_TURNS, (asked, row["answers"][0]), strict=True)
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def fitting(model: Model, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the rows that the model can read whole."""
    texts = [f"{row['context']}\n{row['question']}" for row in rows]
    room = model.setting.max_tokens - _SPARE_TOKENS
    lengths = map(len, model.tokenizer.encode_ids(texts))
    return [row for row, length in zip(rows, lengths, strict=True) if length <= room]


def write_squad(pack: Path, out: Path, model: Model, rows: int) -> list[dict[str, Any]]:
    """Write conversations for training and validation; give the rows to be scored."""
    for split in ("train", "dev"):
        every = list(passages(pack / "squad" / f"{split}.json.gz"))
        kept = fitting(model, every)
        print(f"squad {split}: {len(kept):,} of {len(every):,} questions fit")
        kept = kept if split == "train" else kept[:rows]
        write_jsonl(out / f"squad-{split}.jsonl", map(as_talk, kept))
    return kept


def write_talk(pack: Path, out: Path) -> None:
    """Write dailydialog as conversations of two people."""
    for split in ("train", "valid"):
        with gzip.open(pack / "dailydialog" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
            talks = [json.loads(line)["utterances"] for line in lines]
        rows = []
        for talk in talks:
            turns = talk[: len(talk) // 2 * 2]
            rows.append(
                {
                    "messages": [
                        {"role": _TURNS[place % 2], "content": said}
                        for place, said in enumerate(turns)
                    ]
                }
            )
        write_jsonl(out / f"talk-{split}.jsonl", rows)


def score_answers(model: Model, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Answer greedily; give F1 and exact match in per cent, and those of the first words."""
    asked = [{"messages": as_talk(row)["messages"][:1]} for row in rows]
    said = [
        answer["prediction"]
        for answer in model.predict(asked, temperature=0.0, max_new_tokens=_SPARE_TOKENS // 2)
    ]
    lead = [" ".join(row["context"].split()[:3]) for row in rows]
    found = {}
    answers = [row["answers"] for row in rows]
    for name, texts in (("", said), ("first words: ", lead)):
        found |= {f"{name}{i.name}": i.value() for i in answer_statistics(texts, answers)}
    for row, text in list(zip(rows, said, strict=True))[:5]:
        print(f"  {row['question']}  ->  {text!r} ({row['answers'][0]!r})")
    return found


def main() -> None:
    """Write the data, train both, and print what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--model", type=Path, required=True, help="a GPT")
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--rows", type=int, default=200, help="questions that are scored")
    parser.add_argument(
        "--epochs", nargs=2, default=["2", "4"], help="passes over SQuAD and over dailydialog"
    )
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    base = load(options.model)
    rows = write_squad(options.data, out, base, options.rows)
    write_talk(options.data, out)
    shared = {
        "model.path": str(options.model.resolve()),
        "task.max-tokens": str(base.setting.max_tokens),
        "training.peak-lr": "5e-4",
        "playbook.choose-by": "loss",
    }
    jobs = []
    for name, held, epochs in zip(("squad", "talk"), ("dev", "valid"), options.epochs, strict=True):
        files = {
            "data.train": str(out / f"{name}-train.jsonl"),
            "data.valid": str(out / f"{name}-{held}.jsonl"),
        }
        jobs.append(Job(name, "chat", shared | files | {"training.epochs": epochs}))
    train(jobs, out, at_once=options.at_once)
    print(describe_run())
    squad, talk = (load(job.folder(out) / "model") for job in jobs)
    for name, value in score_answers(squad, rows).items():
        print(f"squad, {name}: {value:.1f}")
    with (out / "talk-valid.jsonl").open(encoding="utf-8") as lines:
        held = [json.loads(line) for line in lines]
    scores = evaluate(talk, held, predicting=False).scores
    print(f"dailydialog: {scores}")
    for job in jobs:
        print(f"{job.name}: {training_minutes(job.folder(out)):.1f} minutes of training")


if __name__ == "__main__":
    main()
