"""Training and decoding speed beside transformers and CTranslate2, alternating in one run.

    python benchmarks/translation.py --data DIR [--model RUN/model] [--json OUT]

See README.md for what is measured and how.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _tables import Table, describe_run, say, take_turns, to_markdown
from _worker import Choice, Files, Side, Worker, choose

_DECODING_BATCH_ROWS = (32, 1)
# Rows of a pass at batch 1, which the slowest side needs many seconds for.
_SINGLE_ROWS = 100
_WARM_UP_STEPS = 3
# A look at each setting of a peer need not be as long as a measurement.
_TRIAL_SHARE = 0.3

POLITE = {"polite": True}
# Not among them: our process settings, which are none of theirs; a row of its own has them.
TRAINING_CHANGES = (
    {"options": {"attention": "eager"}},
    {"options": {"micro_batches": 2}},
    {"options": {"micro_batches": 4}},
)
GENERATE_CHANGES = (
    {"options": {"early_stopping": True}},
    {"options": {"attention": "eager"}},
    POLITE,
)
ONE_THREAD = {"environment": {"OMP_NUM_THREADS": "1"}}
TWO_AT_ONCE = {"options": {"inter_threads": 2, "intra_threads": 1}}
ONE_BY_ONE = {"options": {"inter_threads": 1, "intra_threads": 1}}


def compare_training(options: argparse.Namespace, files: Files) -> Table:
    """Measure our loop and their Trainer, and whether their losses agree."""

    def measure(worker: Worker, share: float = 1.0) -> float:
        seconds = options.seconds * share
        return worker.ask("measure", seconds=seconds, warm_up_steps=_WARM_UP_STEPS).speed

    choices = [Choice(Side(name="Headway", kind="HeadwayTraining", polite=True), {})]
    for sampling in ("random", "group_by_length"):
        settings = {"attention": "sdpa", "micro_batches": 1, "sampling": sampling}
        name = f"transformers Trainer, {sampling}"
        side = Side(name=name, kind="HuggingFaceTraining", options=settings)
        say(f"settings for {name}")
        choices.append(
            choose(side, TRAINING_CHANGES, lambda worker: measure(worker, _TRIAL_SHARE), files)
        )
    best = choices[-1].side
    ours_too = dataclasses.replace(best, name=f"{best.name}, and our process", polite=True)
    choices.append(Choice(ours_too, {}))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(choice.side, files)) for choice in choices]
        speeds = take_turns(workers, options.repeats, measure)
    table = Table(
        title="Training, bf16: 3 + 3 layers x 256, dropout 0.1", choices=choices, speeds=speeds
    )
    if options.loss_tokens:
        marks = [options.loss_tokens * part // 4 for part in (1, 2, 4)]
        words = " / ".join(f"{mark:,}" for mark in marks)
        table.text = (
            "Loss: nats per token on the validation set, without dropout or smoothing, after "
            f"{words} real tokens from the same weights."
        )
        for choice in choices:
            say(f"loss of {choice.side.name}")
            with Worker(choice.side, files) as worker:
                losses = worker.ask("learn", marks=marks)
            table.notes[choice.side.name] = "loss " + " / ".join(f"{x:.3f}" for x in losses)
    return table


def _decoding_sides(batch_rows: int) -> list[tuple[Side, Sequence[Mapping[str, Any]]]]:
    """List each side as it comes, with the changes to try; ours is taken as it comes."""
    sides: list[tuple[Side, Sequence[Mapping[str, Any]]]] = []
    for precision in ("auto", "fp32"):
        side = Side(
            name=f"Headway {precision}",
            kind="HeadwayDecoding",
            options={"precision": precision},
            polite=True,
        )
        sides.append((side, ()))
    for precision in ("bf16", "fp32"):
        settings = {"precision": precision, "attention": "sdpa", "early_stopping": False}
        name = f"transformers generate {precision}"
        side = Side(name=name, kind="HuggingFaceDecoding", options=settings)
        sides.append((side, GENERATE_CHANGES + ((ONE_THREAD,) if batch_rows == 1 else ())))
    for compute_type in ("int8", "float32"):
        settings = {"compute_type": compute_type, "inter_threads": 1, "intra_threads": 2}
        name = f"CTranslate2 {compute_type}"
        side = Side(name=name, kind="CTranslate2Decoding", options=settings)
        if compute_type == "int8":
            # The search below may find better settings than these, which its users start with.
            sides.append((dataclasses.replace(side, name=f"{name}, as it comes"), ()))
        layout = ONE_BY_ONE if batch_rows == 1 else TWO_AT_ONCE
        sides.append((side, (layout, POLITE)))
    return sides


def compare_decoding(options: argparse.Namespace, files: Files, batch_rows: int) -> Table:
    """Measure all ways to decode, and the BLEU of each."""
    rows = options.rows if batch_rows > 1 else min(_SINGLE_ROWS, options.rows)

    def measure(worker: Worker, share: float = 1.0) -> float:
        few, seconds = max(1, round(rows * share)), options.seconds * share / 4
        return worker.ask("measure", rows=few, batch_rows=batch_rows, seconds=seconds).speed

    choices = []
    for side, changes in _decoding_sides(batch_rows):
        if changes:
            say(f"settings for {side.name}, batch {batch_rows}")
            found = choose(side, changes, lambda worker: measure(worker, _TRIAL_SHARE), files)
            choices.append(found)
        else:
            choices.append(Choice(side, {}))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(choice.side, files)) for choice in choices]
        speeds = take_turns(workers, options.repeats, measure)
        answers = {w.side.name: w.ask("answers", rows=rows, batch_rows=batch_rows) for w in workers}
    return Table(
        title=f"Decoding, beam 5, batch {batch_rows}",
        choices=choices,
        speeds=speeds,
        notes=_score_answers(options.data, answers),
        text=f"The first {rows} rows of test_2016_flickr, German to English.",
    )


def _score_answers(data: Path, answers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Say the BLEU of each side, and how often it says the same as our single precision."""
    from _data import read_pairs
    from headway.metrics.generated import bleu_statistics

    exact = answers["Headway fp32"]
    references = [[row["target"]] for row in read_pairs(data, "test_2016_flickr")[: len(exact)]]
    notes = {}
    for name, found in answers.items():
        same = sum(a == b for a, b in zip(found, exact, strict=True)) / len(exact)
        bleu = bleu_statistics(found, references).value()
        notes[name] = f"BLEU {bleu:.2f}, {same:.1%} as Headway fp32"
    return notes


