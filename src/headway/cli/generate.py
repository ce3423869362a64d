"""Go on with a text: draw what comes next, or search for what is most probable.

headway generate run/model "The sea was"
headway generate run/model "The sea was" --max-new-tokens 50 --temperature 0
headway generate run/model "ROMEO:" --num-samples 3 --stop JULIET:
echo "The sea was" | headway generate run/model --json

A temperature of 0 always takes the most probable token; the same seed writes the same text.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from headway.cli import _records
from headway.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """Options of `headway generate`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    prompts: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts to go on with; none, or -, reads them from standard input, one a line."""
    max_new_tokens: int | None = None
    """Tokens at most; none: 200, or as many as the model has room for."""
    temperature: float | None = None
    """0 takes the most probable token, 1 draws as the model says; none takes the model's own."""
    top_k: int | None = None
    """Draw from so many best tokens only; 0: from all."""
    top_p: float | None = None
    """Draw from the fewest tokens that together have this probability."""
    min_p: float | None = None
    """Draw only tokens with this share of the best one's probability."""
    repetition_penalty: float | None = None
    """Above 1: tokens that were there become less probable."""
    num_beams: int | None = None
    """Beams of a search for the most probable continuation, in place of drawing."""
    stop: tuple[str, ...] = ()
    """Texts at which a continuation ends, left out of it; none takes the model's own."""
    num_samples: int = 1
    """Continuations of each text, with seeds one after the other."""
    seed: int = 0
    """What is drawn depends on it."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    json: bool = False
    """Print one JSON object for each continuation: prompt, text, tokens, log_probability."""


_SETTINGS = (
    *("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    "num_beams",
)


def run(options: Options) -> None:
    """Generate and print, piece by piece."""
    if options.num_samples < 1:
        raise ConfigError(f"--num-samples is {options.num_samples}, but at least 1 is needed")
    prompts = _records.read_texts(
        options.prompts, "go on with", hint='give a text, "" begins a new one'
    )
    model = _records.open_model(options.model, precision=options.precision, packed=True)
    given = {name: getattr(options, name) for name in _SETTINGS}
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {"stop": options.stop} if options.stop else {}
    for number, prompt in enumerate(prompts):
        for sample in range(options.num_samples):
            if (number or sample) and not options.json:
                sys.stdout.write("\n" + "-" * 20 + "\n")
            stream = model.stream(prompt, sampling_seed=options.seed + sample, **settings)
            if options.json:
                answer = stream.result()
                text = answer.pop("prediction")
                _records.write({"prompt": prompt, "text": text, **answer})
                continue
            sys.stdout.write(prompt)
            for piece in stream:
                sys.stdout.write(piece)
                sys.stdout.flush()
            sys.stdout.write("\n")
