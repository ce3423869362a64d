"""Records for a model from files or standard input, and results back to standard output."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headway.data.read import BadRow, Flags, Records, read_records
from headway.tasks._task import Progress

_FLAGS = Flags(skip_bad="--skip-bad", columns="--columns")


def read(
    paths: Sequence[str],
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    names: Sequence[str] = (),
    skip_bad: bool,
    keep_blank: bool = False,
    may_be_blank: Sequence[str] = (),
    problem: Callable[[dict[str, Any]], str | None] | None = None,
) -> Records:
    """Read records, "-" standing for standard input."""
    return read_records(
        paths or ("-",),
        columns=columns,
        optional=optional,
        names=names,
        skip_bad=skip_bad,
        keep_blank=keep_blank,
        may_be_blank=may_be_blank,
        problem=problem or (lambda row: None),
        flags=_FLAGS,
    )


def open_model(path: Path, *, precision: str = "fp32"):
    """Load a model, and say on standard error what a user should know of how that went."""
    from headway.tasks._load import load

    model = load(path, precision=precision)
    for note in model.notes:
        sys.stderr.write(f"warning: {note}\n")
    return model


def describe(row: BadRow) -> dict[str, str]:
    """Give what stands in the place of the answer to a row that cannot be used."""
    return {"error": f"{row.where}: {row.problem}"}


def write_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def warn_of_cuts(answers: Sequence[Mapping[str, Any]], total: int) -> None:
    """Say on standard error how much was cut: never silently.

    Args:
        answers: Those that were cut are enough.
        total: How many there were.
    """
    for what, reason in _CUTS.items():
        if count := sum(what in answer.get("cut", ()) for answer in answers):
            sys.stderr.write(f"warning: {count:,} of {total:,} {what}s cut: {reason}\n")


_CUTS: Mapping[str, str] = types.MappingProxyType(
    {
        "source": "longer than the model reads, or than the task's longest example",
        "question": "longer than half of a window",
        "prediction": "as long as they may become (task.max-target-tokens, max-length-ratio)",
    }
)


@contextlib.contextmanager
def progress_bar(verb: str, total: int, *, done: int = 0) -> Iterator[Callable[[Progress], None]]:
    """Draw a bar on a terminal; elsewhere do nothing.

    Args:
        verb: Stands before it.
        total: Rows of all parts.
        done: Rows of the parts before this one.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True, markup=False, emoji=False)
    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task(verb, total=total, completed=done)
        yield lambda state: bar.update(row, completed=done + state.done)
