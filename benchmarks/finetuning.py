"""Fine-tuning beside transformers' Trainer: quality and time, speed, frozen layers, few rows.

    python benchmarks/finetuning.py --data PACK --model MINILM --out WORK --part table [--sets TREC]

See README.md for the parts and for what is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _sets import SAMPLE_ROWS, SETS, DataSet, find_set, read_rows, test_file, training_file
from _tables import Table, describe_run, say, take_turns, to_markdown
from _worker import Choice, Files, Side, Worker, choose

_CHANGES = ({"options": {"attention": "eager"}},)
# Sets and examples a class of the comparison with few examples.
_FEW_SETS = ("PhraseBank", "TREC")
_FEW_COUNTS = (8, 32)
_MEAN = {"task.pooling": "mean"}
# "auto" is 2e-4 here.
_FAST_HEAD = {"training.peak-lr": "2e-3", "playbook.stage-rates": "0.1"}
# The playbook, switched on part by part.
_FEW_WAYS: dict[str, dict[str, str]] = {
    "plain, 3 passes of 32": {"training.epochs": "3"},
    "steps": {},
    "steps, mean pooling": _MEAN,
    "steps, layer decay 0.8": {"playbook.layer-decay": "0.8"},
    "steps, gradual unfreezing": {
        "playbook.unfreeze-steps": "60 10",
        "playbook.unfreeze-stages": "2",
    },
    "steps, top layer drawn anew": {"playbook.reinit-layers": "1"},
    "steps, SWA": {"playbook.swa-start": "0.5", "playbook.swa-rate": "0.3"},
    "steps, EMA": {"playbook.ema-decay": "0.98"},
    "steps, slanted triangle": {"training.schedule": "slanted-triangular"},
    "steps, frozen body": {"playbook.freeze": "embeddings encoder"},
    # Parts together: a head on the mean begins with features that mean something, and wants a
    # rate of its own.
    "steps, mean pooling, frozen body, rate 1e-2": _MEAN
    | {"training.peak-lr": "1e-2", "playbook.freeze": "embeddings encoder"},
    "steps, mean pooling, rate of the head x 10": _MEAN | _FAST_HEAD,
    "steps, mean pooling, rate of the head x 10, head first": _MEAN
    | _FAST_HEAD
    | {"playbook.unfreeze-steps": "60", "playbook.unfreeze-stages": "7"},
}
# Models of `encoders.py`, the first of its ablation fourth.
_PRETRAINED = (
    "BERT",
    "RoBERTa",
    "ALBERT",
    "static masks",
    "dynamic masks",
    "dynamic masks, next sentence",
    "dynamic masks, sentence order",
)
_LSTM = {"training.peak-lr": "1e-3", "text.vocab-size": "8000", "training.schedule": "linear"}
_SWEEP_SETS = ("TREC", "MRPC", "STS-B")
_SWEEP_RATES = (5e-5, 1e-4, 2e-4, 4e-4, 8e-4)


@dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Args:
        scores: On the rows that are scored.
        seconds: Of training.
        megabytes: Memory at its peak.
        processor_seconds: Of the whole command; unlike time, not changed by other work.
    """

    scores: dict[str, float]
    seconds: float
    megabytes: float
    processor_seconds: float = math.nan


