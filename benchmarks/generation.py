"""Tokens per second of GPT-2's small size, beside transformers and CTranslate2.

    python benchmarks/generation.py --out WORK [--repeats 5] [--model FOLDER --text FILE]

All sides hold the same random weights and go on greedily from the same prompts of 16 tokens, for
128 tokens; each has a process of its own, and they take turns. `--model` and `--text` add the
perplexity of a trained model in each precision.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from _generators import VOCABULARY, make_model
from _tables import describe_run, say
from _worker import Files, Side, Worker
from headway.data.lines import read_lines
from headway.layers.side import Side as Text
from headway.tasks._load import load

_PROMPT, _BATCHES = 16, (1, 8)
_CHARACTERS = 200_000


def _sides() -> list[Side]:
    module, threads = "_generators", os.cpu_count() or 1
    ours = [
        Side(
            name=f"Headway {precision}",
            kind="Headway",
            module=module,
            options={"precision": precision},
            polite=True,
        )
        for precision in ("int8", "bf16", "fp32")
    ]
    generate = [
        Side(name=f"generate {d}", kind="Transformers", module=module, options={"dtype": d})
        for d in ("fp32", "bf16")
    ]
    theirs = [
        Side(
            name=f"CTranslate2 {dtype}, {count} threads",
            kind="CTranslate2",
            module=module,
            options={"dtype": dtype, "threads": count},
        )
        for dtype in ("float32", "int8")
        for count in sorted({1, threads})
    ]
    return [*ours, *generate, *theirs]


def measure(files: Files, repeats: int) -> dict[str, dict[int, list[float]]]:
    """Let the sides take turns; give tokens per second of each round, side -> batch -> speeds."""
    sides = _sides()
    found: dict[str, dict[int, list[float]]] = {s.name: {b: [] for b in _BATCHES} for s in sides}
    random = torch.Generator().manual_seed(1)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(side, files)) for side in sides]
        for batch in _BATCHES:
            prompts = torch.randint(2, VOCABULARY, (batch, _PROMPT), generator=random).tolist()
            for round_ in range(repeats + 1):
                for worker in workers:
                    started = time.perf_counter()
                    count = worker.ask("write", prompts=prompts)
                    speed = count / (time.perf_counter() - started)
                    # The first round warms up.
                    if round_:
                        found[worker.side.name][batch].append(speed)
                    say(f"batch {batch}, round {round_}: {worker.side.name}: {speed:.1f} tokens/s")
    return found


def perplexities(folder: Path, text: Path) -> dict[str, float]:
    """Score the beginning of a text in each precision, in windows as long as the model reads."""
    model = load(folder)
    content = "".join(read_lines(text, keeps_ends=True))[:_CHARACTERS]
    ids = model.tokenizer.encode_ids([content], bare=True)[0]
    longest, found = model.setting.max_tokens, {}
    for precision in ("fp32", "bf16", "int8"):
        body = model.to_precision(precision).body
        total = count = 0.0
        with torch.inference_mode():
            for start in range(0, len(ids) - longest, longest):
                window = ids[start : start + longest + 1]
                hidden = body.encode(Text.padded([window[:-1]])).hidden
                log_probs = body.logits(hidden)[0].float().log_softmax(-1)
                total -= float(log_probs.gather(1, torch.tensor(window[1:])[:, None]).sum())
                count += longest
        found[precision] = math.exp(total / count)
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--repeats", type=int, default=5, help="rounds after the first")
    parser.add_argument("--model", type=Path, help="a trained model, for perplexity")
    parser.add_argument("--text", type=Path, help="text to score it on")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    scores = perplexities(options.model, options.text) if options.model else {}
    files = Files(data=out, work=out, model=out / "gpt2-small")
    if not files.model.is_dir():
        make_model().save(files.model)
    found = measure(files, options.repeats)
    print(describe_run())
    print("| side | batch 1, tokens/s, median (range) | batch 8, tokens/s, median (range) |")
    print("|---|---:|---:|")
    for name, speeds in found.items():
        cells = (f"{statistics.median(v):.1f} ({min(v):.1f}-{max(v):.1f})" for v in speeds.values())
        print(f"| {name} | {' | '.join(cells)} |")
    for precision, value in scores.items():
        print(f"\nperplexity, {precision}: {value:.3f}")
    result = {"tokens_per_second": found, "perplexity": scores}
    (out / "generation.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
