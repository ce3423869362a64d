"""Records for a model from files or standard input, and results back to standard output."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from headway.data.read import BadRow, Flags, Records, read_records
from headway.tasks._task import Progress

_FLAGS = Flags(skip_bad="--skip-bad", columns="--columns")


def read(
    paths: Sequence[str],
    *,
    columns: Sequence[str],
    names: Sequence[str] = (),
    skip_bad: bool,
    keep_blank: bool = False,
) -> Records:
    """Read records, "-" standing for standard input."""
    return read_records(
        paths or ("-",),
        columns=columns,
        names=names,
        skip_bad=skip_bad,
        keep_blank=keep_blank,
        flags=_FLAGS,
    )


def merge(answers: Sequence[Mapping[str, Any]], bad: Sequence[BadRow]) -> Iterator[dict[str, Any]]:
    """Put answers and skipped rows back into the order of the input."""
    problems = {row.index: row for row in bad}
    total, waiting = len(answers) + len(bad), iter(answers)
    for index in range(total):
        if index in problems:
            row = problems[index]
            yield {"error": f"{row.where}: {row.problem}"}
        else:
            yield dict(next(waiting))


def write_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def warn_of_cuts(answers: Sequence[Mapping[str, Any]]) -> None:
    """Say on standard error how much was cut: never silently."""
    for what, reason in _CUTS.items():
        if count := sum(what in answer.get("cut", ()) for answer in answers):
            sys.stderr.write(f"warning: {count} of {len(answers)} {what}s cut: {reason}\n")


_CUTS: Mapping[str, str] = types.MappingProxyType(
    {
        "source": "longer than the model reads (task.max-source-tokens)",
        "prediction": "as long as they may become (task.max-target-tokens, max-length-ratio)",
    }
)


@contextlib.contextmanager
def progress_bar(verb: str, total: int) -> Iterator[Callable[[Progress], None]]:
    """Draw a bar on a terminal; elsewhere do nothing."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task(verb, total=total)
        yield lambda state: bar.update(row, completed=state.done)