def run_command(words: Sequence[str], *, threads: int) -> dict[str, float]:
    """Run a command to its end; give its peak memory and the processor's time."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TRANSFORMERS_VERBOSITY": "error"}
    with subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        errors = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(words)}: {errors[-800:]}")
    processor_seconds = usage.ru_utime + usage.ru_stime
    return {"megabytes": usage.ru_maxrss / 1024, "processor_seconds": processor_seconds}


def headway(*words: str) -> list[str]:
    """Spell a command of ours."""
    return ["-m", "headway", *words]


def spell(flags: dict[str, str]) -> list[str]:
    """Spell flags out; several values of one have spaces between them."""
    return [word for key, value in flags.items() for word in (f"--{key}", *value.split())]


def score(model: Path, test: Path, out: Path) -> dict[str, float]:
    """Score a model, ours or theirs: one code for both."""
    command = [sys.executable, *headway("evaluate", str(model), "--data", str(test), "--json")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    out.write_text(done.stdout, encoding="utf-8")
    return json.loads(done.stdout)["scores"]


def train_ours(
    options: argparse.Namespace,
    out: Path,
    recipe: str,
    train: Path,
    test: Path,
    flags: dict[str, str],
) -> Outcome:
    """Train by the command line, all passes, and score the last model.

    No validation data is given: what is scored must not choose the model. The model is the
    published one unless flags name another, or an architecture to train from scratch.
    """
    kept = out / "outcome.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text()))
    if "model.architecture" not in flags:
        flags = {"model.path": str(options.model), **flags}
    flags = {"data.train": str(train), **flags}
    words = headway("train", recipe, "--out", str(out), *spell(flags))
    if (out / "recipe.toml").exists():
        words = headway("train", "--resume", str(out))
    used = run_command(words, threads=options.threads)
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    scores = score(out / "model", test, out / "scores.json")
    seconds = json.loads(lines[-1])["seconds"]
    return _keep(kept, Outcome(scores=scores, seconds=seconds, **used))


def train_theirs(
    options: argparse.Namespace, out: Path, recipe: str, train: Path, test: Path, seed: int
) -> Outcome:
    """Train with the Trainer of transformers, and score what it saved."""
    kept = out / "outcome.json"
    if kept.exists():
        return Outcome(**json.loads(kept.read_text()))
    script = Path(__file__).with_name("_trainer_run.py")
    flags = {"model": str(options.model), "train": str(train), "task": recipe}
    words = [str(script), *spell(flags), "--out", str(out), "--seed", str(seed)]
    used = run_command(words, threads=options.threads)
    seconds = json.loads((out / "run.json").read_text())["seconds"]
    scores = score(out / "model", test, out / "scores.json")
    return _keep(kept, Outcome(scores=scores, seconds=seconds, **used))


def _keep(path: Path, outcome: Outcome) -> Outcome:
    path.write_text(json.dumps(vars(outcome)), encoding="utf-8")
    return outcome


def compare_sets(options: argparse.Namespace) -> None:
    """Train every set with every seed on both sides, in turns."""
    rows = []
    for item in chosen_sets(options):
        train, test = files_of(options, item)
        ours, theirs = [], []
        for seed in range(min(item.num_seeds, options.seeds)):
            name = f"{item.name.replace(' ', '-')}-{seed}"
            flags = {"training.seed": str(seed), **item.flags}
            out = options.out / "ours" / name
            ours.append(train_ours(options, out, item.recipe, train, test, flags))
            say(f"{name}: ours {ours[-1]}")
            if options.alone:
                continue
            out = options.out / "theirs" / name
            theirs.append(train_theirs(options, out, item.recipe, train, test, seed))
            say(f"{name}: theirs {theirs[-1]}")
        rows.append((item, ours, theirs))
    print(describe_table(rows))


def describe_table(rows: Sequence[tuple[DataSet, list[Outcome], list[Outcome]]]) -> str:
    """Write a row for each set."""
    lines = [
        "| set | score | seeds | Headway | Trainer | processor minutes | faster | memory, MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for item, ours, theirs in rows:
        sides = [side for side in (ours, theirs) if side]
        values = [_spread([run.scores[item.score] for run in side]) for side in sides]
        minutes = [statistics.median(run.processor_seconds for run in side) / 60 for side in sides]
        memory = [max(run.megabytes for run in side) for side in sides]
        values += [""] * (2 - len(values))
        faster = f"{minutes[1] / minutes[0]:.1f} x" if len(minutes) > 1 else ""
        cells = (item.name, item.score, len(ours), *values, _join(minutes, "{:.1f}"), faster)
        lines.append("| " + " | ".join(map(str, (*cells, _join(memory, "{:,.0f}")))) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}"


def _join(values: Sequence[float], form: str) -> str:
    return " / ".join(form.format(value) for value in values)


def files_of(options: argparse.Namespace, item: DataSet) -> tuple[Path, Path]:
    """Give the rows to learn from and those that are scored."""
    return (
        training_file(options.data, options.out, item),
        test_file(options.data, options.out, item),
    )


def chosen_sets(options: argparse.Namespace) -> list[DataSet]:
    """Give the sets that were asked for."""
    return [find_set(name) for name in options.sets] if options.sets else list(SETS)


def measure_speed(options: argparse.Namespace) -> None:
    """Measure examples per second on SST-2 lengths."""
    tables = []
    files = Files(data=options.data / "sst2", work=options.out / "speed", model=options.model)
    files.work.mkdir(parents=True, exist_ok=True)

    def measure(worker: Worker, share: float = 1.0) -> float:
        return worker.ask("measure", seconds=options.seconds * share, warm_up_steps=3).speed

    def side(size: str, sampling: str) -> Side:
        settings = {"precision": "bf16", "attention": "sdpa", "sampling": sampling}
        return Side(
            name=f"transformers Trainer, bf16, {sampling}",
            kind="HuggingFaceClassifying",
            module="_finetuning",
            options={"size": size, **settings},
        )

    for size in options.sizes:
        ours = Side(
            name="Headway",
            kind="HeadwayClassifyingTraining",
            module="_finetuning",
            options={"size": size},
            polite=True,
        )
        choices = [Choice(ours, {})]
        for sampling in ("random", "group_by_length"):
            say(f"{size}: the Trainer's best settings, {sampling}")
            best = choose(side(size, sampling), _CHANGES, lambda w: measure(w, 0.4), files)
            choices += [best]
        # What its users do not have: threads that spin shortly, freed memory kept.
        name = f"{best.side.name}, and our process"
        choices += [Choice(dataclasses.replace(best.side, name=name, polite=True), {})]
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(choice.side, files)) for choice in choices]
            speeds = take_turns(workers, options.repeats, measure)
        title = f"Fine-tuning a classifier, {size}, lengths of SST-2, updates of 32 rows"
        tables.append(Table(title=title, choices=choices, speeds=speeds))
        print(tables[-1].to_markdown(), flush=True)
    print(to_markdown("Fine-tuning", describe_run(), tables))


def measure_freezing(options: argparse.Namespace) -> None:
    """Train with frozen layers computed once and computed every time, in turns."""
    item = find_set("SST-2")
    train, test = files_of(options, item)
    lower = "embeddings encoder.layers.0 encoder.layers.1 encoder.layers.2"
    schedules = {
        "frozen body, 10 passes": {
            "playbook.freeze": "embeddings encoder",
            "training.epochs": "10",
        },
        "gradual to the upper half, 2 passes a phase": {
            "playbook.freeze": lower,
            "playbook.unfreeze-epochs": "2",
            "training.epochs": "8",
        },
        "gradual to the bottom, 1 pass a phase": {
            "playbook.unfreeze-epochs": "1",
            "training.epochs": "8",
        },
    }
    print("| schedule | seconds, kept / computed again | faster | accuracy |\n|---|---:|---:|---:|")
    for name, flags in schedules.items():
        found: dict[str, list[Outcome]] = {"2048": [], "0": []}
        for repeat in range(options.repeats):
            for megabytes in found if repeat % 2 == 0 else reversed(found):
                folder = f"{name.replace(',', '').replace(' ', '-')}-{megabytes}-{repeat}"
                more = {**flags, "playbook.cache-megabytes": megabytes, "training.peak-lr": "5e-4"}
                more["data.max-rows"] = str(options.rows)
                out = options.out / "freezing" / folder
                found[megabytes].append(train_ours(options, out, "classify", train, test, more))
                say(f"{folder}: {found[megabytes][-1]}")
        ratios = [b.seconds / a.seconds for a, b in zip(*found.values(), strict=True)]
        seconds = [statistics.median(run.seconds for run in runs) for runs in found.values()]
        right = [_spread([run.scores["accuracy"] for run in runs]) for runs in found.values()]
        print(
            f"| {name} | {seconds[0]:.0f} / {seconds[1]:.0f} | {statistics.median(ratios):.2f} x "
            f"({min(ratios):.2f}-{max(ratios):.2f}) | {right[0]} / {right[1]} |",
            flush=True,
        )


def few_rows(rows: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Draw so many rows of each class."""
    classes: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        classes.setdefault(str(row["label"]), []).append(row)
    drawer = random.Random(seed)
    drawn = []
    for name in sorted(classes):
        drawn += drawer.sample(classes[name], min(count, len(classes[name])))
    return drawn


