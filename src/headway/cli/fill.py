"""Fill in the masks of texts: what the model expects there, and how sure it is.

headway fill run/model "The [MASK] sat on the mat."
headway fill run/model "The [MASK] sat." "She [MASK] home." --num-best 3
echo "The [MASK] sat." | headway fill run/model --json
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records
from headway.errors import RequestError
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
    texts = _records.read_texts(
        options.texts, "fill", skip_bad=options.skip_bad, hint="give a text with [MASK] in it"
    )
    model = _records.open_model(options.model, precision=options.precision)
    if model.task_name != "masked_lm":
        raise RequestError(f"this model does {model.task_name}, and fills no masks")
    own = model.tokenizer.name_of("mask")
    texts.check(partial(_check_mask, own=own))
    asked = list(texts.usable.values())
    found = model.predict([{"text": text} for text in asked], num_best=options.num_best)
    unknown = _records.UnknownTexts(model.tokenizer)
    unknown.add(asked)
    answers = dict(zip(asked, found, strict=True))

    def check_answer(text: str) -> None:
        if not answers[text]["masks"]:
            raise RequestError(
                f"the mask in {reprlib.repr(text)} lies beyond the {model.setting.max_tokens} "
                "tokens that the model reads"
            )

    texts.check(check_answer)
    kept = [answers[text] for text in texts.usable.values()]
    _records.warn_of_cuts(kept, len(kept))
    unknown.warn()
    texts.answer_all(kept, partial(_write, as_json=options.json), as_json=options.json)


def _check_mask(text: str, *, own: str) -> None:
    """Raise an error for a text that cannot be used."""
    _records.refuse_damage(text)
    if not any(mask in text for mask in (own, *ROLES["mask"])):
        raise RequestError(f"there is no mask in {text!r}", hint=f"write {own} for a word")


def _write(answer: Mapping[str, Any], *, as_json: bool) -> None:
    lines = [answer["prediction"]]
    for best in answer["masks"]:
        row = "  ".join(f"{item['token']} {item['probability']:.1%}" for item in best)
        lines.append(f"  {row}")
    _records.write(answer["masks"], "\n".join(lines), as_json=as_json)
