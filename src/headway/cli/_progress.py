"""Show the events of a run: a bar on a terminal, plain lines in a pipe, JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from headway.errors import HeadwayError
from headway.train.events import Evaluated, Event, Finished, Note, Report, Started

# Seconds between two lines about the loss where there is no terminal.
_LINE_SECONDS = 20.0


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
    say = partial(console.print, soft_wrap=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    finished: Finished | None = None
    listening, total_steps, last_line = as_json, 0, 0.0
    with bar:
        for event in events:
            # A reader that leaves, as `head` does, must not end the training with it.
            listening = listening and _tell(event)
            if isinstance(event, Started):
                total_steps = event.total_steps
                for line in event.report.lines():
                    say(line)
                say(
                    f"{event.num_parameters / 1e6:.2f} M parameters, {total_steps} steps, "
                    f"{event.precision}, run directory {run_dir}"
                )
                bar.add_task("training", total=total_steps, completed=event.step, rate="")
            elif isinstance(event, Report):
                rate = f"loss {event.loss:.3f}  {event.tokens_per_second:,.0f} tokens/s"
                bar.update(bar.task_ids[0], completed=event.step, rate=rate)
                if not console.is_terminal and time.monotonic() - last_line >= _LINE_SECONDS:
                    last_line = time.monotonic()
                    left = event.seconds / max(1, event.step) * (total_steps - event.step)
                    say(
                        f"step {event.step}/{total_steps}  epoch {event.epoch:.2f}  {rate}  "
                        f"{left:,.0f} s left"
                    )
            elif isinstance(event, Evaluated):
                scores = "  ".join(f"{name} {value:.2f}" for name, value in event.scores.items())
                best = "  (best so far)" if event.is_best else ""
                say(f"step {event.step}: valid loss {event.loss:.4f}  {scores}{best}")
            elif isinstance(event, Note):
                say(event.text)
            else:
                finished = event
    if finished is None:
        return None
    report = _report(run_dir, say)
    score = finished.best_score
    best = "" if score is None else f", {finished.score_name} {score:.2f}"
    say(
        f"done: {finished.step} steps in {finished.seconds:.0f} s; best at step "
        f"{finished.best_step}{best}; report {report or 'none'}"
    )
    if not as_json and not quiet:
        sys.stdout.write(f"{finished.model_dir}\n")
    return report


def _tell(event: Event) -> bool:
    """Print an event as JSON; say whether anybody still reads."""
    values = {"event": type(event).__name__.lower(), **vars(event)}
    values.pop("report", None)
    try:
        sys.stdout.write(json.dumps(values, default=str, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return False
    return True


def _report(run_dir: Path, say: Callable[[str], None]) -> Path | None:
    """Draw the report; as the model is saved, one that cannot be written is no failure."""
    from headway.explain.report import write_report

    try:
        return write_report(run_dir)
    except HeadwayError as error:
        say(f"no report: {error}")
        return None
