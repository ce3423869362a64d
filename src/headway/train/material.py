"""What a run learns from: records or a corpus, read, encoded and described."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headway.data.lines import STDIN
from headway.data.read import Records, read_records
from headway.data.report import DataReport, build_report, describe_corpus
from headway.data.store import Store, open_store, read_corpus
from headway.errors import ConfigError
from headway.sections import Recipe
from headway.tasks._model import Model
from headway.tasks._task import Encoded, Task
from headway.train.inspect_data import padding_ratios, report_data
from headway.train.mixture import mix


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Everything a run learns from, as integers.

    Args:
        train: Training examples.
        valid: Validation examples; None where there are none.
        rows: Validation records, where the task has records.
        train_rows: Training records, likewise.
        report: The data report.
        passes: Corpus file -> how often an epoch goes over it.
    """

    train: Encoded
    valid: Encoded | None
    rows: Records | None
    train_rows: Records | None = None
    report: DataReport
    passes: Mapping[str, float] = field(default_factory=dict)


class Material(Protocol):
    """Text that was found, before there is a tokenizer.

    Args:
        labels: Names of the classes in it; () where there are none.
    """

    labels: tuple[str, ...]

    def texts(self) -> Iterable[str]:
        """Give the texts that a tokenizer is trained on."""
        ...

    def encode(self, model: Model) -> Examples:
        """Turn everything into examples."""
        ...


def find_material(recipe: Recipe, task: Task) -> Material:
    """Read what the recipe names, as the task needs it.

    Raises:
        ConfigError, DataError, FileError: if it cannot be used.
    """
    if not recipe.data.train:
        raise ConfigError("data.train is empty", hint="name the training files with --data.train")
    data = recipe.data
    ignored = {"columns": data.columns, "skip_bad": data.skip_bad}
    if not task.reads_corpus:
        ignored = {"weights": data.weights}
    if given := [f"data.{name.replace('_', '-')}" for name, value in ignored.items() if value]:
        kind = "running text" if task.reads_corpus else "records"
        raise ConfigError(
            f"{' and '.join(given)} cannot be used with {recipe.task.name}, which reads {kind}",
            hint="leave it out",
        )
    weights = recipe.playbook.class_weights
    if weights != "none" and not task.weighs_classes:
        raise ConfigError(
            f"playbook.class-weights is {weights!r}, but {recipe.task.name} gives no class to a "
            "row",
            hint="leave it out",
        )
    return (_Corpus if task.reads_corpus else _Rows)(recipe, task)


class _Rows:
    """Records, all in memory."""

    def __init__(self, recipe: Recipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        data = recipe.data
        train = self._read(data.train, None)
        if data.max_rows is not None:
            rows, places = train.rows[: data.max_rows], train.places[: data.max_rows]
            train = dataclasses.replace(train, rows=rows, places=places)
        self.train, self.labels = train, task.find_labels(train.rows)
        self.valid = self._read(data.valid, self.labels) if data.valid else None

    def _read(self, paths: tuple[str, ...], labels: tuple[str, ...] | None) -> Records:
        data = self.recipe.data
        return read_records(
            paths,
            columns=self.task.columns,
            optional=self.task.optional,
            names=data.columns,
            skip_bad=data.skip_bad,
            may_be_blank=self.task.may_be_blank,
            problem=lambda row: self.task.check_row(row, labels),
        )

    def texts(self) -> Iterable[str]:
        return self.task.texts(self.train.rows)

    def encode(self, model: Model) -> Examples:
        train = self.task.encode(self.train.rows, model.setting)
        if self.recipe.playbook.class_weights == "balanced":
            train = balance_classes(train)
        encoded, records = {"train": train}, {"train": self.train}
        valid = None
        if self.valid is not None:
            valid = self.task.encode(self.valid.rows, model.setting)
            encoded["valid"], records["valid"] = valid, self.valid
        columns = (*self.task.columns, *self.task.optional)
        report = report_data(records, encoded, self.recipe, columns=columns, labels=model.labels)
        return Examples(
            train=train, valid=valid, rows=self.valid, train_rows=self.train, report=report
        )


def balance_classes(encoded: Encoded) -> Encoded:
    """Let every class count the same in the loss: an example weighs N / (classes * its class).

    Raises:
        ConfigError: if examples have no class, or several.
    """
    labels = [example.label for example in encoded.examples]
    counts = Counter(labels)
    if None in counts:
        raise ConfigError(
            "playbook.class-weights is for tasks with one class for each row", hint="leave it out"
        )
    examples = [
        dataclasses.replace(example, weight=len(labels) / (len(counts) * counts[label]))
        for example, label in zip(encoded.examples, labels, strict=True)
    ]
    return dataclasses.replace(encoded, examples=examples)


@dataclass(frozen=True)
class _CorpusTexts:
    """The lines of a corpus, read from its files whenever they are gone over."""

    paths: tuple[str, ...]
    longest: int | None
    keeps_lines: bool

    def __iter__(self) -> Iterator[str]:
        found = read_corpus(self.paths, keeps_lines=self.keeps_lines)
        segments = itertools.islice(found, self.longest)
        return (segment.text for segment in segments)


class _Corpus:
    """Running text, tokenized into a store."""

    labels = ()

    def __init__(self, recipe: Recipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        if STDIN in (*recipe.data.train, *recipe.data.valid):
            raise ConfigError("a corpus cannot come from standard input: it is read more than once")
        # What cannot be read at all is said before a vocabulary is learned.
        for path in (*recipe.data.train, *recipe.data.valid):
            next(iter(read_corpus([path])), None)

    def texts(self) -> Iterable[str]:
        data = self.recipe.data
        return _CorpusTexts(data.train, data.max_rows, self.task.keeps_lines)

    def encode(self, model: Model) -> Examples:
        data, seed = self.recipe.data, self.recipe.training.seed

        def read(
            paths: tuple[str, ...], limit: int | None = None, *, is_training: bool
        ) -> tuple[Store, Encoded]:
            store = open_store(
                paths,
                model.tokenizer,
                max_segments=limit,
                keeps_lines=self.task.keeps_lines,
            )
            encoded = self.task.encode_corpus(
                store, model.setting, seed=seed, is_training=is_training
            )
            return store, encoded

        found: dict[str, tuple[Store, Encoded]] = {}
        if data.weights:
            # A split for each file: what is weighed apart is described apart.
            parts = [read((path,), data.max_rows, is_training=True) for path in data.train]
            encoded = mix([part for _, part in parts], data.weights, seed=seed)
            found |= {f"train {number}": part for number, part in enumerate(parts, 1)}
        else:
            found["train"] = read(data.train, data.max_rows, is_training=True)
            encoded = found["train"][1]
        if data.valid:
            found["valid"] = read(data.valid, is_training=False)
        splits = [
            describe_corpus(name, store, padding=padding_ratios(part, self.recipe))
            for name, (store, part) in found.items()
        ]
        return Examples(
            train=encoded,
            valid=found["valid"][1] if data.valid else None,
            rows=None,
            report=build_report(splits, {}, columns=()),
            passes=dict(zip(data.train, data.weights or [1.0] * len(data.train), strict=True)),
        )