def make_model(options: argparse.Namespace, files: Files) -> None:
    """Train for a minute: answers long enough to measure, BLEU low."""
    say("training a model to decode with")
    side = Side(name="Headway", kind="HeadwayTraining", polite=True)
    with Worker(side, files) as worker:
        worker.ask("measure", seconds=options.model_seconds, warm_up_steps=0)
        worker.ask("save")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with Multi30k files")
    parser.add_argument("--model", type=Path, help="trained model folder to decode with")
    parser.add_argument("--part", choices=("train", "decode", "all"), default="all")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument(
        "--seconds", type=float, default=20, help="of training in a round; a quarter in decoding"
    )
    parser.add_argument("--rows", type=int, default=300, help="test rows decoded at batch 32")
    parser.add_argument(
        "--loss-tokens", type=int, default=800_000, help="of the comparison of losses; 0 is none"
    )
    parser.add_argument(
        "--model-seconds", type=float, default=60, help="of training, where no --model is given"
    )
    parser.add_argument("--json", type=Path, help="file for everything measured")
    return parser.parse_args()


def main() -> None:
    """Run the parts asked for and print the tables."""
    options = parse_options()
    run = describe_run()
    if run["load"] > 0.5:
        say(f"the load of this machine is {run['load']}: these numbers will be noisy")
    tables = []
    with tempfile.TemporaryDirectory() as work:
        model = options.model or Path(work) / "model"
        files = Files(data=options.data.resolve(), work=Path(work), model=model.resolve())
        if options.part in ("train", "all"):
            tables.append(compare_training(options, files))
            print(tables[-1].to_markdown(), flush=True)
        if options.part in ("decode", "all"):
            if options.model is None:
                make_model(options, files)
            for batch_rows in _DECODING_BATCH_ROWS:
                tables.append(compare_decoding(options, files, batch_rows))
                print(tables[-1].to_markdown(), flush=True)
    print("\nFor benchmarks/RESULTS.md:\n\n" + to_markdown("Translation", run, tables))
    if options.json:
        content = run | {"tables": [table.to_json() for table in tables]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
