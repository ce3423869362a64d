"""The data report of a run: what encoding and batching do to the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from headway.data.order import plan_epoch
from headway.data.read import Records
from headway.data.report import DataReport, build_report, describe_split, padding_ratio
from headway.sections import Recipe
from headway.tasks._task import Encoded


def padding_ratios(examples: Encoded, recipe: Recipe) -> dict[str, float]:
    """Compute the share of padding with and without sorting by length."""
    ratios = {}
    for name, by_length in (("sorted", True), ("unsorted", False)):
        steps = plan_epoch(
            examples.lengths,
            seed=recipe.training.seed,
            epoch=0,
            batch_tokens=recipe.training.batch_tokens,
            batch_rows=recipe.training.batch_rows,
            by_length=by_length,
        )
        ratios[name] = padding_ratio(examples.lengths, steps)
    return ratios


def _count_classes(encoded: Encoded, labels: Sequence[str]) -> dict[str, int]:
    """Count the rows of each class; nothing where rows have none."""
    found: Counter[int] = Counter()
    for example in encoded.examples:
        found.update(example.classes if example.label is None else (example.label,))
    return {name: found[place] for place, name in enumerate(labels)} if found and labels else {}


def report_data(
    records: Mapping[str, Records],
    encoded: Mapping[str, Encoded],
    recipe: Recipe,
    *,
    columns: Sequence[str],
    labels: Sequence[str] = (),
) -> DataReport:
    """Describe every split of a run.

    Args:
        records: Split -> records.
        encoded: Split -> the same records as integers.
        recipe: Says how batches are made.
        columns: Columns that make two records the same.
        labels: Names of the classes, where rows have any.
    """
    splits = [
        describe_split(
            name,
            records[name],
            examples.full_lengths,
            limit=examples.limits,
            unknown=examples.unknown,
            padding=padding_ratios(examples, recipe),
            notes=examples.notes,
            classes=_count_classes(examples, labels),
        )
        for name, examples in encoded.items()
    ]
    return build_report(splits, records, columns=columns)
