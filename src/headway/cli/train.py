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
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from headway import recipe as recipes
from headway.cli import _records
from headway.cli._options import TakesRecipe
from headway.errors import ConfigError

if TYPE_CHECKING:
    from headway.train.events import Event

    Runs = Iterable[tuple[Path, Iterator[Event]]]


@dataclass(frozen=True)
class Options(TakesRecipe):
    """Options of `headway train`."""

    recipe: tyro.conf.Positional[str | None] = None
    """Recipe file, or the name of a shipped recipe."""
    out: Path | None = None
    """Directory of the run; must be new or empty. By default runs/RECIPE."""
    resume: Path | None = None
    """Run to go on with; only training.steps or training.epochs may be changed."""
    seeds: int = 1
    """Runs with as many seeds, one after the other: mean, spread, and the best model kept."""
    json: bool = False
    """Print every event as one JSON object per line."""


def run(options: Options) -> None:
    """Train, show progress, and draw the report at the end."""
    if (options.recipe is None) == (options.resume is None):
        raise ConfigError("give either a recipe or --resume RUN", hint="see headway train --help")
    from headway.cli._progress import show
    from headway.train.seeds import is_seeds

    run_dir, runs = _start(options) if options.resume is None else _resume(options, options.resume)
    for own_dir, events in runs:
        is_seed = own_dir != run_dir
        if is_seed:
            sys.stderr.write(f"{own_dir}\n")
        show(events, own_dir, as_json=options.json, quiet=is_seed)
    if is_seeds(run_dir):
        _show_seeds(run_dir, options)


def _start(options: Options) -> tuple[Path, Runs]:
    from headway.train.run import train
    from headway.train.seeds import train_seeds

    path = recipes.find(options.recipe or "")
    run_dir = options.out or Path("runs") / path.stem
    recipe = recipes.read(path, options.overrides)
    if options.seeds != 1:
        return run_dir, train_seeds(recipe, run_dir, count=options.seeds)
    return run_dir, [(run_dir, train(recipe, run_dir))]


def _resume(options: Options, run_dir: Path) -> tuple[Path, Runs]:
    from headway.train.run import resume
    from headway.train.seeds import is_seeds, resume_seeds

    length = _length_only(options.overrides)
    if options.out is not None:
        raise ConfigError("--out cannot be changed when a run is resumed")
    if not is_seeds(run_dir):
        return run_dir, [(run_dir, resume(run_dir, length=length))]
    if length:
        raise ConfigError("the length of several seeds cannot be changed")
    return run_dir, resume_seeds(run_dir)


def _show_seeds(run_dir: Path, options: Options) -> None:
    """Say what the runs of several seeds came to."""
    from headway.train.seeds import summarize

    summary = summarize(run_dir)
    if options.json:
        _records.write({"event": "seeds", **dataclasses.asdict(summary)})
        return
    for name, score in summary.scores.items():
        values = "  ".join(f"{scores[name]:.2f}" for scores in summary.seeds.values())
        sys.stderr.write(
            f"{name:<14} {score.mean:8.2f} +- {score.deviation:.2f}, mean between {score.low:.2f} "
            f"and {score.high:.2f}   ({values})\n"
        )
    sys.stderr.write(f"best by {summary.score_name}: seed {summary.best_seed}\n")
    sys.stdout.write(f"{run_dir / 'model'}\n")


def _length_only(overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    names = [f"{section}.{key}" for section, keys in overrides.items() for key in keys]
    others = [name for name in names if name not in ("training.steps", "training.epochs")]
    if others:
        raise ConfigError(
            f"{', '.join(others)} cannot be changed when a run is resumed",
            hint="only training.steps and training.epochs can; start a new run for the rest",
        )
    return dict(overrides.get("training", {}))
