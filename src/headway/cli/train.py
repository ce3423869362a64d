"""Train a model from a recipe, or go on with a run.

headway train multi30k-transformer --data.train train.de train.en --data.valid valid.de valid.en
headway train my.toml --out run --training.peak-lr 3e-4
headway train classify --seeds 5 --model.path MODEL --data.train a.tsv --data.valid b.tsv
headway train --resume run

RECIPE is a TOML file or the name of a shipped recipe (headway recipes lists them). Every key of a
recipe is a flag. Ctrl-C saves a checkpoint and exits with 75.
"""

from __future__ import annotations

import dataclasses
import json as json_
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from headway import recipe as recipes
from headway.errors import ConfigError

if TYPE_CHECKING:
    from headway.train.events import Event


@dataclass(frozen=True)
class Options:
    """Options of `headway train`."""

    recipe: Annotated[str | None, tyro.conf.Positional] = None
    """Recipe file, or the name of a shipped recipe."""
    out: Path | None = None
    """Directory of the run; must be new or empty. By default runs/RECIPE."""
    resume: Path | None = None
    """Run to go on with; only training.steps or training.epochs may be changed."""
    seeds: int = 1
    """Runs with as many seeds, one after the other: mean, spread, and the best model kept."""
    json: bool = False
    """Print every event as one JSON object per line."""
    overrides: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Keys of the recipe given as flags."""


def run(options: Options) -> int:
    """Train, show progress, and draw the report at the end."""
    if (options.recipe is None) == (options.resume is None):
        raise ConfigError("give either a recipe or --resume RUN", hint="see headway train --help")
    return _start(options) if options.resume is None else _resume(options, options.resume)


def _start(options: Options) -> int:
    path = recipes.find(options.recipe or "")
    run_dir = options.out or Path("runs") / path.stem
    recipe = recipes.read(path, options.overrides)
    if options.seeds != 1:
        from headway.train.seeds import train_seeds

        return _show_seeds(train_seeds(recipe, run_dir, count=options.seeds), run_dir, options)
    from headway.cli._progress import show
    from headway.train.run import train

    show(train(recipe, run_dir), run_dir, as_json=options.json)
    return 0


def _resume(options: Options, run_dir: Path) -> int:
    length = _length_only(options.overrides)
    if options.out is not None:
        raise ConfigError("--out cannot be changed when a run is resumed")
    from headway.cli._progress import show
    from headway.train.run import resume
    from headway.train.seeds import is_seeds, resume_seeds

    if is_seeds(run_dir):
        if length:
            raise ConfigError("the length of several seeds cannot be changed")
        return _show_seeds(resume_seeds(run_dir), run_dir, options)
    show(resume(run_dir, length=length), run_dir, as_json=options.json)
    return 0


def _show_seeds(
    runs: Iterator[tuple[Path, Iterator[Event]]], run_dir: Path, options: Options
) -> int:
    """Show one run after the other, and what they came to."""
    from headway.cli._progress import show
    from headway.train.seeds import summarize

    for seed_dir, events in runs:
        sys.stderr.write(f"{seed_dir}\n")
        show(events, seed_dir, as_json=options.json, quiet=True)
    summary = summarize(run_dir)
    if options.json:
        values = {"event": "seeds", **dataclasses.asdict(summary)}
        sys.stdout.write(json_.dumps(values, ensure_ascii=False) + "\n")
        return 0
    for name, score in summary.scores.items():
        values = "  ".join(f"{scores[name]:.2f}" for scores in summary.seeds.values())
        sys.stderr.write(
            f"{name:<14} {score.mean:8.2f} +- {score.deviation:.2f}, mean between {score.low:.2f} "
            f"and {score.high:.2f}   ({values})\n"
        )
    sys.stderr.write(f"best by {summary.score_name}: seed {summary.best_seed}\n")
    sys.stdout.write(f"{run_dir / 'model'}\n")
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