def few_file(options: argparse.Namespace, item: DataSet, count: int, seed: int) -> Path:
    """Write so many rows of each class, drawn by a seed."""
    path = options.out / "few" / f"{item.name}-{count}-{seed}.jsonl.gz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = few_rows(read_rows(options.data, item.train, item), count, seed)
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def compare_few(options: argparse.Namespace) -> None:
    """Learn from a few rows of each class, the playbook switched on part by part."""
    print("| set | rows a class | way | score, mean +- deviation | seconds |")
    print("|---|---:|---|---:|---:|")
    for item in map(find_set, options.sets or _FEW_SETS):
        _, test = files_of(options, item)
        for count in _FEW_COUNTS:
            for way in options.ways or _FEW_WAYS:
                runs = []
                for seed in range(options.seeds):
                    train = few_file(options, item, count, seed)
                    slug = f"{item.name}-{count}-{way}-{seed}".replace(",", "").replace(" ", "-")
                    flags = {"training.seed": str(seed), **_FEW_WAYS[way]}
                    recipe = "classify" if way.startswith("plain") else "classify-few"
                    out = options.out / "few" / slug
                    runs.append(train_ours(options, out, recipe, train, test, flags))
                values = _spread([run.scores[item.score] for run in runs])
                seconds = statistics.median(run.seconds for run in runs)
                print(f"| {item.name} | {count} | {way} | {values} | {seconds:.0f} |", flush=True)


