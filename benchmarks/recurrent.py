"""Recurrent encoder-decoders side by side, and beside the Transformer: quality by source length.

    python benchmarks/recurrent.py --data DIR --out WORK [--part variants|shares|score]

`variants` trains one small GRU network in every form: fixed contexts, scores, wirings, windows;
`shares` trains the two shipped recipes on a quarter, half and all of the data; `score` decodes the
test set with every model that is there. Trainings that were stopped go on where they were.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from headway.memory import choose_environment, keep_freed_memory

# Before torch is loaded, as the command line does.
choose_environment()
keep_freed_memory()

import headway
from _data import parallel_files, read_pairs
from _jobs import Job, train, training_minutes
from headway.metrics.generated import bleu_statistics
from headway.metrics.intervals import Statistics, bootstrap, paired_bootstrap
from headway.tasks._model import Model

# What all variants share: the recipe multi30k-rnn at a size that trains in minutes.
_COMMON = {
    "text.vocab-size": "4000",
    "model.hidden-size": "256",
    "model.dropout": "0.2",
    "training.epochs": "4",
    "training.batch-tokens": "2048",
    "training.evaluate-steps": "440",
    "training.peak-lr": "3e-3",
}
_BAHDANAU = {"model.wiring": "bahdanau"}
_LUONG = {"model.wiring": "luong"}
_FIXED = {"model.attention": "none"}

VARIANTS: Mapping[str, Mapping[str, str]] = {
    "fixed, initial state": _FIXED | {"model.context": "initial"},
    "fixed, every input": _FIXED | {"model.context": "input"},
    "fixed, input and output": _FIXED | {"model.context": "output"},
    "dot, bahdanau": _BAHDANAU | {"model.attention": "dot"},
    "dot, luong": _LUONG | {"model.attention": "dot"},
    "general, bahdanau": _BAHDANAU | {"model.attention": "general"},
    "general, luong": _LUONG | {"model.attention": "general"},
    "concat, bahdanau": _BAHDANAU | {"model.attention": "concat"},
    "concat, luong": _LUONG | {"model.attention": "concat"},
    "local-m general, luong": _LUONG | {"model.attention": "general", "model.window": "local-m"},
    "local-p general, luong": _LUONG | {"model.attention": "general", "model.window": "local-p"},
}
_REFERENCE = "fixed, input and output"

_TRAIN_ROWS = 29_000
SHARES = {"a quarter": 4, "half": 2, "all": 1}
_RECIPES = {"GRU, concat": "multi30k-rnn", "Transformer": "multi30k-transformer"}

# Source tokens, </s> included: up to 10, 11 to 15, ...
_BOUNDS = (0, 10, 15, 20, 10_000)


def files_of(data: Path) -> dict[str, tuple[str, str]]:
    """Give the flags that name the data."""
    return {f"data.{split}": parallel_files(data, split) for split in ("train", "valid")}


def variant_jobs(data: Path) -> list[Job]:
    """List the forms of the recurrent network."""
    files = files_of(data)
    return [
        Job(name, "multi30k-rnn", {**files, **_COMMON, **flags}) for name, flags in VARIANTS.items()
    ]


def share_jobs(data: Path) -> list[Job]:
    """List both recipes at each share of the training set."""
    return [
        Job(
            f"{model}, {share}",
            recipe,
            files_of(data) | {"data.max-rows": str(_TRAIN_ROWS // part)},
        )
        for share, part in SHARES.items()
        for model, recipe in _RECIPES.items()
    ]


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a model scores on the test set, in all and by source length."""

    name: str
    bleu: float
    interval: tuple[float, float]
    difference: str
    """Difference to the reference with its p-value."""
    bleu_by_length: list[float]
    milliseconds_by_length: list[float]
    """Median time of a sentence, 32 at once, beam 5."""
    minutes: float
    """Training time, by the clock of metrics.jsonl."""
    parameters: int


