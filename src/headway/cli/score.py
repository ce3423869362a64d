"""Say how probable texts are to a language model, token by token.

headway score run/model "The sea was calm."
headway score run/model "calm" "angry" --prompt "The sea was "
headway score run/model - --json < texts.txt

With --prompt each text is scored as what follows it.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

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
    json: bool = False
    """Print one JSON object per text: log_probability, perplexity, tokens, log_probabilities."""


def run(options: Options) -> None:
    """Score and print."""
    texts = _records.read_texts(options.texts, "score")
    model = _records.open_model(options.model, precision=options.precision, packed=True)
    for text, found in zip(texts, model.score(texts, prompt=options.prompt), strict=True):
        log_probs = found["log_probabilities"]
        mean = found["log_probability"] / max(1, len(log_probs))
        if options.json:
            _records.write({"text": text, **found, "perplexity": round(math.exp(-mean), 4)})
            continue
        shown = " ".join(text.split("\n"))
        sys.stdout.write(f"{found['log_probability']:.4f}\t{math.exp(-mean):.2f}\t{shown}\n")
