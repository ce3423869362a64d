"""Fill in the masks of texts: what the model expects there, and how sure it is.

headway fill run/model "The [MASK] sat on the mat."
headway fill run/model "The [MASK] sat." "She [MASK] home." --num-best 3
echo "The [MASK] sat." | headway fill run/model --json
"""

from __future__ import annotations

import reprlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headway.errors import RequestError
from headway.text.specials import ROLES


@dataclass(frozen=True)
class Options:
    """Options of `headway fill`."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder."""
    texts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Texts with [MASK] or <mask> in them; none, or -, reads lines from standard input."""
    num_best: int = 5
    """Fillings for each mask."""
    precision: str = "fp32"
    """fp32, bf16, or auto: bf16 where the hardware multiplies it."""
    json: bool = False
    """Print one JSON list per text: for each mask a list of token and probability."""


def run(options: Options) -> int:
    """Fill and print."""
    from headway.cli import _records
    from headway.data.lines import STDIN, read_text

    texts = list(options.texts)
    if texts in ([], [STDIN]):
        texts = list(read_text(STDIN))
    if not texts:
        raise RequestError("there is nothing to fill", hint="give a text with [MASK] in it")
    model = _records.open_model(options.model, precision=options.precision)
    if model.task_name != "masked_lm":
        raise RequestError(f"this model does {model.task_name}, and fills no masks")
    own = model.tokenizer.name_of("mask")
    if missing := [text for text in texts if not any(mask in text for mask in ROLES["mask"])]:
        raise RequestError(f"there is no mask in {missing[0]!r}", hint=f"write {own} for a word")
    answers = model.predict([{"text": text} for text in texts], num_best=options.num_best)
    for text, answer in zip(texts, answers, strict=True):
        if not answer["masks"]:
            raise RequestError(
                f"the mask in {reprlib.repr(text)} lies beyond the {model.setting.max_tokens} "
                "tokens that the model reads"
            )
    _records.warn_of_cuts(answers, len(answers))
    for answer in answers:
        if options.json:
            _records.write_json(answer["masks"])
            continue
        sys.stdout.write(answer["prediction"] + "\n")
        for best in answer["masks"]:
            row = "  ".join(f"{item['token']} {item['probability']:.1%}" for item in best)
            sys.stdout.write(f"  {row}\n")
    return 0
