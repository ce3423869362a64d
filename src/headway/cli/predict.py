"""Answer records with a model, one answer a line, in order.

headway predict run/model questions.txt
cat questions.txt | headway predict run/model
headway predict run/model records.jsonl --json
echo "I loved it" | headway predict run/model --explain

A line of plain text is a record; so is a line of JSON, a row of TSV or CSV. Answers are written
as they come, so what is there is not lost if the rest is interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

# Rows predicted between two times of writing: enough to lay rows of like length together.
_ROWS_AT_ONCE = 512


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
    num_best: int | None = None
    """Answers for each record, the best first, where the task gives several (with --json)."""
    explain: bool = False
    """Say which tokens a class or a number rests on (integrated gradients, attention)."""
    json: bool = False
    """Print one JSON object per record."""


def run(options: Options) -> int:
    """Predict and print, part by part."""
    from headway.cli import _records

    # A gradient needs the weights as they were trained.
    precision = "fp32" if options.explain else options.precision
    model = _records.open_model(options.model, precision=precision)
    records = _records.read(
        [options.file],
        columns=model.task.inputs,
        optional=model.task.optional,
        names=options.columns,
        skip_bad=options.skip_bad,
        keep_blank=True,
        problem=model.task.check_request,
    )
    settings: dict[str, Any] = {}
    for name in ("num_beams", "num_best"):
        if (value := getattr(options, name)) is not None:
            settings[name] = value
    rows, problems = iter(records.rows), {row.index: row for row in records.bad}
    total, cut = len(records) + len(problems), []
    for start in range(0, total, _ROWS_AT_ONCE):
        part = range(start, min(start + _ROWS_AT_ONCE, total))
        asked = [next(rows) for index in part if index not in problems]
        with _records.progress_bar("predict", total, done=start) as progress:
            found = model.predict(asked, progress=progress, **settings)
        cut += [{"cut": answer["cut"]} for answer in found if "cut" in answer]
        if options.explain:
            _explain(model, asked, found)
        answers = iter(found)
        for index in part:
            bad = problems.get(index)
            _write(_records.describe(bad) if bad else next(answers), as_json=options.json)
        sys.stdout.flush()
    _records.warn_of_cuts(cut, total)
    if records.bad:
        sys.stderr.write(f"headway: {len(records.bad)} rows could not be used\n")
    return 0


def _explain(model, asked: Sequence[Mapping[str, Any]], found: list[dict[str, Any]]) -> None:
    """Add to each answer what each token counted."""
    import dataclasses

    from headway.explain.saliency import explain

    for row, answer in zip(asked, found, strict=True):
        answer["explanation"] = dataclasses.asdict(explain(model, row))


def _write(answer: Mapping[str, Any], *, as_json: bool) -> None:
    from headway.cli import _records

    if as_json:
        _records.write_json(answer)
        return
    # One line for each record, so that output and input run in step.
    text = answer.get("prediction", f"error: {answer.get('error')}")
    if isinstance(text, list):
        text = " ".join(map(str, text))
    sys.stdout.write(" ".join(str(text).split("\n")) + _tokens_of(answer) + "\n")


def _tokens_of(answer: Mapping[str, Any]) -> str:
    """Write an explanation behind its answer: each token with what it added."""
    found = answer.get("explanation")
    if found is None:
        return ""
    pairs = zip(found["tokens"], found["gradients"], strict=True)
    return "\t" + " ".join(f"{token}({value:+.2f})" for token, value in pairs)
