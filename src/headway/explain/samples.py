"""Rows of the validation data with what the model makes of them."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.data.lines import STDIN
from headway.data.read import read_records
from headway.errors import DataError
from headway.explain.alignment import check_writes_text
from headway.explain.svg import escape
from headway.metrics.generated import chrf_statistics
from headway.sections import Recipe
from headway.tasks._model import Model

# Larger files are left alone: reading them would take longer than drawing everything else.
_MOST_BYTES = 64 << 20
# Rows predicted between two looks at the clock.
_ROWS_AT_ONCE = 25
# A text of fewer words is compared character by character.
_FEW_WORDS = 4


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row and its prediction.

    Args:
        source: What was read.
        reference: What was asked for.
        prediction: What was written.
        chrf: chrF2 of this row, 0 to 100.
        score: Log probability by length, as the search ranks it.
    """

    source: str
    reference: str
    prediction: str
    chrf: float
    score: float

    @property
    def is_right(self) -> bool:
        """Say whether the prediction is the reference, but for outer white space."""
        return self.prediction.strip() == self.reference.strip()


def read_valid(
    recipe: Recipe, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Read the validation rows that a recipe names.

    Raises:
        DataError: if there are none, or reading them would take too long.
        FileError: if they are gone.
    """
    files = recipe.data.valid
    if not files or STDIN in files:
        raise DataError("the recipe names no validation file to take examples from")
    size = sum(Path(file).stat().st_size for file in files if Path(file).is_file())
    if size > _MOST_BYTES:
        raise DataError(f"the validation files have {size >> 20} MiB, too many to read again here")
    return read_records(
        files,
        columns=columns,
        optional=optional,
        names=recipe.data.columns,
        skip_bad=recipe.data.skip_bad,
    ).rows


def predict_in_time(
    model: Model, records: Sequence[Mapping[str, Any]], *, seconds: float, **settings: Any
) -> list[dict[str, Any]]:
    """Predict records, in order, until the time is over: there may be fewer answers than records.

    Args:
        model: Of any kind.
        records: With the task's inputs.
        seconds: Time after which no further records are begun.
        settings: As `Model.predict` takes them.
    """
    started, found = time.monotonic(), []
    for start in range(0, len(records), _ROWS_AT_ONCE):
        found += model.predict(records[start : start + _ROWS_AT_ONCE], **settings)
        if time.monotonic() - started > seconds:
            break
    return found


def predict_samples(
    model: Model, rows: Sequence[Mapping[str, Any]], *, seconds: float
) -> list[Sample]:
    """Predict rows, in order, until the time is over.

    Args:
        model: Writes text from text.
        rows: With what the task reads and what it writes.
        seconds: Time after which no further rows are begun.
    Raises:
        RequestError: if the model does not write text from text.
    """
    check_writes_text(model)
    task: Any = model.task
    reads = task.inputs[0]
    records = [{reads: row[reads]} for row in rows]
    answers = predict_in_time(model, records, seconds=seconds, num_best=1)
    return [
        Sample(
            source=row[reads],
            reference=task.references(row)[0],
            prediction=answer["prediction"],
            chrf=chrf_statistics([answer["prediction"]], [task.references(row)]).value(),
            score=answer["score"],
        )
        for row, answer in zip(rows, answers, strict=False)
    ]


def mark_differences(prediction: str, reference: str) -> str:
    """Write a prediction as HTML, with <mark> around what the reference does not have there.

    Words are compared, or characters where there are few words.
    """
    pattern = r"\s+|\w+|[^\w\s]" if len(reference.split()) >= _FEW_WORDS else r"[\s\S]"
    ours, theirs = (re.findall(pattern, content) for content in (prediction, reference))
    matcher = difflib.SequenceMatcher(None, theirs, ours, autojunk=False)
    written = []
    for operation, _, _, start, end in matcher.get_opcodes():
        piece = escape("".join(ours[start:end]))
        written.append(piece if operation == "equal" or not piece else f"<mark>{piece}</mark>")
    return "".join(written)
