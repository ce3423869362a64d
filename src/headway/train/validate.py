"""How a run scores its model on the validation data, and what makes one model better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from headway.data.read import Records
from headway.tasks._model import Model
from headway.tasks._task import Encoded, Tunable
from headway.train.evaluate import Evaluation, evaluate

# Scores that are better when they are smaller.
FALLING = ("loss", "perplexity", "bits_per_byte")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a model is scored on, and how.

    Args:
        model: Scored as it is at that time; its task may be tuned.
        examples: Validation examples; None where there are none.
        rows: Their records, where the task has records.
        score_name: What chooses the best model.
        decoding: Fields of the task that the scores while training change.
        precision: Of the predictions; losses are in single precision.
        stopping: Asked now and then; True gives up.
    """

    model: Model
    examples: Encoded | None
    rows: Records | None
    score_name: str
    decoding: Mapping[str, Any]
    precision: str
    stopping: Callable[[], bool]

    def score(self) -> Evaluation:
        """Score the model; settings of its task that are best chosen on such data are chosen.

        Raises:
            Interrupted: if `stopping` asked for it.
        """
        result = self._score()
        task = self.model.task
        if not (isinstance(task, Tunable) and result.predictions and self.rows is not None):
            return result
        tuned = task.tuned(result.predictions, self.rows.rows)
        if tuned == task:
            return result
        self.model.task = tuned
        return self._score()

    def _score(self) -> Evaluation:
        # Some settings are chosen by what is answered, whatever chooses the model.
        is_tuned = isinstance(self.model.task, Tunable) and self.rows is not None
        wants_predictions = self.score_name not in FALLING or is_tuned
        fast = self.model.to_precision(self.precision) if wants_predictions else self.model
        return evaluate(
            fast,
            [] if self.rows is None else self.rows.rows,
            examples=self.examples,
            scorer=self.model,
            predicting=wants_predictions,
            settings=self.decoding,
            stopping=self.stopping,
        )

    def value(self, result: Evaluation) -> float:
        """Give the score that chooses the best model, so that higher is better."""
        if self.score_name == "loss":
            return -sum(result.losses.values())
        value = result.scores[self.score_name]
        return -value if self.score_name in FALLING else value
