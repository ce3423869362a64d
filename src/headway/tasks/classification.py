"""Sequence classification: say to which class a text, or a pair of texts, belongs.

Sentiment, topics, entailment, paraphrases. With several labels a row each class is decided alone.

Needs: records with `text` and `label`, and `text_pair` where two texts are compared. A label is a
word or a number; with `multi-label` a list, or in a table words with "|" between them.
Compare: for a number in place of a class, regression; for a class of each word, tagging.

Example:
    >>> task = Classification()
    >>> task.find_labels([{"text": "good", "label": "yes"}, {"text": "bad", "label": "no"}])
    ('no', 'yes')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from headway.data.batch import Batch, Example
from headway.errors import DataError
from headway.layers.losses import Loss
from headway.metrics.baseline import BAG_OF_WORDS, predict_classes, predict_several
from headway.metrics.classes import (
    ClassScore,
    class_scores,
    compare_classes,
)
from headway.metrics.intervals import Statistics
from headway.tasks._labels import label_names, order_labels
from headway.tasks._task import (
    NO_CHANCE,
    Baseline,
    Body,
    Draw,
    Encoded,
    Head,
    Progress,
    Record,
    Setting,
)
from headway.tasks._texts import (
    OnEncoder,
    class_loss,
    collate_texts,
    device_of,
    document_labels,
    encode_texts,
    make_pooled_head,
    mean_of_groups,
    score_texts,
    text_problems,
    texts_of,
    was_cut,
    weights_of,
)

_RATIOS = ("precision", "recall")
_SHARES = tuple(f"macro_{name}" for name in _RATIOS)


@dataclass(frozen=True, kw_only=True)
class Classification(OnEncoder):
    """Learn p(class | text)."""

    multi_label: bool = False
    """A row may have several classes, or none."""
    pooling: str = "published"
    """published (the family's own, of the first token), mean, attention or attention-fixed."""
    dropout: float = 0.1
    """Rate on the pooled vector."""
    max_tokens: int = 512
    """Length of an example, special tokens included."""
    keep: str = "head"
    """What stays of a longer text: head; head-tail (its first quarter and its end); or all of it in
    windows, whose results are averaged."""
    threshold: float = 0.5
    """With multi-label, the probability from which a class is given."""

    columns: ClassVar[tuple[str, ...]] = ("text", "label")
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    optional: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[tuple[str, ...]] = ("sequence", "body")
    weighs_classes: ClassVar[bool] = True

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, the one that chooses the best model first."""
        if self.multi_label:
            return ("micro_f1", "macro_f1", *_SHARES, *(f"micro_{name}" for name in _RATIOS))
        return ("accuracy", "macro_f1", "matthews", *_SHARES)

    @property
    def head(self) -> str:
        """A published classifier, or one on top of the body alone."""
        return "sequence" if self.pooling == "published" else "body"

    @property
    def may_be_blank(self) -> tuple[str, ...]:
        """Where a row may have several classes it may have none."""
        return ("label",) if self.multi_label else ()

    @staticmethod
    def settings_of(
        kind: str, architecture: str, num_labels: int, problem: str
    ) -> dict[str, Any] | None:
        """Work with a published classifier as it is."""
        if kind != "sequence" or problem == "regression" or (num_labels == 1 and not problem):
            return None
        return {"multi_label": problem == "multi_label_classification"}

    @property
    def problem_type(self) -> str:
        """Say what published configs call this."""
        return f"{'multi' if self.multi_label else 'single'}_label_classification"

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build pooling and classifier."""
        return make_pooled_head(body, len(labels), pooling=self.pooling, dropout=self.dropout)

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        problems = text_problems(self.pooling, self.dropout, self.max_tokens, self.keep)
        if not 0 < self.threshold < 1:
            problems.append(f"threshold is {self.threshold}, but must be between 0 and 1")
        return problems

    def texts(self, rows: Sequence[Record]) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        return texts_of(rows)

    def find_labels(self, rows: Sequence[Record]) -> tuple[str, ...]:
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
            shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
            return f"label {unknown[0]!r} is none of the classes in training ({shown})"
        return None

    def _names(self, row: Record) -> list[str]:
        return label_names(row.get("label"), several=self.multi_label)

    def encode(self, rows: Sequence[Record], setting: Setting) -> Encoded:
        """Turn records into examples."""
        encoded = encode_texts(rows, setting, max_tokens=self.max_tokens, keep=self.keep)
        number = {name: place for place, name in enumerate(setting.labels)}
        examples = []
        for example, row in zip(encoded.examples, rows, strict=True):
            if "label" not in row:
                examples.append(example)
            elif self.multi_label:
                places = tuple(number[name] for name in self._names(row))
                examples.append(replace(example, classes=places))
            else:
                examples.append(replace(example, label=number[self._names(row)[0]]))
        return replace(encoded, examples=examples)

    def collate(
        self, rows: Sequence[Sequence[Example]], setting: Setting, draw: Draw = NO_CHANCE
    ) -> Batch:
        """Lay examples out in rows, with their classes."""
        batch = collate_texts(rows, setting)
        examples = [example for row in rows for example in row]
        if not self.multi_label:
            return replace(
                batch,
                document_labels=torch.tensor([example.label or 0 for example in examples]),
                document_weights=torch.tensor([example.weight for example in examples]),
            )
        wanted = torch.zeros(len(examples), len(setting.labels))
        for place, example in enumerate(examples):
            wanted[place, list(example.classes)] = 1
        return replace(batch, document_labels=wanted)

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the texts, by weight; with several classes a row, the decisions."""
        labels = document_labels(batch)
        if self.multi_label:
            return {"class": float(labels.numel())}
        return {"class": float(weights_of(batch).sum())}

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Sum the cross-entropy of the classes, in nats."""
        logits, labels = self._logits(body, head, batch), document_labels(batch)
        if self.multi_label:
            total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
            return (Loss(name="class", total=total, count=float(labels.numel())),)
        return (class_loss(logits, batch),)

    def _logits(self, body: Body, head: Head, batch: Batch) -> Tensor:
        return mean_of_groups(head(body, body.encode(batch.source)).float(), batch)

    def predict(
        self,
        body: Body,
        head: Head,
        rows: Sequence[Record],
        setting: Setting,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Classify texts.

        Returns:
            answers: For each record "prediction", the most probable class (with multi_label the
                list of those above the threshold), and "probabilities", class -> p. "cut" where
                the text is longer than an example.
        """
        asked = [{key: row[key] for key in row if key != "label"} for row in rows]
        encoded = encode_texts(asked, setting, max_tokens=self.max_tokens, keep=self.keep)
        cut = was_cut(encoded)
        answers: list[dict[str, Any]] = [{} for _ in rows]
        found = score_texts(
            encoded,
            lambda batch: self._logits(body, head, batch),
            setting,
            device_of(body),
            progress,
        )
        for scored in found:
            probs = scored.logits.sigmoid() if self.multi_label else scored.logits.softmax(-1)
            for place, row in zip(scored.places, probs.tolist(), strict=True):
                named = dict(zip(setting.labels, (round(p, 6) for p in row), strict=True))
                answers[place] = {"prediction": self._choose(named), "probabilities": named}
                if cut[place]:
                    answers[place]["cut"] = ["source"]
        return answers

    def _choose(self, probs: Mapping[str, float]) -> str | list[str]:
        if self.multi_label:
            return [name for name, p in probs.items() if p >= self.threshold]
        return max(probs, key=probs.__getitem__)

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> Baseline:
        """Answer rows by a bag of their words."""
        names = [self._names(row) for row in train]
        texts, asked = ([" ".join(texts_of([row])) for row in part] for part in (train, rows))
        if self.multi_label:
            found = [{"prediction": said} for said in predict_several(texts, names, asked)]
        else:
            wanted = [row[0] for row in names]
            found = [{"prediction": said} for said in predict_classes(texts, wanted, asked)]
        return Baseline(name=BAG_OF_WORDS, predictions=found)

    def statistics(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[Statistics]:
        """Compare classes: accuracy, Matthews' correlation; F1, precision and recall.

        Of one class a row, the micro averages are all the accuracy.
        """
        return compare_classes(*self._both_sides(predictions, rows), self.metrics)

    def class_scores(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[ClassScore]:
        """Score every class apart."""
        return class_scores(*self._both_sides(predictions, rows))

    def _both_sides(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> tuple[list[list[str]], list[list[str]], tuple[str, ...]]:
        """Give the classes said, those wanted, and the names of all of them."""
        wanted = [self._names(row) for row in rows]
        said = [
            answer["prediction"] if self.multi_label else [answer["prediction"]]
            for answer in predictions
        ]
        names = order_labels(name for side in (wanted, said) for row in side for name in row)
        return said, wanted, names

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give texts whose class is the word that they repeat."""
        words = ("red", "blue", "black")
        return [
            {"text": " ".join([words[i % 3]] * (2 + i % 4) + ["one"]), "label": words[i % 3]}
            for i in range(48)
        ]
