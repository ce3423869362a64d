"""Show the events of a run: a bar on a terminal, plain lines in a pipe, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from headway.errors import HeadwayError
from headway.train.events import Evaluated, Event, Finished, Note, Report, Started

# Seconds between two lines about the loss where there is no terminal.
_LINE_SECONDS = 20.0


def _plain(event: Event) -> dict[str, Any]:
    values = {
        field.name: getattr(event, field.name)
        for field in dataclasses.fields(event)
        if field.name != "report"
    }
    return {"event": type(event).__name__.lower(), **values}


def show(
    events: Iterator[Event], run_dir: Path, *, as_json: bool = False, quiet: bool = False
) -> Path | None:
    """Consume a run's events and show them; at the end, draw the report.

    Args:
        events: From `train` or `resume`.
        run_dir: The run's directory.
        as_json: Print each event as one JSON object on standard output.
        quiet: Print nothing on standard output.
    Returns:
        report: Path of the report.
    """
    # Names of files and scores are no markup.
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    display = _Display(console, run_dir)
    listening = as_json
    with display.bar:
        for event in events:
            # A reader that leaves, as `head` does, must not end the training with it.
            listening = listening and _tell(event)
            display.show(event)
    return display.close(says_where=not as_json and not quiet)


def _tell(event: Event) -> bool:
    """Print an event as JSON; say whether anybody still reads."""
    try:
        sys.stdout.write(json.dumps(_plain(event), default=str, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return True


class _Display:
    def __init__(self, console: Console, run_dir: Path) -> None:
        self.console, self.run_dir = console, run_dir
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.row: TaskID | None = None
        self.finished: Finished | None = None
        self._last_line = 0.0
        self._started: Started | None = None
        self._clock = (0, 0.0)

    def show(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Report):
            self._report(event)
        elif isinstance(event, Evaluated):
            scores = "  ".join(f"{name} {value:.2f}" for name, value in event.scores.items())
            best = "  (best so far)" if event.is_best else ""
            self.console.print(
                f"step {event.step}: valid loss {event.loss:.4f}  {scores}{best}", soft_wrap=True
            )
        elif isinstance(event, Note):
            self.console.print(event.text, soft_wrap=True)
        else:
            self.finished = event

    def _start(self, event: Started) -> None:
        self._started = event
        for line in event.report.lines():
            self.console.print(line, soft_wrap=True)
        self.console.print(
            f"{event.num_parameters / 1e6:.2f} M parameters, {event.total_steps} steps, "
            f"{event.precision}, run directory {self.run_dir}",
            soft_wrap=True,
        )
        self.row = self.bar.add_task(
            "training", total=event.total_steps, completed=event.step, rate=""
        )

    def _report(self, event: Report) -> None:
        rate = f"loss {event.loss:.3f}  {event.tokens_per_second:,.0f} tokens/s"
        if self.row is not None:
            self.bar.update(self.row, completed=event.step, rate=rate)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line >= _LINE_SECONDS:
            total = self._started.total_steps if self._started else event.step
            left = event.seconds / max(1, event.step) * (total - event.step)
            self.console.print(
                f"step {event.step}/{total}  epoch {event.epoch:.2f}  {rate}  {left:,.0f} s left",
                soft_wrap=True,
            )
            self._last_line = now

    def close(self, *, says_where: bool) -> Path | None:
        if self.finished is None:
            return None
        from headway.explain.report import write_report

        report: Path | None = None
        try:
            report = write_report(self.run_dir)
        except HeadwayError as error:
            # The model is saved: a report that cannot be written does not make the run fail.
            self.console.print(f"no report: {error}", soft_wrap=True)
        event = self.finished
        best = "" if event.best_score is None else f", {event.score_name} {event.best_score:.2f}"
        self.console.print(
            f"done: {event.step} steps in {event.seconds:.0f} s; best at step {event.best_step}"
            f"{best}; report {report or 'none'}",
            soft_wrap=True,
        )
        if says_where:
            sys.stdout.write(f"{event.model_dir}\n")
        return report
