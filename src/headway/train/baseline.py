"""A simple method beside the network, on the same rows."""

from __future__ import annotations

from pathlib import Path

from headway.data.read import Records
from headway.files.manifest import write_json
from headway.tasks._task import HasBaseline, Task

BASELINE = "baseline.json"


def write_baseline(
    task: Task, train: Records | None, valid: Records | None, run_dir: Path
) -> str | None:
    """Score the simple method that a task knows, if it knows one, and write that down.

    Returns:
        note: A line for people; None where there is nothing to compare with.
    """
    if not isinstance(task, HasBaseline) or train is None or not valid:
        return None
    try:
        found = task.baseline(train.rows, valid.rows)
    except ValueError as error:
        # Texts without a single word, for instance: that must not spoil a finished run.
        return f"no baseline: {error}"
    scores = {item.name: item.value() for item in task.statistics(found.predictions, valid.rows)}
    write_json(run_dir / BASELINE, {"name": found.name, "scores": scores})
    shown = "  ".join(f"{name} {value:.2f}" for name, value in scores.items())
    return f"without a network ({found.name}): {shown}"
