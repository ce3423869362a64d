"""Ask a language model by a prompt, with no, one or several examples in it; nothing is trained.

headway prompt run/model "This movie is awesome!" --task sentiment
headway prompt run/model --task sentiment --data dev.tsv --examples train.tsv --shots 0 1 4
headway prompt run/model --task mine.toml --data dev.tsv --picture shots.svg

With --data it says how often the answers are right by the number of examples, over every template
of the prompt and --draws draws of examples: the mean, the lowest and the highest.
"""

from __future__ import annotations

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
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 where the hardware multiplies it."""
    json: bool = False
    """Print JSON."""


def run(options: Options) -> None:
    """Ask and print."""
    from headway.tasks._prompting import read_prompt

    _records.check_place(options.picture, "--picture")
    if min(options.shots, default=0) < 0 or options.draws < 1:
        raise ConfigError("--shots must be from 0 up, and --draws at least 1")
    prompt = read_prompt(options.task)
    if max(options.shots, default=0) and not options.examples:
        raise ConfigError("--shots above 0 needs --examples, a file to draw them from")
    columns = (*prompt.columns, prompt.target)
    examples = _read(options.examples, columns, prompt, options) if options.examples else []
    asked = (
        _read(options.data, columns, prompt, options) if options.data else _rows(prompt, options)
    )
    model = _records.open_model(options.model, precision=options.precision)
    if options.data:
        _compare(model, prompt, asked[: options.max_rows], examples, options)
        return
    from headway.tasks._prompting import draw_examples

    shown = draw_examples(examples, prompt, shots=options.shots[0], seed=0)
    for row, answer in zip(asked, _ask(model, prompt, asked, shown, options), strict=True):
        if options.json:
            _records.write({**row, **answer})
        else:
            sys.stdout.write(f"{answer['prediction']}\n")


def _rows(prompt: Any, options: Options) -> list[dict[str, str]]:
    if options.data:
        return []
    if len(prompt.columns) != 1 or not options.texts:
        raise RequestError("there is nothing to answer", hint="give texts, or rows with --data")
    return [{prompt.columns[0]: text} for text in options.texts]


def _read(paths: tuple[str, ...], columns: tuple[str, ...], prompt: Any, options: Options) -> list:
    def problem(row: dict[str, Any]) -> str | None:
        if prompt.labels and str(row[prompt.target]) not in prompt.labels:
            return f"{prompt.target} is {row[prompt.target]!r}, which the prompt has no word for"
        return None

    found = _records.read(
        paths, columns=columns, names=options.columns, skip_bad=False, problem=problem
    )
    return found.rows


def _ask(
    model: Any, prompt: Any, rows: list, shown: list, options: Options, *, template: int = 0
) -> list[dict[str, Any]]:
    from headway.tasks._prompting import answer_freely, classify

    if not prompt.labels:
        return answer_freely(model, prompt, rows, shown, template=template)
    return classify(model, prompt, rows, shown, template=template, calibrate=options.calibrate)


def _compare(model: Any, prompt: Any, rows: list, examples: list, options: Options) -> None:
    """Score every number of examples over templates and draws."""
    from headway.tasks._prompting import draw_examples

    most = max(Counter(str(row[prompt.target]) for row in rows).values())
    found = []
    for shots in options.shots:
        shares = []
        for draw in range(options.draws if shots else 1):
            shown = draw_examples(examples, prompt, shots=shots, seed=draw)
            for template in range(len(prompt.templates)):
                answers = _ask(model, prompt, rows, shown, options, template=template)
                right = sum(
                    answer["prediction"] == str(row[prompt.target])
                    for answer, row in zip(answers, rows, strict=True)
                )
                shares.append(100 * right / len(rows))
        mean = sum(shares) / len(shares)
        found.append(
            {
                "shots": shots,
                "accuracy": round(mean, 2),
                "lowest": round(min(shares), 2),
                "highest": round(max(shares), 2),
                "prompts": len(shares),
            }
        )
        sys.stderr.write(f"{shots} shots: {mean:.2f} %\n")
    if options.picture is not None:
        _draw(found, options.picture, options.task)
    result = {"rows": len(rows), "most_frequent": round(100 * most / len(rows), 2), "shots": found}
    if options.json:
        _records.write(result)
        return
    sys.stdout.write("shots  accuracy  lowest  highest  prompts\n")
    for row in found:
        cells = (row["shots"], row["accuracy"], row["lowest"], row["highest"], row["prompts"])
        sys.stdout.write("{:>5} {:>9.2f} {:>7.2f} {:>8.2f} {:>8}\n".format(*cells))
    most_text = f"always the most frequent answer: {result['most_frequent']:.2f} %"
    sys.stdout.write(f"{len(rows)} rows; {most_text}\n")


def _draw(found: list[dict[str, Any]], path: Path, title: str) -> None:
    from headway.explain.curves import Curve, draw_curves
    from headway.files.manifest import write_text

    curves = [
        Curve(name=name, points=[(row["shots"], row[key]) for row in found], has_dots=True)
        for name, key in (("mean", "accuracy"), ("lowest", "lowest"), ("highest", "highest"))
    ]
    drawn = draw_curves(curves, title=f"{title}: right answers, %", x_name="example")
    write_text(path, drawn)
