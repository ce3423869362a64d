"""Translate texts given on the command line, or lines of standard input.

headway translate run/model "ein Hund rennt"
headway translate run/model "ein Hund" --n-best 3
echo "ein Hund" | headway translate run/model
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records
from headway.errors import RequestError


@dataclass(frozen=True)
class Options:
    """Options of `headway translate`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to translate; none, or -, reads lines from standard input."""
    num_beams: int | None = None
    """Beams; none takes the model's own, 1 is greedy."""
    n_best: int = 1
    """Results for each text."""
    length_penalty: float | None = None
    """Exponent of the length; none takes the model's own, more favours longer results."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    attention: Path | None = None
    """Write the alignment picture of the first text to this HTML file."""
    skip_bad: bool = False
    """Answer lines that cannot be used with {"error": ...} instead of stopping."""
    json: bool = False
    """Print one JSON object per text."""


def run(options: Options) -> None:
    """Translate and print."""
    texts = _records.read_texts(options.texts, "translate", skip_bad=options.skip_bad)
    model = _records.open_model(options.model, precision=options.precision)
    if model.task_name != "translation":
        raise RequestError(f"this model does {model.task_name}, not translation")
    settings = _records.given(options, "num_beams", "length_penalty")
    if options.n_best != 1:
        settings["num_best"] = options.n_best
        settings.setdefault("num_beams", max(options.n_best, vars(model.task)["num_beams"]))
    asked = list(texts.usable.values())
    answers = model.predict([{"source": text} for text in asked], **settings)
    _records.warn_of_cuts(answers, len(answers))

    def show(translated: tuple[str, dict[str, Any]]) -> None:
        text, answer = translated
        if options.json:
            _records.write({"source": text, **answer})
            return
        for result in answer.get("n_best", [answer]):
            score = f"{result['score']:.4f}\t" if options.n_best > 1 else ""
            sys.stdout.write(score + " ".join(result["prediction"].split("\n")) + "\n")

    texts.answer_all(zip(asked, answers, strict=True), show, as_json=options.json)
    if options.attention is not None and answers:
        from headway.explain.report import write_alignment

        # The words that were printed, whatever beams and precision they came from.
        written = answers[0]["prediction"]
        write_alignment(
            _records.open_model(options.model), asked[0], options.attention, target=written
        )
