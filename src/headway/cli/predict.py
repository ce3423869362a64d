"""Answer records with a model, one answer a line, in order.

headway predict run/model questions.txt
cat questions.txt | headway predict run/model
headway predict run/model records.jsonl --json

A line of plain text is a record; so is a line of JSON, a row of TSV or CSV.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Options:
    """Options of `headway predict`."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder."""
    file: Annotated[str, tyro.conf.Positional] = "-"
    """File of records; - is standard input."""
    columns: tuple[str, ...] = ()
    """Names for a file without a header, or ours=theirs to rename columns."""
    skip_bad: bool = False
    """Answer rows that cannot be used with {"error": ...} instead of stopping."""
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 where the hardware multiplies it."""
    num_beams: int | None = None
    """Beams, where the task decodes; none takes the model's own."""
    json: bool = False
    """Print one JSON object per record."""


def run(options: Options) -> int:
    """Predict and print."""
    from headway.cli import _records
    from headway.tasks._model import load

    model = load(options.model, precision=options.precision)
    records = _records.read(
        [options.file],
        columns=model.task.inputs,
        names=options.columns,
        skip_bad=options.skip_bad,
        keep_blank=True,
    )
    settings: dict[str, Any] = {}
    if options.num_beams is not None:
        settings["num_beams"] = options.num_beams
    with _records.progress_bar("predict", len(records)) as progress:
        answers = model.predict(records.rows, progress=progress, **settings)
    for answer in _records.merge(answers, records.bad):
        if options.json:
            _records.write_json(answer)
        else:
            # One line for each record, so that output and input run in step.
            text = answer.get("prediction", f"error: {answer.get('error')}")
            sys.stdout.write(" ".join(str(text).split("\n")) + "\n")
    if records.bad:
        sys.stderr.write(f"headway: {len(records.bad)} rows could not be used\n")
    return 0
