"""What tasks share that give a row its class, or its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.errors import DataError
from headway.metrics.baseline import BAG_OF_WORDS, predict_classes, predict_several
from headway.metrics.classes import ClassScore, class_scores, compare_classes
from headway.metrics.intervals import Statistics
from headway.tasks._labels import label_names, order_labels
from headway.tasks._task import Answer, Answers, Baseline, Record, Rows, Setting
from headway.tasks._texts import OnTexts, class_answers, needed

# Classes that a message names.
_MOST_SHOWN = 8


class GivesClasses(OnTexts):
    """One class of each row; with `multi_label` any number of them, each decided alone."""

    multi_label: bool = False
    threshold: float = 0.5

    loss_name: ClassVar[str] = "class"
    weighs_classes: ClassVar[bool] = True

    def find_labels(self, rows: Rows) -> tuple[str, ...]:
        """List the classes of the training rows."""
        labels = order_labels(name for row in rows for name in self._names(row))
        if rows and not labels:
            raise DataError("no row has any class", hint="is it the right column of labels?")
        return labels

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row's label; None if nothing is."""
        try:
            names = self._names(row)
        except ValueError as error:
            return str(error)
        if labels is None:
            return None
        if unknown := [name for name in names if name not in labels]:
            more = ", ..." if len(labels) > _MOST_SHOWN else ""
            shown = ", ".join(labels[:_MOST_SHOWN]) + more
            return f"label {unknown[0]!r} is none of the classes in training ({shown})"
        return None

    def _names(self, row: Record) -> list[str]:
        return label_names(row.get("label"), several=self.multi_label)

    def target(self, example: Example, row: Record, setting: Setting) -> Example:
        """Give an example its class, or classes."""
        classes = tuple(setting.places[name] for name in self._names(row))
        if self.multi_label:
            return replace(example, classes=classes)
        return replace(example, label=classes[0])

    def count(self, batch: Batch) -> float:
        """Count the rows, by weight; with several classes a row, the decisions."""
        if self.multi_label:
            return float(needed(batch.document_labels).numel())
        return float(needed(batch.document_weights).sum())

    def total(self, logits: Tensor, batch: Batch) -> Tensor:
        """Sum the cross-entropy of the classes, in nats."""
        labels = needed(batch.document_labels)
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        weights = needed(batch.document_weights)
        return (F.cross_entropy(logits, labels, reduction="none") * weights).sum()

    def answers(self, logits: Tensor, rows: Rows, setting: Setting) -> list[Answer]:
        """Give the most probable class, or with `multi_label` those above the threshold.

        Returns:
            answers: For each record "prediction", a class or a list of them, and "probabilities",
                class -> p.
        """
        if not self.multi_label:
            return class_answers(logits.softmax(-1), setting.labels)
        answers = class_answers(logits.sigmoid(), setting.labels)
        for answer in answers:
            probs = answer["probabilities"].items()
            answer["prediction"] = [name for name, p in probs if p >= self.threshold]
        return answers

    def baseline(self, train: Rows, rows: Rows) -> Baseline:
        """Answer rows by a bag of their words."""
        names = [self._names(row) for row in train]
        texts, asked = ([" ".join(self.texts([row])) for row in part] for part in (train, rows))
        if self.multi_label:
            found = predict_several(texts, names, asked)
        else:
            found = predict_classes(texts, [name for (name,) in names], asked)
        return Baseline(name=BAG_OF_WORDS, predictions=[{"prediction": said} for said in found])

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare classes: compute the scores that `metrics` names.

        Of one class a row, the micro averages are all the accuracy.
        """
        return compare_classes(*self._both_sides(predictions, rows), self.metrics)

    def class_scores(self, predictions: Answers, rows: Rows) -> list[ClassScore]:
        """Score every class apart."""
        return class_scores(*self._both_sides(predictions, rows))

    def _both_sides(
        self, predictions: Answers, rows: Rows
    ) -> tuple[list[list[str]], list[list[str]], tuple[str, ...]]:
        """Give the classes said, those wanted, and the names of all of them."""
        wanted = [self._names(row) for row in rows]
        said = [answer["prediction"] for answer in predictions]
        said = said if self.multi_label else [[name] for name in said]
        names = order_labels(name for side in (wanted, said) for row in side for name in row)
        return said, wanted, names