def check_finder(options: argparse.Namespace) -> None:
    """Set the finder's suggestion beside a sweep of rates."""
    heads = " | ".join(f"{rate:.0e}" for rate in _SWEEP_RATES)
    print(f"| set | score | {heads} | falls fastest | before it rises | suggestion |")
    print("|---|---|" + "---:|" * (len(_SWEEP_RATES) + 3))
    for name in options.sets or _SWEEP_SETS:
        item = find_set(name)
        train, test = files_of(options, item)
        values = []
        for rate in _SWEEP_RATES:
            out = options.out / "sweep" / f"{name}-{rate:.0e}"
            flags = {"training.peak-lr": str(rate), "data.max-rows": str(options.rows)}
            run = train_ours(options, out, item.recipe, train, test, flags)
            values.append(f"{run.scores[item.score]:.2f}")
            say(f"{name} {rate}: {run}")
        flags = {"model.path": str(options.model), "data.train": str(train)}
        flags["data.max-rows"] = str(options.rows)
        words = [sys.executable, *headway("find-lr", item.recipe, "--json", *spell(flags))]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        marks = [f"{found[key]:.1e}" for key in ("steepest", "before_rise", "suggestion")]
        print(f"| {name} | {item.score} | {' | '.join([*values, *marks])} |", flush=True)


def _untrained(folder: Path, out: Path) -> Path:
    """Write the network of a model folder with fresh weights."""
    if not out.exists():
        import torch

        import headway as library

        model = library.load(folder)
        torch.manual_seed(0)
        model.body.init_weights()
        model.body.tie_weights()
        model.save(out)
    return out


def compare_pretrained(options: argparse.Namespace) -> None:
    """Fine-tune the encoders of `encoders.py`, and the same networks untrained."""
    counts = {"SST-2": (500, 2000, SAMPLE_ROWS), "MRPC": (500, 3668), "RTE": (500, 2490)}
    heads = [f"{name}, {count:,}" for name, some in counts.items() for count in some]
    print(f"| model | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}", flush=True)
    for name in options.names or _PRETRAINED:
        folder = options.minis / name.replace(",", "").replace(" ", "-") / "model"
        if not folder.is_dir():
            say(f"{name} is not trained")
            continue
        models = {name: folder}
        if name in _PRETRAINED[:3] or name == _PRETRAINED[3]:
            slug = name.replace(" ", "-")
            models[f"{name}, untrained"] = _untrained(folder, options.out / "untrained" / slug)
        for title, model in models.items():
            cells = []
            for each, some in counts.items():
                item = find_set(each)
                train, test = files_of(options, item)
                for count in some:
                    slug = f"{title}-{each}-{count}".replace(",", "").replace(" ", "-")
                    flags = {"model.path": str(model), "data.max-rows": str(count)}
                    # Small networks want higher rates (Turc et al. 2019, section 4).
                    flags["training.peak-lr"] = "3e-4"
                    out = options.out / "pretrained" / slug
                    run = train_ours(options, out, item.recipe, train, test, flags)
                    cells.append(f"{run.scores['accuracy']:.1f}")
            print(f"| {title} | {' | '.join(cells)} |", flush=True)


