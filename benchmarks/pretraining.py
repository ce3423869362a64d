"""Speed of masked language modeling beside transformers' Trainer, alternating in one run.

    python benchmarks/pretraining.py --data DIR [--json OUT]

See README.md for what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _curves import compare_curves, compare_updates
from _tables import Table, describe_run, say, take_turns, to_markdown
from _worker import Choice, Files, Side, Worker, choose

_WARM_UP_STEPS = 3
_TRIAL_SHARE = 0.4

# Size of the BERT, entries of the vocabulary, lines in an update.
SIZES: dict[str, dict[str, Any]] = {
    "4 x 256, 8,000 words, 32 lines": {"preset": "mini", "vocab_size": 8000, "rows": 32},
    "12 x 768, 30,522 words, 8 lines": {"preset": "base", "vocab_size": 30522, "rows": 8},
}
_CHANGES = (
    {"options": {"attention": "eager"}},
    {"options": {"sampling": "group_by_length"}},
    {"polite": True},
)


def compare(name: str, sizes: dict[str, Any], options: argparse.Namespace, files: Files) -> Table:
    """Measure our loop and their Trainer, as it comes, in bf16, and at its best settings."""

    def measure(worker: Worker, share: float = 1.0) -> float:
        seconds = options.seconds * share
        return worker.ask("measure", seconds=seconds, warm_up_steps=_WARM_UP_STEPS).speed

    ours = Side(
        name="Headway",
        kind="HeadwayMaskedTraining",
        module="_masked",
        options=sizes,
        polite=True,
    )
    choices = [Choice(ours, {})]
    for precision in ("fp32", "bf16"):
        settings = {**sizes, "precision": precision, "attention": "sdpa", "sampling": "random"}
        side = Side(
            name=f"transformers Trainer, {precision}",
            kind="HuggingFaceMaskedTraining",
            module="_masked",
            options=settings,
        )
        choices.append(Choice(side, {}))
    if options.best:
        say("the Trainer's best settings")
        best = choose(
            Side(
                name="transformers Trainer, bf16, best settings",
                kind="HuggingFaceMaskedTraining",
                module="_masked",
                options=choices[-1].side.options,
            ),
            _CHANGES,
            lambda worker: measure(worker, _TRIAL_SHARE),
            files,
        )
        choices.append(best)
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(choice.side, files)) for choice in choices]
        speeds = take_turns(workers, options.repeats, measure)
    return Table(title=f"Masked language modeling, {name}", choices=choices, speeds=speeds)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with WikiText-2")
    parser.add_argument("--size", choices=("mini", "base", "both"), default="both")
    parser.add_argument("--repeats", type=int, default=5, help="rounds; 0: no speed")
    parser.add_argument("--seconds", type=float, default=20, help="of training in a round")
    parser.add_argument("--best", action="store_true", help="search the Trainer's best settings")
    parser.add_argument("--max-tokens", type=int, default=128, help="where lines are cut")
    parser.add_argument(
        "--curve-steps", type=int, default=100, help="updates of the compared curves; 0 is none"
    )
    parser.add_argument(
        "--curves", nargs="+", default=["fp32", "bf16"], help="precisions of both sides' curves"
    )
    parser.add_argument(
        "--curve-seeds", nargs="+", type=int, default=[0], help="of weights, order and masks"
    )
    parser.add_argument(
        "--curve-sides",
        nargs="+",
        choices=("ours", "nudged", "theirs"),
        default=["ours", "theirs"],
        help="nudged: ours with one of the first weights changed by 1e-7",
    )
    parser.add_argument("--keep", type=Path, help="folder for curves; those there are not redone")
    parser.add_argument("--curve-rate", type=float, default=1e-4, help="their learning rate")
    parser.add_argument("--curve-warm-up", type=int, default=0, help="updates in which it rises")
    parser.add_argument(
        "--same-update",
        nargs="+",
        type=int,
        default=[],
        help="updates of our curve after which both sides take the next one",
    )
    parser.add_argument("--threads", type=int, help="of curves; all cores if not given")
    parser.add_argument("--json", type=Path, help="file for everything measured")
    return parser.parse_args()


def main() -> None:
    """Measure both sizes and print the tables."""
    options = parse_options()
    run = describe_run()
    if run["load"] > 0.5:
        say(f"the load of this machine is {run['load']}: these numbers will be noisy")
    tables: list[Any] = []
    with tempfile.TemporaryDirectory() as work:
        files = Files(data=options.data.resolve(), work=Path(work), model=Path(work) / "none")
        for name, sizes in SIZES.items():
            if options.size in (sizes["preset"], "both"):
                sizes["max_tokens"] = options.max_tokens
                title = f"{name}, cut at {options.max_tokens} tokens"
                parts = (
                    (compare, options.repeats),
                    (compare_updates, options.same_update),
                    (compare_curves, options.curve_steps),
                )
                for part in (part for part, is_wanted in parts if is_wanted):
                    tables.append(part(title, sizes, options, files))
                    print(tables[-1].to_markdown(), flush=True)
    print("\nFor benchmarks/RESULTS.md:\n\n" + to_markdown("Pretraining", run, tables))
    if options.json:
        content = run | {"tables": [table.to_json() for table in tables]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
