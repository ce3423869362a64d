"""Say how probable texts are to a language model, token by token.

headway score run/model "The sea was calm."
headway score run/model "calm" "angry" --prompt "The sea was "
headway score run/model - --json < texts.txt

With --prompt each text is scored as what follows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records


@dataclass(frozen=True)
class Options:
    """Options of `headway score`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts; none, or -, reads them from standard input, one a line."""
    prompt: str = ""
    """What stands before every text, and is not scored."""
    precision: str = "fp32"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    skip_bad: bool = False
    """Answer texts that cannot be scored with {"error": ...} instead of stopping."""
    json: bool = False
    """Print one JSON object per text: log_probability, perplexity, tokens, log_probabilities."""


def run(options: Options) -> None:
    """Score and print."""
    texts = _records.read_texts(options.texts, "score", skip_bad=options.skip_bad)
    model = _records.open_model(options.model, precision=options.precision, packed=True)
    texts.check(partial(model.check_score, prompt=options.prompt))
    asked = list(texts.usable.values())
    found = zip(asked, model.score(asked, prompt=options.prompt), strict=True)
    texts.answer_all(found, partial(_write, as_json=options.json), as_json=options.json)


def _write(scored: tuple[str, Mapping[str, Any]], *, as_json: bool) -> None:
    text, found = scored
    # Nothing has no perplexity.
    mean = found["log_probability"] / len(found["tokens"]) if found["tokens"] else None
    perplexity = None if mean is None else round(math.exp(-mean), 4)
    shown = "-" if perplexity is None else f"{perplexity:.2f}"
    line = f"{found['log_probability']:.4f}\t{shown}\t{' '.join(text.split(chr(10)))}"
    _records.write({"text": text, **found, "perplexity": perplexity}, line, as_json=as_json)
