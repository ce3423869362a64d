"""What a run learns from: records or a corpus, read, encoded and described."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from headway.data.leaks import Leak, find_shared_text
from headway.data.lines import STDIN
from headway.data.order import plan_epoch
from headway.data.read import Records, read_records
from headway.data.report import (
    DataReport,
    build_report,
    describe_corpus,
    describe_split,
    padding_ratio,
)
from headway.data.running import read_corpus
from headway.data.store import Store, open_store
from headway.errors import ConfigError
from headway.sections import Recipe
from headway.tasks._model import Model
from headway.tasks._task import Encoded, Task
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
    """Records, all in memory, before there is a tokenizer."""

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
        """Give the texts that a tokenizer is trained on."""
        return self.task.texts(self.train.rows)

    def encode(self, model: Model) -> Examples:
        """Turn everything into examples."""
        records = {"train": self.train} | ({} if self.valid is None else {"valid": self.valid})
        encoded = {n: self.task.encode(found.rows, model.setting) for n, found in records.items()}
        if self.recipe.playbook.class_weights == "balanced":
            encoded["train"] = balance_classes(encoded["train"])
        splits = [
            describe_split(
                name,
                records[name],
                examples.full_lengths,
                limit=examples.limits,
                unknown=examples.unknown,
                padding=padding_ratios(examples, self.recipe),
                notes=examples.notes,
                classes=_count_classes(examples, model.labels),
            )
            for name, examples in encoded.items()
        ]
        columns = (*self.task.columns, *self.task.optional)
        report = build_report(splits, records, columns=columns)
        return Examples(
            train=encoded["train"],
            valid=encoded.get("valid"),
            rows=self.valid,
            train_rows=self.train,
            report=report,
        )


def padding_ratios(examples: Encoded, recipe: Recipe) -> dict[str, float]:
    """Compute the share of padding with and without sorting by length."""
    options, lengths = recipe.training, examples.lengths
    sizes = {"batch_tokens": options.batch_tokens, "batch_rows": options.batch_rows}
    plan = partial(plan_epoch, lengths, seed=options.seed, epoch=0, **sizes)
    ways = {"sorted": plan(by_length=True), "unsorted": plan(by_length=False)}
    return {name: padding_ratio(lengths, steps) for name, steps in ways.items()}


def _count_classes(encoded: Encoded, labels: Sequence[str]) -> dict[str, int]:
    """Count the rows of each class; nothing where rows have none."""
    found: Counter[int] = Counter()
    for example in encoded.examples:
        found.update(example.classes if example.label is None else (example.label,))
    return {name: found[place] for place, name in enumerate(labels)} if found else {}


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
    """Running text, before there is a tokenizer; then it is kept in a store."""

    labels: tuple[str, ...] = ()
    """Names of the classes; there are none."""

    def __init__(self, recipe: Recipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        if STDIN in (*recipe.data.train, *recipe.data.valid):
            raise ConfigError("a corpus cannot come from standard input: it is read more than once")
        # What cannot be read at all is said before a vocabulary is learned.
        for path in (*recipe.data.train, *recipe.data.valid):
            next(iter(read_corpus([path])), None)

    def texts(self) -> Iterable[str]:
        """Give the texts that a tokenizer is trained on."""
        data = self.recipe.data
        return _CorpusTexts(data.train, data.max_rows, self.task.keeps_lines)

    def encode(self, model: Model) -> Examples:
        """Turn everything into examples."""
        data = self.recipe.data
        files = {"train": data.train}
        if data.weights:
            # A split for each file: what is weighed apart is described apart.
            files = {f"train {number}": (path,) for number, path in enumerate(data.train, 1)}
        found = {name: self._read(model, paths, data.max_rows) for name, paths in files.items()}
        parts = [part for _, part in found.values()]
        train, valid = parts[0], None
        if data.weights:
            train = mix(parts, data.weights, seed=self.recipe.training.seed)
        leaks: list[Leak | None] = []
        if data.valid:
            store, valid = self._read(model, data.valid, None, is_training=False)
            leaks = [find_shared_text(n, part[0], "valid", store) for n, part in found.items()]
            found["valid"] = store, valid
        splits = [
            describe_corpus(name, store, padding=padding_ratios(part, self.recipe))
            for name, (store, part) in found.items()
        ]
        return Examples(
            train=train,
            valid=valid,
            rows=None,
            report=DataReport(splits=splits, leaks=[leak for leak in leaks if leak]),
            passes=dict(zip(data.train, data.weights or [1.0] * len(data.train), strict=True)),
        )

    def _read(
        self, model: Model, paths: tuple[str, ...], limit: int | None, *, is_training: bool = True
    ) -> tuple[Store, Encoded]:
        keeps_lines, tokenizer = self.task.keeps_lines, model.tokenizer
        store = open_store(paths, tokenizer, max_segments=limit, keeps_lines=keeps_lines)
        seed = self.recipe.training.seed
        return store, self.task.encode_corpus(
            store, model.setting, seed=seed, is_training=is_training
        )


Material = _Rows | _Corpus
