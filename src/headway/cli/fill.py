"""Fill in the masks of texts: what the model expects there, and how sure it is.

headway fill run/model "The [MASK] sat on the mat."
headway fill run/model "The [MASK] sat." "She [MASK] home." --num-best 3
echo "The [MASK] sat." | headway fill run/model --json
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records
from headway.data.lines import STDIN, find_damage, label_file, read_lines
from headway.errors import DataError, HeadwayError, RequestError
from headway.text.specials import ROLES


@dataclass(frozen=True)
class Options:
    """Options of `headway fill`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts with [MASK], <mask> or the model's own mask in them; none, or -, reads lines from
    standard input."""
    num_best: int = 5
    """Fillings for each mask."""
    precision: str = "fp32"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    skip_bad: bool = False
    """Answer texts that cannot be used with {"error": ...} instead of stopping."""
    json: bool = False
    """Print one JSON list per text: for each mask a list of token and probability."""


def run(options: Options) -> None:
    """Fill and print."""
    texts, places = list(options.texts), [""] * len(options.texts)
    if texts in ([], [STDIN]):
        texts = list(read_lines(STDIN))
        places = [f"{label_file(STDIN)}, line {number}" for number in range(1, len(texts) + 1)]
    if not texts:
        raise RequestError("there is nothing to fill", hint="give a text with [MASK] in it")
    model = _records.open_model(options.model, precision=options.precision)
    if model.task_name != "masked_lm":
        raise RequestError(f"this model does {model.task_name}, and fills no masks")
    own = model.tokenizer.name_of("mask")
    bad = {n: error for n, text in enumerate(texts) if (error := _problem(text, places[n], own))}
    _stop_at(bad, options)
    asked = [number for number in range(len(texts)) if number not in bad]
    found = model.predict([{"text": texts[n]} for n in asked], num_best=options.num_best)
    answers = dict(zip(asked, found, strict=True))
    for number, answer in answers.items():
        if not answer["masks"]:
            bad[number] = RequestError(
                f"the mask in {reprlib.repr(texts[number])} lies beyond the "
                f"{model.setting.max_tokens} tokens that the model reads",
                where=places[number],
            )
    _stop_at(bad, options)
    kept = [answer for number, answer in answers.items() if number not in bad]
    _records.warn_of_cuts(kept, len(kept))
    for number in range(len(texts)):
        _write(bad[number] if number in bad else answers[number], as_json=options.json)
    if bad:
        sys.stderr.write(f"headway: {len(bad)} texts could not be used\n")


def _problem(text: str, where: str, own: str) -> HeadwayError | None:
    """Say why a text cannot be used, if so."""
    if damage := find_damage(text):
        return DataError(f"the text is {damage}", where=where, hint="Convert the file to UTF-8")
    if any(mask in text for mask in (own, *ROLES["mask"])):
        return None
    hint = f"write {own} for a word" + (", or leave such lines out: --skip-bad" if where else "")
    return RequestError(f"there is no mask in {text!r}", where=where, hint=hint)


def _stop_at(bad: Mapping[int, HeadwayError], options: Options) -> None:
    """Raise the first problem, unless bad texts are to be skipped."""
    if bad and not options.skip_bad:
        raise bad[min(bad)]


def _write(answer: Mapping[str, Any] | HeadwayError, *, as_json: bool) -> None:
    if isinstance(answer, HeadwayError):
        problem = ": ".join(filter(None, (answer.where, answer.message)))
        _records.write({"error": problem}, f"error: {problem}", as_json=as_json)
        return
    lines = [answer["prediction"]]
    for best in answer["masks"]:
        row = "  ".join(f"{item['token']} {item['probability']:.1%}" for item in best)
        lines.append(f"  {row}")
    _records.write(answer["masks"], "\n".join(lines), as_json=as_json)
