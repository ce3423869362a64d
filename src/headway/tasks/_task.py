"""What a model learns to do: the values and the interface that every task shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from headway.data.batch import Batch, Example
from headway.layers.losses import Loss
from headway.metrics.intervals import Statistics
from headway.text.tokenizer import Tokenizer

Record = Mapping[str, Any]
# A body is a torch module with `config`, `kind` and what its kind promises (an encoder-decoder:
# encode, decode, output, logits, start, step). torch types a module's attributes too loosely to
# say so; the contract tests do.
Body = Any
Head = Any


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Records as integers, and what was lost on the way.

    Args:
        examples: One for each record, in order.
        lengths: (N, sides) int64. Tokens of each example as it is used, after cutting.
        full_lengths: Side -> (N,) int64. Tokens before cutting.
        limits: Side -> longest length that is used.
        unknown: Side -> tokens that the vocabulary does not cover.
    """

    examples: list[Example]
    lengths: np.ndarray
    full_lengths: Mapping[str, np.ndarray]
    limits: Mapping[str, int]
    unknown: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a task needs to know of a model, beside its body.

    Args:
        tokenizer: Text <-> ids.
        max_tokens: Longest input that the body has positions for.
        labels: Names of the classes, in the order of the logits.
    """

    tokenizer: Tokenizer
    max_tokens: int
    labels: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a long prediction is."""

    done: int
    total: int


class Task(Protocol):
    """A task of any kind: pretraining objective or downstream.

    Class attributes:
        columns: Columns of a record that training needs; `inputs` of them are what prediction
            needs.
        bodies: Kinds of body that fit.
        head: Kind of head, a key of the model files' HEADS.
        metrics: Names of the scores, the one that chooses the best model first.
    """

    columns: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[str, ...]]
    bodies: ClassVar[tuple[str, ...]]
    head: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        ...

    def texts(self, rows: Sequence[Record]) -> list[str]:
        """Give the texts that a tokenizer is trained on."""
        ...

    def encode(self, rows: Sequence[Record], setting: Setting) -> Encoded:
        """Turn records into examples."""
        ...

    def collate(self, rows: Sequence[Sequence[Example]], setting: Setting) -> Batch:
        """Lay examples out in rows."""
        ...

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the targets of each loss, before anything is computed."""
        ...

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Compute the sums of all losses over a batch."""
        ...

    def predict(
        self,
        body: Body,
        head: Head,
        rows: Sequence[Record],
        setting: Setting,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Answer records; each answer has at least "prediction"."""
        ...

    def generation(self, setting: Setting) -> dict[str, Any] | None:
        """Say how `transformers` should decode this model; None where nothing is decoded."""
        ...

    def statistics(
        self, predictions: Sequence[Mapping[str, Any]], rows: Sequence[Record]
    ) -> list[Statistics]:
        """Compare answers with records: what each score is computed from, row by row."""
        ...
