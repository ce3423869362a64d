"""Curves of `pretraining.py`: both sides on equal batches, by seed, and single updates compared."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from _tables import say
from _worker import Files, Side, Worker

_MARKS = (4, 2, 1)
_NUDGE = 1e-7


@dataclass(kw_only=True)
class Rows:
    """A table of what was found, row by row."""

    title: str
    text: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)
    """Everything that was measured."""

    def to_markdown(self) -> str:
        """Write the table."""
        lines = [self.header, tuple("---" for _ in self.header), *self.rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"### {self.title}\n\n{self.text}\n\n{table}\n"

    def to_json(self) -> dict[str, Any]:
        """Give everything that was measured."""
        return asdict(self)


def curve_sides(sizes: dict[str, Any], options: argparse.Namespace, seed: int) -> list[Side]:
    """List the sides of one seed; the first is what the others are compared with.

    Speed is not looked at here: both sides have our process settings.
    """
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    shared: dict[str, Any] = {"module": "_masked", "polite": True, "environment": threads}
    sizes = {**sizes, "seed": seed}
    ours = {"kind": "HeadwayMaskedTraining", **shared}
    theirs = {"kind": "HuggingFaceMaskedTraining", **shared}
    found = []
    for precision in options.curves:
        plain = {**sizes, "precision": precision}
        if "ours" in options.curve_sides:
            found.append(Side(name=f"Headway, {precision}", options=plain, **ours))
        if "nudged" in options.curve_sides:
            nudged = {**plain, "nudge": _NUDGE}
            name = f"Headway, {precision}, a weight changed by {_NUDGE:g}"
            found.append(Side(name=name, options=nudged, **ours))
        if "theirs" in options.curve_sides:
            settings = {**plain, "attention": "sdpa", "sampling": "random"}
            found.append(Side(name=f"Trainer, {precision}", options=settings, **theirs))
    return found


def take_curve(side: Side, options: argparse.Namespace, files: Files) -> dict[str, Any]:
    """Train one side, unless its curve is kept already."""
    training = {
        "steps": options.curve_steps,
        "rate": options.curve_rate,
        "warm_up": options.curve_warm_up,
    }
    words = [side.name, *(str(value) for value in (*side.options.values(), *training.values()))]
    kept = options.keep and options.keep / (re.sub(r"[^\w.-]+", "-", "_".join(words)) + ".json")
    if kept and kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    with Worker(side, files) as worker:
        curve = asdict(worker.ask("curve", **training))
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(curve) + "\n", encoding="utf-8")
    return curve


def compare_curves(
    name: str, sizes: dict[str, Any], options: argparse.Namespace, files: Files
) -> Rows:
    """Train every side on the same batches, masks and order, without dropout."""
    steps = options.curve_steps
    width = max(1, steps // 25)
    marks = [max(1, steps // part) for part in _MARKS]
    names = tuple(f"to {mark}" for mark in marks)
    table = Rows(
        title=f"Curves, {name}",
        text=(
            "On the same batches, masked alike, in the same order, from the same weights, without "
            f"dropout: mean nats per hidden token of {width} updates up to the one given; by how "
            f"much the loss of an update differs from the first row of the seed, over the same "
            "updates on average; on 1,000 validation lines after the last."
        ),
        header=(
            *("seed", "side"),
            *names,
            *(f"differs {name}" for name in names),
            *("valid", "masked accuracy"),
        ),
    )
    for seed in options.curve_seeds:
        first: list[float] = []
        for side in curve_sides(sizes, options, seed):
            say(f"curve of {side.name}, seed {seed}")
            curve = take_curve(side, options, files)
            first = first or curve["losses"]
            gaps = [abs(a - b) for a, b in zip(first, curve["losses"], strict=True)]
            cells = [f"{_mean_to(curve['losses'], mark, width):.3f}" for mark in marks]
            cells += [f"{_mean_to(gaps, mark, width):.2g}" for mark in marks]
            cells += [f"{curve['loss']:.3f}", f"{100 * curve['accuracy']:.2f} %"]
            table.rows.append((str(seed), side.name, *cells))
            table.found.append({"seed": seed, "side": side.name, **curve})
            say(f"  {' | '.join(cells)}")
    return table


def _mean_to(values: Sequence[float], mark: int, width: int) -> float:
    part = values[max(0, mark - width) : mark]
    return sum(part) / len(part)


def compare_updates(
    name: str, sizes: dict[str, Any], options: argparse.Namespace, files: Files
) -> Rows:
    """Take single updates on both sides, from the weights and moments of one training."""
    say("single updates on both sides")
    threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
    side = Side(
        name="both",
        kind="SameUpdatesTraining",
        module="_updates",
        options={**sizes, "seed": options.curve_seeds[0]},
        polite=True,
        environment=threads,
    )
    with Worker(side, files) as worker:
        found = worker.ask(
            "compare",
            steps=options.same_update,
            rate=options.curve_rate,
            warm_up=options.curve_warm_up,
        )
    rows = [
        (
            *(str(one.step), one.pair),
            *(f"{loss:.6f}" for loss in one.losses),
            f"{one.norm:.3g}",
            f"{one.gradient:.1e}",
            f"{one.worst:.1e} ({one.worst_name})",
            f"{one.change:.1e}",
        )
        for one in found
    ]
    return Rows(
        title=f"Single updates, {name}",
        text=(
            "Our training in bf16, without dropout; after so many updates the next one "
            "is taken by both sides in both precisions, from the same weights, moments and batch: "
            "both losses, length of the gradient before it is clipped, and the length of the "
            "difference by that of the second, of the gradient (all of it, and where a tensor "
            "differs most) and of what is added to the weights. Left out are the biases of keys: "
            "softmax does not see them, so that their gradient is nothing but rounding."
        ),
        header=(
            *("after", "of what", "loss", "of the second", "gradient"),
            *("gradients differ by", "at most", "changes differ by"),
        ),
        rows=rows,
        found=[asdict(one) for one in found],
    )
