"""How a run scores its model on the validation data, and what makes one model better."""

from __future__ import annotations

from collections.abc import Callable

from headway.tasks._task import Tunable
from headway.train.evaluate import Evaluation, evaluate
from headway.train.prepare import Prepared

# Scores that are better when they are smaller.
FALLING = ("loss", "perplexity", "bits_per_byte")


def rising(score_name: str, value: float) -> float:
    """Turn a score round, if need be, so that higher is better; or turn it back."""
    return -value if score_name in FALLING else value


def validate(prepared: Prepared, precision: str, stopping: Callable[[], bool]) -> Evaluation:
    """Score a model; settings of its task that are best chosen on such data are chosen.

    Args:
        prepared: The model, scored as it is now, and its examples; its task may be tuned.
        precision: Of the predictions; losses are in single precision.
        stopping: Asked now and then; True gives up.
    Raises:
        Interrupted: if `stopping` asked for it.
    """
    model, examples = prepared.model, prepared.examples
    rows = [] if examples.rows is None else examples.rows.rows
    # Some settings are chosen by what is answered, whatever chooses the model.
    is_tuned = isinstance(model.task, Tunable) and examples.rows is not None

    def score() -> Evaluation:
        return evaluate(
            model,
            rows,
            examples=examples.valid,
            precision=precision,
            predicting=is_tuned or prepared.recipe.playbook.choose_by not in FALLING,
            settings=prepared.decoding,
            stopping=stopping,
        )

    result = score()
    if not (isinstance(model.task, Tunable) and is_tuned and result.predictions):
        return result
    tuned = model.task.tuned(result.predictions, rows)
    if tuned == model.task:
        return result
    model.task = tuned
    return score()
