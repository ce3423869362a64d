"""Go on with a text: draw what comes next, or search for what is most probable.

headway generate run/model "The sea was"
headway generate run/model "The sea was" --max-new-tokens 50 --temperature 0
headway generate run/model "ROMEO:" --num-samples 3 --stop JULIET:
echo "The sea was" | headway generate run/model --json

A temperature of 0 always takes the most probable token; the same seed writes the same text.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    skip_bad: bool = False
    """Answer texts that cannot be gone on with by {"error": ...} instead of stopping."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    json: bool = False
    """Print one JSON object for each continuation: prompt, text, tokens, log_probability."""


# What chooses among tokens that are drawn, and means nothing to a search.
_DRAWING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def run(options: Options) -> None:
    """Generate and print, piece by piece."""
    model = _records.open_model(options.model, precision=options.precision, packed=True)
    settings = _settings(options, vars(model.task))
    texts = _records.read_texts(
        options.prompts,
        "go on with",
        skip_bad=options.skip_bad,
        hint='give a text, "" begins a new one',
    )
    # A setting that is wrong is wrong for every text.
    model.stream("", **settings)
    texts.check(lambda text: model.stream(text, **settings))
    seeds = range(options.seed, options.seed + options.num_samples)
    usable = texts.usable.values()
    answers = (
        [(text, model.stream(text, sampling_seed=seed, **settings)) for seed in seeds]
        for text in usable
    )
    texts.answer_all(answers, _Writer(as_json=options.json).write, as_json=options.json)


def _settings(options: Options, own: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of decoding that were asked for.

    Args:
        options: Of the command line.
        own: The model's own, where none are asked for.
    Raises:
        ConfigError: for those that would have no effect beside others.
    """
    if options.num_samples < 1:
        raise ConfigError(f"--num-samples is {options.num_samples}, but at least 1 is needed")
    settings = _records.given(options, "max_new_tokens", *_DRAWING, "num_beams")
    used = {**own, **settings}
    is_search = used.get("num_beams", 1) > 1
    name = "num_beams" if is_search else "temperature"
    what = f"{_records.flag_of(name)} {used.get(name, 1):g}"
    hint = "" if name in settings else f"That is the model's own; {_records.flag_of(name)} 1 draws"
    if idle := [name for name in _DRAWING if name in settings] if is_search else []:
        flags = ", ".join(map(_records.flag_of, idle))
        raise ConfigError(
            f"{what} searches and draws nothing: {flags} would have no effect", hint=hint
        )
    if options.num_samples > 1 and (is_search or used.get("temperature") == 0):
        raise ConfigError(
            f"--num-samples is {options.num_samples}, but {what} gives one answer", hint=hint
        )
    return settings | ({"stop": options.stop} if options.stop else {})


@dataclass
class _Writer:
    """Writes continuations as they come, with a line between two."""

    as_json: bool
    is_first: bool = True

    def write(self, samples: list[tuple[str, Any]]) -> None:
        """Write all samples of a prompt."""
        for prompt, stream in samples:
            if self.as_json:
                answer = stream.result()
                text = answer.pop("prediction")
                _records.write({"prompt": prompt, "text": text, **answer})
                continue
            sys.stdout.write(prompt if self.is_first else f"\n{'-' * 20}\n{prompt}")
            self.is_first = False
            for piece in stream:
                sys.stdout.write(piece)
                sys.stdout.flush()
            sys.stdout.write("\n")
