"""GPTs beside nanoGPT and transformers' Trainer: loss in a given time, and tokens per second.

    python benchmarks/language_modeling.py --data PACK --nanogpt FOLDER --out WORK [--repeats 3]

FOLDER is a checkout of karpathy/nanoGPT. `--part characters`: its own configuration for a CPU; both
sides train in turns, each as its users start it, and are scored on the whole validation text, in
windows of 64 characters. `--part speed`: training at GPT-2's small size and at 6 x 384.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from _tables import Table, describe_run, say, take_turns
from _worker import Choice, Files, Side, Worker

_WINDOW = 64
# What is trained for speed; dropout is the same on all sides, and none of attention weights.
_SHAPES = {
    "GPT-2 small, 4 rows of 256 tokens": {
        "width": 768,
        "layers": 12,
        "heads": 12,
        "vocab_size": 50257,
        "tokens": 256,
        "rows": 4,
        "dropout": 0.0,
    },
    "6 x 384, 16 rows of 256 characters": {
        "width": 384,
        "layers": 6,
        "heads": 6,
        "vocab_size": 65,
        "tokens": 256,
        "rows": 16,
        "dropout": 0.2,
    },
}
# The command of its README for a CPU.
_NANO = (
    *("config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20"),
    *("--log_interval=100", "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4"),
    *("--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
)


def run(words: list[str], folder: Path | None = None) -> float:
    """Run a command to its end; give its seconds."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr[-800:]}")
    return time.perf_counter() - started


def prepare(nanogpt: Path, pack: Path) -> None:
    """Write the data set as nanoGPT's own script does."""
    folder = nanogpt / "data" / "shakespeare_char"
    text = (pack / "train.txt").read_text()
    rest = (pack / "valid.txt").read_text()
    letters = sorted({*text, *rest})
    places = {letter: place for place, letter in enumerate(letters)}
    for name, content in (("train", text), ("val", rest)):
        np.array([places[letter] for letter in content], np.uint16).tofile(folder / f"{name}.bin")
    names = {"vocab_size": len(letters), "stoi": places, "itos": dict(enumerate(letters))}
    (folder / "meta.pkl").write_bytes(pickle.dumps(names))


def score_theirs(nanogpt: Path, out: Path) -> float:
    """Give the mean loss of nanoGPT's best model over the validation text."""
    sys.path.insert(0, str(nanogpt))
    from model import GPT, GPTConfig  # pyright: ignore[reportMissingImports]

    kept = torch.load(out / "ckpt.pt", weights_only=True)
    model = GPT(GPTConfig(**kept["model_args"])).eval()
    model.load_state_dict(kept["model"])
    ids = np.fromfile(nanogpt / "data" / "shakespeare_char" / "val.bin", np.uint16)
    total = count = 0.0
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, _WINDOW):
            window = torch.from_numpy(ids[start : start + _WINDOW + 1].astype(np.int64))[None]
            loss = model(window[:, :-1], window[:, 1:])[1]
            total, count = total + float(loss) * (window.shape[1] - 1), count + window.shape[1] - 1
    return total / count


def score_ours(model: Path, text: Path) -> float:
    """Give ours, by `headway evaluate`."""
    words = ["-m", "headway", "evaluate", str(model), "--data", str(text), "--json"]
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return math.log(json.loads(done.stdout)["scores"]["perplexity"])


def compare_speed(nanogpt: Path, out: Path, *, repeats: int, seconds: float) -> None:
    """Train on random tokens in turns, and print tokens per second and peak memory."""
    files = Files(data=out, work=out, model=out)
    tables, peaks = [], {}
    for title, sizes in _SHAPES.items():
        sides = [
            Side(name="Headway", kind="HeadwayCausalTraining", options=sizes, polite=True),
            *(
                Side(
                    name=f"transformers Trainer, {precision}",
                    kind="HuggingFaceCausalTraining",
                    options={**sizes, "precision": precision},
                )
                for precision in ("fp32", "bf16")
            ),
            Side(
                name="plain loop, bf16",
                kind="PlainCausalTraining",
                options={**sizes, "nanogpt": str(nanogpt)},
            ),
        ]
        sides = [replace(side, module="_causal") for side in sides]

        def measure(worker: Worker) -> float:
            return worker.ask("measure", seconds=seconds, warm_up_steps=1).speed

        with ExitStack() as stack:
            workers = [stack.enter_context(Worker(side, files)) for side in sides]
            speeds = take_turns(workers, repeats, measure)
            peaks = {w.side.name: f"peak {w.ask('peak'):,.0f} MB" for w in workers}
        choices = [Choice(side, {}) for side in sides]
        tables.append(Table(title=title, choices=choices, speeds=speeds, notes=peaks))
    print(describe_run())
    for table in tables:
        print(table.to_markdown())


def main() -> None:
    """Train both in turns and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the data pack")
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of it")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, each with its own seed")
    parser.add_argument("--steps", type=int, nargs="*", default=[2000], help="ours; several: each")
    parser.add_argument("--part", choices=("characters", "speed"), default="characters")
    parser.add_argument("--seconds", type=float, default=15, help="of each turn, for speed")
    options = parser.parse_args()
    pack, out = (options.data / "tinyshakespeare").resolve(), options.out.resolve()
    nanogpt = options.nanogpt.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if options.part == "speed":
        compare_speed(nanogpt, out, repeats=options.repeats, seconds=options.seconds)
        return
    prepare(nanogpt, pack)
    found: dict[str, list[tuple[float, float]]] = {}
    for round_ in range(options.repeats):
        place = out / f"nanogpt-{round_}"
        seconds = run(["train.py", *_NANO, f"--out_dir={place}"], nanogpt)
        found.setdefault("nanoGPT, 2,000 steps", []).append((score_theirs(nanogpt, place), seconds))
        for steps in options.steps:
            place = out / f"headway-{steps}-{round_}"
            flags = {"data.train": pack / "train.txt", "data.valid": pack / "valid.txt"}
            flags |= {"training.steps": steps, "training.seed": round_}
            words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
            seconds = run(["-m", "headway", "train", "gpt-characters", "--out", str(place), *words])
            loss = score_ours(place / "model", pack / "valid.txt")
            found.setdefault(f"Headway, {steps:,} steps", []).append((loss, seconds))
        say(f"round {round_}: { ({name: runs[-1] for name, runs in found.items()}) }")
    print(describe_run())
    print("| side | loss on all of valid, nats a character | seconds, whole command |")
    print("|---|---|---:|")
    for name, runs in found.items():
        losses = ", ".join(f"{loss:.3f}" for loss, _ in runs)
        print(f"| {name} | {losses} | {statistics.median(s for _, s in runs):.0f} |")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
