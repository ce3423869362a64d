"""What a model learns to do: the values and the interface that every task shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from headway.data.batch import Batch, Example
from headway.data.store import Store
from headway.layers.losses import Loss
from headway.metrics.classes import ClassScore
from headway.metrics.intervals import Statistics
from headway.text.specials import GPT_MARKS
from headway.text.tokenizer import Tokenizer

Record = Mapping[str, Any]
Rows = Sequence[Record]
# What a task says of a record: "prediction", and what it has to add.
Answer = dict[str, Any]
Answers = Sequence[Mapping[str, Any]]
# The examples of each row of a batch.
Layout = Sequence[Sequence[Example]]
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
        notes: What else was lost or mended -> how often.
        cut: (N,) bool. Of which examples something was left out, where that is told in answers.
        plan: Gives the examples of another epoch, where each has its own.
        epoch: Which one these are of.
        alike_from: First epoch from which on all have about as many tokens in as many examples.
        num_bytes: Of the text that the examples are all of, where they are.
    """

    examples: Sequence[Example]
    lengths: np.ndarray
    full_lengths: Mapping[str, np.ndarray]
    limits: Mapping[str, int]
    unknown: Mapping[str, int]
    notes: Mapping[str, int] = field(default_factory=dict)
    cut: Sequence[bool] | np.ndarray = ()
    plan: Callable[[int], Encoded] | None = None
    epoch: int = 0
    alike_from: int = 0
    num_bytes: int = 0

    def at(self, epoch: int) -> Encoded:
        """Give the examples of an epoch, counted from 0."""
        return self if self.plan is None or epoch == self.epoch else self.plan(epoch)


@dataclass(frozen=True)
class Draw:
    """What random choices depend on, together with the example's own number.

    Args:
        seed: Of the run.
        epoch: Counted from 0.
    """

    seed: int = 0
    epoch: int = 0


NO_CHANCE = Draw()


