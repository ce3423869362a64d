"""Tables of sides that ran in turn, and what is said of the run that made them."""

from __future__ import annotations

import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from _worker import Choice, Worker


@dataclass(kw_only=True)
class Table:
    """The speeds of some sides that ran in turn."""

    title: str
    choices: list[Choice]
    speeds: dict[str, list[float]]
    """Side -> tokens per second of each round."""
    notes: dict[str, str] = field(default_factory=dict)
    """Side -> what else is known of it, such as BLEU."""
    text: str = ""

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """Divide the speeds of two sides, round by round."""
        pairs = zip(self.speeds[ours], self.speeds[theirs], strict=True)
        return [round(mine / other, 3) if other else 0.0 for mine, other in pairs]

    def to_markdown(self) -> str:
        """Write a row for each side; the first is ours, beside which the others are set."""
        ours = self.choices[0].side.name
        lines = [
            f"### {self.title}",
            "",
            "| side | settings | tokens/s, median (range) | ours / this, median (range) | |",
            "|---|---|---:|---:|---|",
        ]
        for choice in self.choices:
            name = choice.side.name
            ratio = "1" if name == ours else _spread(self.ratios(ours, name), "{:.2f}")
            cells = (name, choice.side.described(), _spread(self.speeds[name], "{:,.0f}"), ratio)
            lines.append(f"| {' | '.join(cells)} | {self.notes.get(name, '')} |")
        return "\n".join([*lines, "", self.text]).rstrip() + "\n"

    def to_json(self) -> dict[str, Any]:
        """Give everything that was measured."""
        ours = self.choices[0].side.name
        sides = [
            asdict(choice.side)
            | {
                "tried": choice.tried,
                "tokens_per_second": self.speeds[choice.side.name],
                "ours_to_this": self.ratios(ours, choice.side.name),
                "note": self.notes.get(choice.side.name, ""),
            }
            for choice in self.choices
        ]
        return {"title": self.title, "sides": sides, "text": self.text}


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{middle} ({low}-{high})"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def take_turns(
    workers: Sequence[Worker], repeats: int, measure: Callable[[Worker], float]
) -> dict[str, list[float]]:
    """Measure all sides once in each round, every other round in the opposite order."""
    speeds: dict[str, list[float]] = {worker.side.name: [] for worker in workers}
    for repeat in range(repeats):
        for worker in workers if repeat % 2 == 0 else reversed(workers):
            # The threads of the side before this one fall asleep.
            time.sleep(0.3)
            speed = round(measure(worker), 1)
            speeds[worker.side.name].append(speed)
            say(f"  round {repeat + 1}: {worker.side.name}: {speed:,.0f} tokens/s")
    return speeds


def describe_run() -> dict[str, Any]:
    """Say where, when and with what this was measured."""
    from headway.train.log import describe_environment

    environment = describe_environment({})
    packages = ("headway", "torch", "transformers", "accelerate", "ctranslate2")
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": environment["git"],
        "versions": {name: metadata.version(name) for name in packages},
        "cpu": environment["cpu"],
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def to_markdown(title: str, run: Mapping[str, Any], tables: Sequence[Any]) -> str:
    """Write the block for RESULTS.md."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    head = (
        f"## {title}, {run['date']}\n\n`{run['command']}`\n\n"
        f"Commit {run['commit']}; {versions}; {run['cpu']}, {run['cores']} cores; load of the "
        f"machine before the run {run['load']}. Sides took turns; ratios are taken in each round.\n"
    )
    return "\n".join([head, *(table.to_markdown() for table in tables)])
