"""A small T5 pretrained from plain text, taught to summarize: beside no pretraining, and the lead.

    python benchmarks/summaries.py --data PACK --out WORK [--tokens 4e6]

The recipe `t5-mini-pretrain` reads general_text and wikitext2 for so many tokens; `summarize` then
learns the headlines of news, and the one-sentence summaries of abstracts (scitldr), from the
pretrained weights and from weights as they are drawn. ROUGE with its intervals on validation rows,
which chose nothing: the last model is scored. Beside it the first sentence of each text. What was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from _corpora import prepare
from _jobs import Job, train, training_minutes
from _tables import describe_run
from headway.data.lines import write_jsonl
from headway.metrics.intervals import bootstrap
from headway.tasks._load import load

_CORPORA = ("general_text", "wikitext2")
_UPDATE_TOKENS = 4096
# Set -> the column with its summary or summaries, and passes over it.
_SETS = {"headlines": ("summary", "3"), "scitldr": ("summaries", "4")}


def write_rows(pack: Path, out: Path, name: str, split: str) -> Path:
    """Write a set's rows as `text` and `summary`."""
    column, _ = _SETS[name]
    path = out / f"{name}-{split}.jsonl"
    with gzip.open(pack / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    write_jsonl(path, [{"text": row["document"], "summary": row[column]} for row in rows])
    return path


def pretraining(pack: Path, out: Path, tokens: int) -> Job:
    """Describe the pretraining."""
    corpora = [prepare(pack, out / "corpora", name, "train") for name in _CORPORA]
    flags = {
        "data.train": corpora,
        "data.valid": [prepare(pack, out / "corpora", "wikitext2", "valid")],
        "training.batch-tokens": str(_UPDATE_TOKENS),
        "training.steps": str(max(1, tokens // _UPDATE_TOKENS)),
    }
    return Job("T5", "t5-mini-pretrain", flags)


def unlearned(pretrained: Path, out: Path) -> Path:
    """Write the same model with weights as they are drawn."""
    if not (out / "config.json").exists():
        model = load(pretrained)
        model.body.init_weights()
        model.save(out)
    return out


def main() -> None:
    """Pretrain, teach, score, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--out", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--tokens", type=float, default=4e6, help="tokens of pretraining")
    parser.add_argument("--sets", nargs="+", default=list(_SETS), choices=list(_SETS))
    parser.add_argument("--at-once", type=int, default=1, help="trainings side by side")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    first = pretraining(options.data, out, int(options.tokens))
    train([first], out, at_once=1)
    pretrained = first.folder(out) / "model"
    starts = {"pretrained": pretrained, "not pretrained": unlearned(pretrained, out / "unlearned")}
    print(describe_run())
    print("| set | model | ROUGE-1 | ROUGE-2 | ROUGE-L | minutes |\n|---|---|---:|---:|---:|---:|")
    for name in options.sets:
        files = {split: write_rows(options.data, out, name, split) for split in ("train", "valid")}
        jobs = []
        for start, folder in starts.items():
            flags = {
                "model.path": str(folder),
                "data.train": str(files["train"]),
                "training.epochs": _SETS[name][1],
            }
            jobs.append(Job(f"{name} {start}", "summarize", flags))
        train(jobs, out, at_once=options.at_once)
        rows = [json.loads(line) for line in files["valid"].read_text().split("\n")[:-1]]
        task: Any = None
        for start, job in zip(starts, jobs, strict=True):
            model = load(job.folder(out) / "model")
            answers = model.predict([{"text": row["text"]} for row in rows])
            minutes = training_minutes(job.folder(out))
            task = model.task
            print_row(name, start, task.statistics(answers, rows), minutes)
        lead = task.baseline([], rows).predictions
        print_row(name, "first sentence", task.statistics(lead, rows))


def print_row(name: str, who: str, scores: list, minutes: float | None = None) -> None:
    """Print a row of the table."""
    cells = []
    for score in scores:
        interval = bootstrap(score)
        cells.append(f"{score.value():.2f} ({interval.low:.2f}-{interval.high:.2f})")
    time = "" if minutes is None else f"{minutes:.0f}"
    print(f"| {name} | {who} | {' | '.join(cells)} | {time} |", flush=True)


if __name__ == "__main__":
    main()
