"""Ask a language model by a prompt, with no, one or several examples in it; nothing is trained.

headway prompt run/model "This movie is awesome!" --task sentiment
headway prompt run/model --task sentiment --data dev.tsv --examples train.tsv --shots 0 1 4
headway prompt run/model --task mine.toml --data dev.tsv --picture shots.svg

With --data it says how often the answers are right by the number of examples, over every template
of the prompt and --draws draws of examples: the mean, the lowest and the highest. Examples that are
also rows of --data are left out. Where the model reads no more, a prompt has fewer examples: "cut"
is the share of such prompts.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records
from headway.errors import ConfigError, RequestError


@dataclass(frozen=True)
class Options:
    """Options of `headway prompt`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to answer, where the prompt has one column."""
    task: str = "sentiment"
    """A prompt file (.toml), or the name of a shipped one: sentiment, topic or answer."""
    shots: tuple[int, ...] = (0,)
    """Examples in a prompt; several numbers are compared on --data."""
    data: tuple[str, ...] = ()
    """Rows with their answers, to be scored on."""
    examples: tuple[str, ...] = ()
    """Rows with their answers, that examples are drawn from."""
    columns: tuple[str, ...] = ()
    """Names for a file without a header, or ours=theirs to rename columns."""
    draws: int = 3
    """Draws of examples for each number of them."""
    max_rows: int | None = None
    """Score only the first rows of --data."""
    calibrate: bool = False
    """Compare label words with how probable they are after a text without content."""
    picture: Path | None = None
    """Draw the share of right answers by number of examples to this .svg file."""
    skip_bad: bool = False
    """Leave rows out that cannot be used."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    json: bool = False
    """Print JSON."""


def run(options: Options) -> None:
    """Ask and print."""
    from headway.tasks._prompting import ask, draw_examples, read_prompt

    _check(options)
    prompt = read_prompt(options.task)
    examples = _read(options.examples, prompt, options)
    model = _records.open_model(options.model, precision=options.precision, packed=True)
    if options.data:
        rows = _read(options.data, prompt, options, model)[: options.max_rows]
        kept = [row for row in examples if row not in rows]
        if left_out := len(examples) - len(kept):
            sys.stderr.write(f"warning: {left_out} examples that are rows of --data are left out\n")
        _compare(model, prompt, rows, kept, options)
        return
    if len(prompt.columns) != 1 or not options.texts:
        raise RequestError("there is nothing to answer", hint="give texts, or rows with --data")
    asked = [{prompt.columns[0]: text} for text in options.texts]
    shown = draw_examples(examples, prompt, shots=options.shots[0], seed=0)
    answers = ask(model, prompt, asked, shown, calibrate=options.calibrate)
    for row, answer in zip(asked, answers, strict=True):
        _records.write({**row, **answer}, str(answer["prediction"]), as_json=options.json)
    _records.warn_of_cuts(answers, len(answers))


def _check(options: Options) -> None:
    """Say what cannot work before anything is read."""
    _records.check_place(options.picture, "--picture", kinds=(".svg",))
    if not options.shots or min(options.shots) < 0 or options.draws < 1:
        raise ConfigError("--shots needs numbers from 0 up, and --draws at least 1")
    if max(options.shots) and not options.examples:
        raise ConfigError("--shots above 0 needs --examples, a file to draw them from")
    if not options.data and (len(options.shots) > 1 or options.picture):
        raise ConfigError("several --shots, and --picture, need --data to be compared on")


def _read(
    paths: tuple[str, ...], prompt: Any, options: Options, model: Any = None
) -> list[dict[str, Any]]:
    """Read rows; a model tells those that are too long for it."""
    from headway.tasks._prompting import fit_examples

    def problem(row: dict[str, Any]) -> str | None:
        if prompt.labels and str(row[prompt.target]) not in prompt.labels:
            return f"{prompt.target} is {row[prompt.target]!r}, which the prompt has no word for"
        try:
            for template in range(len(prompt.templates) if model else 0):
                fit_examples(model, prompt, row, (), template=template)
        except RequestError as error:
            return error.message
        return None

    if not paths:
        return []
    columns = (*prompt.columns, prompt.target)
    return _records.read(paths, options, columns=columns, problem=problem).rows


def _compare(model: Any, prompt: Any, rows: list, examples: list, options: Options) -> None:
    """Score every number of examples, and print a table."""
    from headway.tasks._prompting import compare_shots

    found: list[dict[str, Any]] = []
    for score in compare_shots(
        model,
        prompt,
        rows,
        examples,
        shots=options.shots,
        draws=options.draws,
        calibrate=options.calibrate,
    ):
        found.append(dataclasses.asdict(score))
        sys.stderr.write(f"{score.shots} shots: {score.accuracy:.2f} %\n")
    if options.picture is not None:
        _draw(found, options.picture, options.task)
    most = max(Counter(str(row[prompt.target]) for row in rows).values())
    result = {"rows": len(rows), "most_frequent": round(100 * most / len(rows), 2), "shots": found}
    lines = ["shots  accuracy  lowest  highest  prompts     cut"]
    lines += [
        f"{row['shots']:>5} {row['accuracy']:>9.2f} {row['lowest']:>7.2f} {row['highest']:>8.2f} "
        f"{row['prompts']:>8} {row['cut']:>7.2f}"
        for row in found
    ]
    lines.append(f"{len(rows)} rows; always the most frequent answer: {result['most_frequent']} %")
    _records.write(result, "\n".join(lines), as_json=options.json)
    if cut := [str(row["shots"]) for row in found if row["cut"]]:
        sys.stderr.write(
            f"warning: not all prompts have {' or '.join(cut)} examples: the model reads no more\n"
        )


def _draw(found: list[dict[str, Any]], path: Path, title: str) -> None:
    from headway.explain.curves import Curve, draw_curves
    from headway.files.manifest import write_text

    curves = [
        Curve(name=name, points=[(row["shots"], row[key]) for row in found], has_dots=True)
        # The mean is drawn last: above the others where they are one line.
        for name, key in (("highest", "highest"), ("lowest", "lowest"), ("mean", "accuracy"))
    ]
    drawn = draw_curves(curves, title=f"{title}: right answers, %", x_name="examples in the prompt")
    write_text(path, drawn)