class Test:
    """The test set in groups by source length."""

    def __init__(self, data: Path, model: Model) -> None:
        self.rows = read_pairs(data, "test_2016_flickr")
        lengths = model.task.encode(self.rows, model.setting).lengths[:, 0]
        self.groups = [
            [index for index, length in enumerate(lengths) if low < length <= high]
            for low, high in pairwise(_BOUNDS)
        ]

    def decode(self, model: Model) -> Iterator[tuple[list[str], float]]:
        """Translate group by group; give the answers and the seconds."""
        for group in self.groups:
            started = time.perf_counter()
            answers = model.translate([self.rows[i]["source"] for i in group])
            yield answers, time.perf_counter() - started

    def statistics(self, answers: Sequence[Sequence[str]]) -> list[Statistics]:
        """Score each group, and last all of them."""
        parts = [
            (list(texts), [[self.rows[i]["target"]] for i in group])
            for texts, group in zip(answers, self.groups, strict=True)
        ]
        texts = [text for part, _ in parts for text in part]
        references = [reference for _, part in parts for reference in part]
        return [bleu_statistics(*part) for part in (*parts, (texts, references))]


def score(jobs: Sequence[Job], options: argparse.Namespace) -> list[Score]:
    """Decode with every trained model, in turns, and compare with the reference."""
    present = [job for job in jobs if (job.folder(options.out) / "model" / "config.json").exists()]
    models = {
        job.name: headway.load(job.folder(options.out) / "model", precision="auto")
        for job in present
    }
    if not models:
        return []
    tests = {name: Test(options.data, model) for name, model in models.items()}
    answers: dict[str, list[list[str]]] = {}
    seconds: dict[str, list[list[float]]] = {name: [] for name in models}
    for _ in range(options.repeats):
        for name, model in models.items():
            found = list(tests[name].decode(model))
            answers[name] = [texts for texts, _ in found]
            seconds[name].append([taken for _, taken in found])
    statistics_of = {name: tests[name].statistics(found) for name, found in answers.items()}
    scores = []
    for job in present:
        *groups, whole = statistics_of[job.name]
        interval = bootstrap(whole)
        difference = ""
        if _REFERENCE in statistics_of and job.name != _REFERENCE:
            test = paired_bootstrap(whole, statistics_of[_REFERENCE][-1])
            difference = f"{test.difference:+.2f} (p {test.p_value:.3f})"
        sizes = [len(group) for group in tests[job.name].groups]
        medians = [statistics.median(times) for times in zip(*seconds[job.name], strict=True)]
        scores.append(
            Score(
                name=job.name,
                bleu=whole.value(),
                interval=(interval.low, interval.high),
                difference=difference,
                bleu_by_length=[item.value() for item in groups],
                milliseconds_by_length=[
                    1000 * value / size for value, size in zip(medians, sizes, strict=True)
                ],
                minutes=training_minutes(job.folder(options.out)),
                parameters=sum(
                    p.numel()
                    for p in headway.load(job.folder(options.out) / "model").body.parameters()
                ),
            )
        )
    return scores


def to_markdown(scores: Sequence[Score]) -> str:
    """Write a row for each model."""
    names = [f"{low + 1}-{high}" for low, high in pairwise(_BOUNDS[:-1])] + [f"> {_BOUNDS[-2]}"]
    lines = [
        f"| model | parameters | training | BLEU (95 %) | against {_REFERENCE} | "
        f"BLEU by source tokens {' / '.join(names)} | ms a sentence, likewise |",
        "|---|---:|---:|---|---|---|---|",
    ]
    for item in scores:
        low, high = item.interval
        cells = (
            item.name,
            f"{item.parameters / 1e6:.2f} M",
            f"{item.minutes:.1f} min",
            f"{item.bleu:.2f} ({low:.2f}-{high:.2f})",
            item.difference,
            " / ".join(f"{value:.1f}" for value in item.bleu_by_length),
            " / ".join(f"{value:.1f}" for value in item.milliseconds_by_length),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with Multi30k files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--part", choices=("variants", "shares", "score", "all"), default="all")
    parser.add_argument(
        "--at-once", type=int, default=1, help="trainings side by side, each on its share of cores"
    )
    parser.add_argument("--repeats", type=int, default=3, help="decodings of the test set")
    return parser.parse_args()


def main() -> None:
    """Run the parts asked for and print the tables."""
    options = parse_options()
    options.out.mkdir(parents=True, exist_ok=True)
    tables = {"variants": variant_jobs(options.data), "shares": share_jobs(options.data)}
    for name, jobs in tables.items():
        if options.part in (name, "all"):
            train(jobs, options.out, at_once=options.at_once)
    if options.part in ("score", "all"):
        found = {name: score(jobs, options) for name, jobs in tables.items()}
        content = {name: [asdict(item) for item in scores] for name, scores in found.items()}
        path = options.out / "scores.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for name, scores in found.items():
            print(f"### {name}\n\n{to_markdown(scores)}")


if __name__ == "__main__":
    main()