def compare_domains(options: argparse.Namespace) -> None:
    """Fine-tune a BERT on financial news, before and after it read such news."""
    item = find_set("PhraseBank")
    train, test = files_of(options, item)
    print("| model | rows | macro F1 |\n|---|---:|---:|")
    for name in ("BERT", "BERT on financial_phrasebank", "BERT on scitldr"):
        model = options.minis / name.replace(" ", "-") / "model"
        if not model.is_dir():
            say(f"{name} is not trained")
            continue
        for count in (200, 1000, 3479):
            values = []
            for seed in range(min(3, options.seeds)):
                out = options.out / "domains" / f"{name.replace(' ', '-')}-{count}-{seed}"
                flags = {"model.path": str(model), "data.max-rows": str(count)}
                flags |= {"training.seed": str(seed), "training.peak-lr": "3e-4"}
                run = train_ours(options, out, item.recipe, train, test, flags)
                values.append(run.scores["macro_f1"])
            print(f"| {name} | {count:,} | {_spread(values)} |", flush=True)


def compare_recurrent(options: argparse.Namespace) -> None:
    """Train a bidirectional LSTM from scratch, by how its states become one vector."""
    item = dataclasses.replace(find_set("SST-2"), name="SST-2 whole", sample=False)
    train, test = files_of(options, item)
    print("| pooling | accuracy | minutes |\n|---|---:|---:|")
    for pooling in ("published", "mean", "attention", "attention-fixed"):
        flags = {"model.architecture": "lstm", "task.pooling": pooling, **_LSTM}
        out = options.out / "lstm" / pooling
        run = train_ours(options, out, item.recipe, train, test, flags)
        print(f"| {pooling} | {run.scores['accuracy']:.2f} | {run.seconds / 60:.1f} |", flush=True)


def compare_layers(options: argparse.Namespace) -> None:
    """Tag on frozen features of different layers."""
    from _features import compare_layers as compare

    item = find_set("CoNLL-2003")
    rows = read_rows(options.data, item.train, item)[:SAMPLE_ROWS]
    print("| features | entity F1 |\n|---|---:|")
    compare(options.model, rows, read_rows(options.data, item.test, item))


_PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "table": compare_sets,
    "speed": measure_speed,
    "freezing": measure_freezing,
    "few": compare_few,
    "find-lr": check_finder,
    "pretrained": compare_pretrained,
    "domains": compare_domains,
    "recurrent": compare_recurrent,
    "layers": compare_layers,
}


def main() -> None:
    """Measure a part and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--model", type=Path, required=True, help="the 6 x 384 checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs; they are kept")
    parser.add_argument("--part", choices=tuple(_PARTS), required=True)
    parser.add_argument("--sets", nargs="*", default=[], help="only these")
    parser.add_argument("--ways", nargs="*", default=[], help="few: only these")
    parser.add_argument("--names", nargs="*", default=[], help="pretrained: only these models")
    parser.add_argument("--minis", type=Path, help="the folder that encoders.py trained in")
    parser.add_argument("--seeds", type=int, default=math.inf, help="at most so many")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--rows", type=int, default=SAMPLE_ROWS, help="freezing, find-lr: used")
    parser.add_argument("--seconds", type=float, default=12, help="speed: of training in a round")
    parser.add_argument(
        "--sizes", nargs="*", default=["6 x 384", "12 x 768"], help="speed: of BERT"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each training")
    parser.add_argument("--alone", action="store_true", help="table: only our side")
    options = parser.parse_args()
    if options.part == "few" and options.seeds == math.inf:
        options.seeds = 5
    options.data, options.model = options.data.resolve(), options.model.resolve()
    started = time.time()
    _PARTS[options.part](options)
    say(f"{(time.time() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
