"""Learn to read dates written in 59 locales, in about three minutes, from nothing.

headway quickstart

Babel's calendar data gives the dates ("fr dimanche 3 mars 2024"); a character-level network with
attention learns to write them as ISO 8601 ("2024-03-03"). No date string of the test set is in the
training set. At the end come ten examples and a report with what the network looked at.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway import recipe as recipes
from headway.errors import ConfigError, FileError

_NUM_EXAMPLES = 10
# Of the examples, so many are wrong ones, if there are any.
_NUM_WRONG = 3


@dataclass(frozen=True)
class Options:
    """Options of `headway quickstart`."""

    out: Path | None = None
    """Directory for data and run; by default quickstart, or quickstart-2 and so on."""
    num_train: int = 100_000
    """Training dates."""
    num_test: int = 5_000
    """Test dates."""
    seed: int = 0
    """Of the data and the training."""
    epochs: float | None = None
    """Passes over the training dates; none takes the recipe's."""


def run(options: Options) -> None:
    """Make the data, train, score, show."""
    from headway.cli._progress import show
    from headway.data.dates import count_ambiguous, generate_dates, write_dates
    from headway.train.guard import check_free
    from headway.train.run import train

    if min(options.num_train, options.num_test) < 1:
        raise ConfigError("--num-train and --num-test must be at least 1")
    started = time.monotonic()
    out = options.out or _free_folder()
    run_dir, data_dir = out / "run", out / "data"
    # A run is looked for first, as it can be gone on with.
    check_free(run_dir)
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise FileError(
            f"{data_dir} is not empty, and nothing in it is overwritten",
            hint="choose another --out",
        )
    data = {split: str(data_dir / f"{split}.jsonl") for split in ("train", "valid")}
    training: dict[str, Any] = {"seed": options.seed}
    if options.epochs is not None:
        training["epochs"] = options.epochs
    recipe = recipes.read(recipes.find("dates"), {"data": data, "training": training})
    splits = generate_dates(
        num_train=options.num_train, num_test=options.num_test, seed=options.seed
    )
    write_dates(data_dir, splits)
    _say(
        f"{len(splits.train):,} training dates in 59 locales, {len(splits.test):,} test dates; "
        f"{splits.ambiguous:,} ambiguous spellings were left out, and "
        f"{count_ambiguous(splits.train)} training texts mean different dates in different "
        "locales, which is why the locale stands in front"
    )
    report = show(train(recipe, run_dir), run_dir, quiet=True)
    _score(run_dir / "model", splits.test)
    _say(f"report with alignments: {report}")
    _say(f'model: {run_dir / "model"}; try: headway translate {run_dir / "model"} "en May 4, 1999"')
    _say(f"{time.monotonic() - started:.0f} seconds in all")


def _free_folder() -> Path:
    folders = [Path("quickstart"), *(Path(f"quickstart-{number}") for number in range(2, 1000))]
    return next((folder for folder in folders if not folder.exists()), folders[0])


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _score(model_dir: Path, rows: list[dict[str, str]]) -> None:
    from headway.tasks._load import load

    model = load(model_dir, precision="auto")
    predictions = model.translate([row["source"] for row in rows])
    pairs = list(zip(rows, predictions, strict=True))
    wrong = [pair for pair in pairs if pair[1] != pair[0]["target"]]
    right = [pair for pair in pairs if pair[1] == pair[0]["target"]]
    # Rows go round the locales in turn: a stride shows different ones.
    stride = max(1, len(right) // _NUM_EXAMPLES)
    shown = wrong[:_NUM_WRONG]
    shown += right[::stride][: _NUM_EXAMPLES - len(shown)]
    for row, prediction in shown:
        mark = "" if prediction == row["target"] else f"   wrong: {row['target']}"
        _say(f"  {row['source']}  ->  {prediction}{mark}")
    _say(f"exact match: {100 * len(right) / len(rows):.2f} %")
