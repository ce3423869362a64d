"""Train a model from a recipe, or go on with a run.

headway train multi30k-transformer --data.train train.de train.en --data.valid valid.de valid.en
headway train my.toml --out run --training.peak-lr 3e-4
headway train --resume run

RECIPE is a TOML file or the name of a shipped recipe (headway recipes lists them). Every key of a
recipe is a flag. Ctrl-C saves a checkpoint and exits with 75.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from headway import recipe as recipes
from headway.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """Options of `headway train`."""

    recipe: Annotated[str | None, tyro.conf.Positional] = None
    """Recipe file, or the name of a shipped recipe."""
    out: Path | None = None
    """Directory of the run; must be new or empty. By default runs/RECIPE."""
    resume: Path | None = None
    """Run to go on with; only training.steps or training.epochs may be changed."""
    json: bool = False
    """Print every event as one JSON object per line."""
    overrides: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Keys of the recipe given as flags."""


def run(options: Options) -> int:
    """Train, show progress, and draw the report at the end."""
    if (options.recipe is None) == (options.resume is None):
        raise ConfigError("give either a recipe or --resume RUN", hint="see headway train --help")
    if options.resume is not None:
        length = _length_only(options.overrides)
        if options.out is not None:
            raise ConfigError("--out cannot be changed when a run is resumed")
        run_dir = options.resume
        from headway.train.run import resume

        events = resume(run_dir, length=length)
    else:
        path = recipes.find(options.recipe or "")
        run_dir = options.out or Path("runs") / path.stem
        recipe = recipes.read(path, options.overrides)
        from headway.train.run import train

        events = train(recipe, run_dir)
    from headway.cli._progress import show

    show(events, run_dir, as_json=options.json)
    return 0


def _length_only(overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    names = [f"{section}.{key}" for section, keys in overrides.items() for key in keys]
    others = [name for name in names if name not in ("training.steps", "training.epochs")]
    if others:
        raise ConfigError(
            f"{', '.join(others)} cannot be changed when a run is resumed",
            hint="only training.steps and training.epochs can; start a new run for the rest",
        )
    return dict(overrides.get("training", {}))