@dataclass(frozen=True)
class Marks:
    """Tokens around a text that is to be understood, or between two; ids.

    Args:
        before: First tokens.
        between: What parts two texts.
        after: Last tokens.
        tells_segments: The second text counts as another segment.
        alone: Stands for a text of nothing, where nothing else does.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    tells_segments: bool = False
    alone: int = 0

    def count(self, *, paired: bool = False) -> int:
        """Count the tokens around a text, or two."""
        return len(self.before) + len(self.after) + (len(self.between) if paired else 0)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a task needs to know of a model, beside its body.

    Args:
        tokenizer: Text <-> ids.
        max_tokens: Longest input that the body has positions for.
        labels: Names of the classes, in the order of the logits.
        is_decoder: The body reads from left to right.
    """

    tokenizer: Tokenizer
    max_tokens: int
    labels: tuple[str, ...] = ()
    is_decoder: bool = False

    @cached_property
    def marks(self) -> Marks:
        """Give the tokens around texts.

        An encoder's are those of its family. A decoder fine-tuned here has those of GPT's authors,
        start, delimiter and extract (Radford et al. 2018, section 3.3); a published one has what
        its tokenizer puts before a text, which may be nothing.
        """
        tokenizer = self.tokenizer
        if not self.is_decoder:
            between = tuple(tokenizer.between)
            ends = (tokenizer.start_id,), between, (tokenizer.end_id,)
        else:
            found = [tokenizer.find(name) for name in GPT_MARKS]
            own = [(number,) for number in found if number is not None]
            before = tuple(tokenizer.encode_ids([""])[0])
            ends = own if len(own) == len(GPT_MARKS) else (before, before, ())
        before, between, after = ends
        tells_segments = tokenizer.tells_segments and not self.is_decoder
        alone = tokenizer.find(tokenizer.name_of("end")) or 0
        return Marks(before, between, after, tells_segments=tells_segments, alone=alone)

    @cached_property
    def places(self) -> dict[str, int]:
        """Number the classes: name -> place among the logits."""
        return {name: place for place, name in enumerate(self.labels)}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a long prediction is."""

    done: int
    total: int


OnProgress = Callable[[Progress], None] | None


class Task(Protocol):
    """A task of any kind, pretraining objective or downstream, with what most of them say alike.

    Class attributes:
        columns: Columns of a record that training needs; `inputs` are what prediction needs, and
            `optional` what it can make use of.
        bodies: Kinds of body that fit.
        heads: Kinds of head that it works with, keys of the model files' HEADS.
        reads_corpus: Trains on running text instead of records.
        keeps_lines: Reads running text as it stands, the ends of its lines too.
        weighs_classes: Its loss counts each example by its weight, one class each.
        head: Kind of head that it trains with its settings, one of `heads`.
        metrics: Names of the scores, the one that chooses the best model first.
        may_be_blank: Columns in which nothing is something, such as no class among several.
    """

    columns: ClassVar[tuple[str, ...]]
    inputs: ClassVar[tuple[str, ...]]
    optional: ClassVar[tuple[str, ...]] = ()
    bodies: ClassVar[tuple[str, ...]] = ("encoder",)
    heads: ClassVar[tuple[str, ...]]
    reads_corpus: ClassVar[bool] = False
    keeps_lines: ClassVar[bool] = False
    weighs_classes: ClassVar[bool] = False
    # These may be properties, where they depend on the settings.
    head: str
    metrics: tuple[str, ...]
    may_be_blank: tuple[str, ...] = ()

    def check(self) -> list[str]:
        """Return every problem of the settings."""
        ...

    @staticmethod
    def settings_of(
        kind: str, architecture: str, labels: Sequence[str], problem: str
    ) -> dict[str, Any] | None:
        """Give the settings with which it works with a published head, one of `heads`.

        None where a folder with that head, these results and this `problem_type` is another
        task's: a head of our own on a body is nobody's else.
        """
        return None if kind == "body" else {}

    def make_head(self, body: Body, labels: Sequence[str]) -> Head:
        """Build the network of its own on top of a body; None where it has none."""
        return None

    def texts(self, rows: Rows) -> list[str]:
        """Give the texts that a tokenizer is trained on: all that it reads."""
        columns = (*self.inputs, *self.optional)
        return [row[name] for row in rows for name in columns if isinstance(row.get(name), str)]

    def find_labels(self, rows: Rows) -> tuple[str, ...]:
        """List the classes that the training rows have; () where there are none."""
        return ()

    def check_row(self, row: Record, labels: Sequence[str] | None) -> str | None:
        """Say what is wrong with a row that has its columns; None if nothing is.

        Args:
            row: For training or scoring.
            labels: The classes there are; None while they are still to be found.
        """
        return None

    def check_request(self, row: Record) -> str | None:
        """Say what is wrong with a row that is to be answered; None if nothing is."""
        return None

    def check_labels(self, labels: Sequence[str]) -> str | None:
        """Say what is wrong with the names that a folder gives its classes; None if nothing is."""
        return None

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples."""
        ...

    def encode_corpus(
        self, store: Store, setting: Setting, *, seed: int = 0, is_training: bool = False
    ) -> Encoded:
        """Cut running text into examples; asked of tasks that read a corpus."""
        raise TypeError("this task reads no corpus")

    def collate(self, rows: Layout, setting: Setting, draw: Draw = NO_CHANCE) -> Batch:
        """Lay examples out in rows; `draw` decides what is left to chance."""
        ...

    def counts(self, batch: Batch) -> dict[str, float]:
        """Count the targets of each loss, before anything is computed."""
        ...

    def losses(self, body: Body, head: Head, batch: Batch) -> tuple[Loss, ...]:
        """Compute the sums of all losses over a batch."""
        ...

    def predict(
        self, body: Body, head: Head, rows: Rows, setting: Setting, progress: OnProgress = None
    ) -> list[Answer]:
        """Answer records; each answer has at least "prediction"."""
        ...

    def generation(self, setting: Setting) -> dict[str, Any] | None:
        """Say how `transformers` should decode this model; None where nothing is decoded."""
        return None

    def statistics(self, predictions: Answers, rows: Rows) -> list[Statistics]:
        """Compare answers with records: what each score is computed from, row by row.

        Nothing where many answers are as good as the reference: the scores come with the losses.
        """
        return []

    @staticmethod
    def tiny_rows() -> list[dict[str, Any]]:
        """Give records for the contract tests, learned in seconds."""
        ...


# What some tasks can do beside; `isinstance` asks for it.


@runtime_checkable
class Tunable(Protocol):
    """A task with a setting that is best chosen on data that was not learned from."""

    def tuned(self, predictions: Answers, rows: Rows) -> Task:
        """Give the task with the setting that would have made these answers best."""
        ...


@runtime_checkable
class TellsClasses(Protocol):
    """A task whose answers can be scored class by class."""

    def class_scores(self, predictions: Answers, rows: Rows) -> list[ClassScore]:
        """Score every class apart; kinds of spans count as classes."""
        ...


@runtime_checkable
class HasBaseline(Protocol):
    """A task that knows a simple method which a network should beat."""

    def baseline(self, train: Rows, rows: Rows) -> Baseline:
        """Learn from some rows without a network, and answer others."""
        ...


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A simple method and its answers.

    Args:
        name: For tables.
        predictions: One for each row, each with "prediction".
    """

    name: str
    predictions: list[Answer]
