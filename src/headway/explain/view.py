"""What a report draws from: the files of a run, its model, predictions for some rows."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from headway.data.leaks import Leak
from headway.data.read import BadRow
from headway.data.report import DataReport, SideReport, SplitReport
from headway.errors import DataError, FileError
from headway.explain.alignment import Alignment, align
from headway.explain.samples import Sample, predict_in_time, predict_samples, read_valid
from headway.explain.svg import spread
from headway.files.manifest import read_json
from headway.recipe import read as read_recipe
from headway.sections import Recipe
from headway.tasks._load import load
from headway.tasks._model import Model
from headway.train.log import read_jsonl

NUM_EXAMPLES = 10
# Predictions stop after so long; the rows done by then are what the report is about.
_PREDICTION_SECONDS = 5.0
# The same where an answer takes a single pass.
_ANSWER_SECONDS = 10.0
# A picture of one example is easiest to read at about this many tokens.
_GOOD_LENGTH = 11


class RunView:
    """What a report draws from; each part is read when it is first asked for.

    Args:
        run_dir: Directory of a run, finished or under way.
        max_rows: Validation rows predicted at most.
    """

    def __init__(self, run_dir: Path, max_rows: int) -> None:
        self.run_dir, self.max_rows = run_dir, max(1, max_rows)

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Give the recipe as resolved."""
        return read_recipe(self.run_dir / "recipe.toml")

    @functools.cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Give the rows of metrics.jsonl; steps that a resumed run repeated count once."""
        latest: dict[tuple[Any, bool], dict[str, Any]] = {}
        for row in read_jsonl(self.run_dir / "metrics.jsonl"):
            if isinstance(row.get("step"), int):
                latest[row["step"], "valid" in row] = row
        return sorted(latest.values(), key=lambda row: (row["step"], "valid" in row))

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Give the rows about training."""
        return [row for row in self.metrics if "valid" not in row]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Give the rows about validation."""
        return [row for row in self.metrics if "valid" in row]

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Say how the saved model was trained; empty as long as there is none."""
        path = self.run_dir / "model" / "headway.json"
        return read_json(path).get("training", {}) if path.is_file() else {}

    @functools.cached_property
    def model(self) -> Model:
        """Load the best model so far."""
        path = self.run_dir / "model"
        if not path.is_dir():
            raise FileError("no model is saved yet: the first evaluation saves one")
        return load(path)

    @functools.cached_property
    def samples(self) -> list[Sample]:
        """Predict rows spread over the validation data; the first ones are the examples."""
        rows = self.valid_rows
        chosen = spread(len(rows), self.max_rows)
        first = [chosen[place] for place in spread(len(chosen), NUM_EXAMPLES)]
        rest = [place for place in chosen if place not in set(first)]
        ordered = [rows[place] for place in (*first, *rest)]
        return predict_samples(self.model, ordered, seconds=_PREDICTION_SECONDS)

    @functools.cached_property
    def valid_rows(self) -> list[dict[str, Any]]:
        """Read the rows that the validation data has."""
        task = self.model.task
        return read_valid(self.recipe, task.columns, optional=task.optional)

    @functools.cached_property
    def answers(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Answer rows from all over the validation data until the time is over."""
        # The first rows of a sorted file are all of one class.
        order = np.random.default_rng(0).permutation(len(self.valid_rows))
        rows = [self.valid_rows[place] for place in order.tolist()]
        found = predict_in_time(self.model, rows, seconds=_ANSWER_SECONDS)
        return list(zip(rows, found, strict=False))

    @functools.cached_property
    def clearest(self) -> tuple[Sample, Alignment]:
        """Align the example that is easiest to read."""
        samples = [sample for sample in self.samples[:NUM_EXAMPLES] if sample.prediction]
        if not samples:
            raise DataError("no prediction has any text to draw")
        aligned = [(s, align(self.model, s.source, s.prediction)) for s in samples]
        return min(aligned, key=lambda pair: _distance_from_readable(pair[1]))


def _distance_from_readable(alignment: Alignment) -> float:
    lengths = (len(alignment.target_tokens), len(alignment.source_tokens))
    return abs(lengths[0] - _GOOD_LENGTH) + abs(lengths[1] - _GOOD_LENGTH) / 2


def read_data_report(path: Path) -> DataReport:
    """Read data.json back.

    Raises:
        FileError: if it is missing or damaged.
    """
    stored = read_json(path)
    try:
        return _rebuild(stored)
    except (KeyError, TypeError) as error:
        raise FileError(f"{path.name} is no data report: {error}") from error


def _rebuild(stored: dict[str, Any]) -> DataReport:
    splits = [
        SplitReport(
            **{
                **split,
                "sides": [SideReport(**side) for side in split["sides"]],
                "bad_examples": [BadRow(**row) for row in split["bad_examples"]],
            }
        )
        for split in stored["splits"]
    ]
    return DataReport(splits=splits, leaks=[Leak(**leak) for leak in stored["leaks"]])
