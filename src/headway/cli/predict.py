"""Answer records with a model, one answer a line, in order.

headway predict run/model questions.txt
cat questions.txt | headway predict run/model
headway predict run/model records.jsonl --json
echo "I loved it" | headway predict run/model --explain

A line of plain text is a record; so is a line of JSON, a row of TSV or CSV. Answers are written
as they come, so what is there is not lost if the rest is interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records


@dataclass(frozen=True)
class Options:
    """Options of `headway predict`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    file: tyro.conf.Positional[str] = "-"
    """File of records; - is standard input."""
    columns: tuple[str, ...] = ()
    """Names for a file without a header, or ours=theirs to rename columns."""
    skip_bad: bool = False
    """Answer rows that cannot be used with {"error": ...} instead of stopping."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    num_beams: int | None = None
    """Beams, where the task decodes; none takes the model's own."""
    num_best: int | None = None
    """Answers for each record, the best first, where the task gives several (with --json)."""
    explain: bool = False
    """Say which tokens a class or a number rests on (integrated gradients, attention)."""
    json: bool = False
    """Print one JSON object per record."""


def run(options: Options) -> None:
    """Predict and print, part by part."""
    # A gradient needs the weights as they were trained.
    precision = "fp32" if options.explain else options.precision
    model = _records.open_model(options.model, precision=precision)
    records = _records.read(
        [options.file],
        options,
        columns=model.task.inputs,
        optional=model.task.optional,
        keep_blank=True,
        problem=model.task.check_request,
    )
    settings = _records.given(options, "num_beams", "num_best")
    cut: list[dict[str, Any]] = []
    unknown = _records.UnknownTexts(model.tokenizer)
    columns = (*model.task.inputs, *model.task.optional)

    def answer(asked: dict[int, Any], progress) -> list[dict[str, Any]]:
        rows = list(asked.values())
        unknown.add(row[name] for row in rows for name in columns if name in row)
        found = model.predict(rows, progress=progress, **settings)
        cut.extend({"cut": item["cut"]} for item in found if "cut" in item)
        if options.explain:
            _explain(model, rows, found)
        return found

    _records.answer_parts("predict", records, answer, partial(_write, as_json=options.json))
    num_bad = len(records.bad)
    _records.warn_of_cuts(cut, len(records) + num_bad, num_bad=num_bad)
    unknown.warn()


def _explain(model, asked: Sequence[Mapping[str, Any]], found: list[dict[str, Any]]) -> None:
    """Add to each answer what each token counted."""
    from headway.explain.saliency import explain

    for row, answer in zip(asked, found, strict=True):
        answer["explanation"] = dataclasses.asdict(explain(model, row))


def _write(answer: Mapping[str, Any], *, as_json: bool) -> None:
    text = answer.get("prediction", f"error: {answer.get('error')}")
    if isinstance(text, list):
        text = " ".join(map(str, text))
    # One line for each record, so that output and input run in step.
    line = " ".join(str(text).split("\n")) + _tokens_of(answer)
    _records.write(answer, line, as_json=as_json)


def _tokens_of(answer: Mapping[str, Any]) -> str:
    """Write an explanation behind its answer: each token with what it added."""
    found = answer.get("explanation")
    if found is None:
        return ""
    pairs = zip(found["tokens"], found["gradients"], strict=True)
    return "\t" + " ".join(f"{token}({value:+.2f})" for token, value in pairs)
