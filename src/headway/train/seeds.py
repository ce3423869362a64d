"""One recipe with several seeds: how far chance moves the result, and the best model kept.

    for run_dir, events in train_seeds(recipe, Path("run"), count=5):
        ...
    summary = summarize(Path("run"))

Each seed is a run of its own, in `seed-0`, `seed-1`, ... below the directory.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headway import recipe as recipes
from headway.data.lines import STDIN
from headway.errors import ConfigError, FileError
from headway.files.manifest import MANIFEST, read_json, write_folder, write_json, write_text
from headway.metrics.intervals import MeanInterval, mean_interval
from headway.sections import Recipe
from headway.train.events import Event
from headway.train.guard import Stopped, check_free, run_lock
from headway.train.prepare import change
from headway.train.run import resume, train
from headway.train.validate import rising

_LIST = "seeds.json"
# Not recipe.toml: the directory is no single run.
_RECIPE = "seeds.toml"
_MOST_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class SeedSummary:
    """What several seeds of a recipe came to.

    Args:
        score_name: What the best seed was chosen by.
        best_seed: Whose model is kept.
        seeds: Seed -> score name -> value, on the validation data.
        scores: Score name -> mean, spread and interval over the seeds.
    """

    score_name: str
    best_seed: int
    seeds: dict[int, dict[str, float]]
    scores: dict[str, MeanInterval]


def is_seeds(run_dir: Path) -> bool:
    """Say whether a directory holds the runs of several seeds."""
    return (run_dir / _LIST).is_file()


def train_seeds(
    recipe: Recipe, run_dir: Path, *, count: int
) -> Iterator[tuple[Path, Iterator[Event]]]:
    """Run a recipe with `training.seed` and the seeds after it.

    Yields:
        run_dir, events: Of each seed; its events must be consumed before the next one is asked for.
    Raises:
        FileError: if the directory is not empty, or cannot be written.
    """
    if not 2 <= count <= _MOST_SEEDS:
        raise ConfigError(f"--seeds is {count}, but must be from 2 to {_MOST_SEEDS:,}")
    check_free(run_dir)
    if not recipe.data.valid:
        raise FileError(
            "several seeds are compared on validation data, but there is none",
            hint="name it with --data.valid",
        )
    if STDIN in (*recipe.data.train, *recipe.data.valid):
        raise ConfigError("several seeds read the data several times: standard input is read once")
    first = recipe.training.seed
    for seed in range(first, first + count):
        seed_dir = run_dir / f"seed-{seed}"
        events = train(change(recipe, training={"seed": seed}), seed_dir)
        if seed == first:
            events = _begin(events, run_dir, recipe, list(range(first, first + count)))
        yield seed_dir, _hint_at(run_dir, events)


def _begin(
    events: Iterator[Event], run_dir: Path, recipe: Recipe, seeds: list[int]
) -> Iterator[Event]:
    """Write the list of seeds down once the first of them runs: bad input leaves nothing behind."""
    first = next(events)
    write_text(run_dir / _RECIPE, recipes.write(recipe))
    write_json(run_dir / _LIST, {"seeds": seeds})
    yield first
    yield from events


def _hint_at(run_dir: Path, events: Iterator[Event]) -> Iterator[Event]:
    """Let a run that is stopped say how to go on with all of them."""
    try:
        yield from events
    except Stopped as error:
        hint = f"go on with: headway train --resume {run_dir}"
        raise Stopped(error.message, hint=hint) from error


def resume_seeds(run_dir: Path) -> Iterator[tuple[Path, Iterator[Event]]]:
    """Go on where several seeds were stopped; what is finished is left as it is."""
    if "best_seed" in read_json(run_dir / _LIST):
        return
    for seed in _seeds(run_dir):
        seed_dir = run_dir / f"seed-{seed}"
        if (seed_dir / "recipe.toml").is_file():
            yield seed_dir, _hint_at(run_dir, resume(seed_dir))
            continue
        # What a kill left before there was a recipe holds nothing yet.
        shutil.rmtree(seed_dir, ignore_errors=True)
        recipe = recipes.read(run_dir / _RECIPE, {"training": {"seed": seed}})
        yield seed_dir, _hint_at(run_dir, train(recipe, seed_dir))


def _seeds(run_dir: Path) -> list[int]:
    seeds = read_json(run_dir / _LIST).get("seeds")
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise FileError(f"{_LIST} is damaged", where=str(run_dir))
    return seeds


def summarize(run_dir: Path) -> SeedSummary:
    """Compare the seeds, keep the best model as `model/`, and write the summary down."""
    with run_lock(run_dir):
        found: dict[int, dict[str, float]] = {}
        name = ""
        for seed in _seeds(run_dir):
            seed_dir = run_dir / f"seed-{seed}"
            training = read_json(seed_dir / "model" / "headway.json").get("training") or {}
            found[seed] = training["valid"]
            name = recipes.read(seed_dir / "recipe.toml").playbook.choose_by
        best = max(found, key=lambda seed: (rising(name, found[seed][name]), -seed))
        scores = {
            score: mean_interval([values[score] for values in found.values()])
            for score in found[best]
        }
        source = run_dir / f"seed-{best}" / "model"
        write_folder(run_dir / "model", lambda draft: _copy(source, draft))
        summary = SeedSummary(score_name=name, best_seed=best, seeds=found, scores=scores)
        values = dataclasses.asdict(summary)
        values["by_seed"] = values.pop("seeds")
        write_json(run_dir / _LIST, {"seeds": list(found), **values})
        for seed in found:
            # What a finished run does not need any more is most of what it takes on the disk.
            shutil.rmtree(run_dir / f"seed-{seed}" / "checkpoints", ignore_errors=True)
    return summary


def _copy(source: Path, target: Path) -> None:
    for file in source.iterdir():
        if file.name != MANIFEST:
            shutil.copyfile(file, target / file.name)
