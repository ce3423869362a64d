"""Score a model on records with references, or on running text.

headway evaluate run/model --data test.de test.en
headway evaluate run/model --data test.tsv --json
headway evaluate run/model --data test.de test.en --compare other/model
headway evaluate run/bert/model --data held-out.txt
headway evaluate run/model --data test.tsv --swap he-she.tsv

--compare scores a second model on the same rows and says how sure the difference is (paired
bootstrap). --swap exchanges terms, two a line with a tab between them, in every row that has any,
and says how often the answer changes and how far it moves.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from headway.cli import _records
from headway.data.lines import read_text
from headway.errors import ConfigError, DataError
from headway.files.manifest import write_text
from headway.metrics.intervals import bootstrap, paired_bootstrap

_MOST_SAMPLES = 1_000_000


@dataclass(frozen=True)
class Options:
    """Options of `headway evaluate`."""

    model: tyro.conf.Positional[Path]
    """Model folder."""
    data: tuple[str, ...] = ()
    """One TSV, CSV or JSONL, or two parallel text files; running text for a language model."""
    columns: tuple[str, ...] = ()
    """Names for a file without a header, or ours=theirs to rename columns."""
    compare: Path | None = None
    """A second model, for a paired test."""
    swap: Path | None = None
    """Pairs of terms to exchange, such as he and she: how much the answers depend on them."""
    samples: int = 1000
    """Draws of the bootstrap."""
    predictions: Path | None = None
    """Write the predictions to this file, one a line."""
    skip_bad: bool = False
    """Leave rows out that cannot be used, and count them."""
    precision: str = "auto"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it. Losses are in fp32."""
    num_beams: int | None = None
    """Beams, where the task decodes; none takes the model's own."""
    json: bool = False
    """Print one JSON object."""


def run(options: Options) -> None:
    """Evaluate and print."""
    if not options.data:
        raise ConfigError("--data is missing", hint="name the files with records and references")
    if not 1 <= options.samples <= _MOST_SAMPLES:
        raise ConfigError(
            f"--samples is {options.samples}, but must be from 1 to {_MOST_SAMPLES:,}"
        )
    _records.check_place(options.predictions, "--predictions")
    terms = None if options.swap is None else _read_terms(options.swap)
    scorer = _records.open_model(options.model)
    if scorer.task.reads_corpus:
        values = _score_corpus(scorer, options)
    else:
        values = _score_rows(scorer, terms, options)
    _records.write(values, _table(values), as_json=options.json)


def _score_rows(scorer, terms, options: Options) -> dict[str, Any]:
    """Score a model on records, and whatever else was asked for."""
    from headway.tasks._task import TellsClasses

    other = None if options.compare is None else _records.open_model(options.compare)
    records = _records.read(
        options.data,
        options,
        columns=scorer.task.columns,
        optional=scorer.task.optional,
        may_be_blank=scorer.task.may_be_blank,
        problem=lambda row: scorer.task.check_row(row, scorer.labels),
    )
    if other is not None:
        _check_comparable(scorer, other, records)
    result = _evaluate(scorer, records.rows, options)
    _records.warn_of_cuts(result.predictions, len(records))
    if result.cut_targets:
        sys.stderr.write(
            f"warning: {result.cut_targets:,} of {len(records):,} targets cut for the perplexity: "
            "longer than task.max-target-tokens\n"
        )
    if options.predictions is not None:
        lines = [" ".join(str(item["prediction"]).split("\n")) for item in result.predictions]
        write_text(options.predictions, "".join(line + "\n" for line in lines))
    values: dict[str, Any] = {
        "scores": result.scores,
        "intervals": {item.name: _interval(item, options) for item in result.statistics},
        "rows": len(records),
        "skipped": len(records.bad),
        "signatures": {item.name: item.signature for item in result.statistics if item.signature},
    }
    if isinstance(scorer.task, TellsClasses):
        found = scorer.task.class_scores(result.predictions, records.rows)
        values["classes"] = [dataclasses.asdict(item) for item in found]
    if other is not None:
        second = _evaluate(other, records.rows, options)
        values["comparison"] = _compare(result, second, samples=options.samples)
    if terms is not None:
        values["swap"] = _swap(scorer, terms, records.rows, options)
    return values


def _interval(statistics, options: Options) -> list[float]:
    found = bootstrap(statistics, samples=options.samples)
    return [found.low, found.high]


def _check_comparable(scorer, other, records) -> None:
    """Find out whether a second model can answer for the same rows, before the work."""
    if other.task_name != scorer.task_name:
        raise ConfigError(
            f"--compare names a model that does {other.task_name}, but the first does "
            f"{scorer.task_name}"
        )
    if other.task.metrics != scorer.task.metrics:
        raise ConfigError(
            f"--compare names a model that is scored by {', '.join(other.task.metrics)}, but the "
            f"first is by {', '.join(scorer.task.metrics)}",
            hint="compare models of one kind: with several labels a row, or with one",
        )
    for index, row in enumerate(records.rows):
        if problem := other.task.check_row(row, other.labels):
            where = records.where(index)
            raise DataError(f"the model of --compare cannot be scored: {problem}", where=where)


def _read_terms(path: Path):
    from headway.tasks._swap import read_terms

    lines = [(number, line) for number, line in enumerate(read_text(path), 1) if line.strip()]
    return read_terms([(f"{path}, line {number}", line.split("\t")) for number, line in lines])


def _swap(scorer, terms, rows, options: Options) -> dict[str, Any]:
    """Answer rows as they are and with their terms exchanged."""
    from headway.tasks._swap import compare_answers

    pairs = [(row, other) for row in rows if (other := terms.swap_row(row)) is not None]
    if not pairs:
        return {"rows": 0}
    # In single precision: rounding must not pass for a difference between groups.
    before, after = (scorer.predict([pair[side] for pair in pairs]) for side in (0, 1))
    before = [terms.move_answer(a, row) for a, (row, _) in zip(before, pairs, strict=True)]
    directions = [terms.direction(row) for row, _ in pairs]
    found: dict[str, Any] = {"rows": len(pairs)}
    for item in compare_answers(before, after, directions):
        found[item.name] = {"value": item.value(), "interval": _interval(item, options)}
    return found


def _score_corpus(scorer, options: Options) -> dict[str, Any]:
    """Score a model on running text, exactly as training does."""
    from headway.data.store import open_store
    from headway.train.evaluate import evaluate

    refused = ("compare", "swap", "predictions", "columns", "skip_bad", "num_beams")
    if given := [_records.flag_of(name) for name in refused if vars(options)[name]]:
        raise ConfigError(
            f"{' and '.join(given)} cannot be used here: this model is scored on running text"
        )
    store = open_store(options.data, scorer.tokenizer, keeps_lines=scorer.task.keeps_lines)
    examples = scorer.task.encode_corpus(store, scorer.setting)
    result = evaluate(scorer, [], examples=examples, predicting=False)
    return {"scores": result.scores, "intervals": {}, "rows": len(examples.examples)}


def _evaluate(scorer, rows, options: Options):
    from headway.train.evaluate import evaluate

    settings = _records.given(options, "num_beams")
    with _records.progress_bar("evaluate", len(rows)) as progress:
        return evaluate(
            scorer, rows, precision=options.precision, settings=settings, progress=progress
        )


def _compare(first, second, *, samples: int) -> list[dict[str, Any]]:
    pairs = zip(first.statistics, second.statistics, strict=True)
    tests = (paired_bootstrap(one, other, samples=samples) for one, other in pairs)
    return [
        {
            "name": test.name,
            "first": test.first,
            "second": test.second,
            "difference": test.difference,
            "interval": [test.low, test.high],
            "p_value": test.p_value,
        }
        for test in tests
    ]


def _table(values: dict[str, Any]) -> str:
    lines = []
    width = max(12, *map(len, [*values["scores"], *values.get("swap", ())]))
    for name, value in values["scores"].items():
        interval = values["intervals"].get(name)
        reach = f"  95 % interval {interval[0]:.2f} to {interval[1]:.2f}" if interval else ""
        signature = values.get("signatures", {}).get(name, "")
        lines.append(f"{name:<{width}} {value:8.2f}{reach}{'  ' + signature if signature else ''}")
    if classes := values.get("classes"):
        names = max(12, *(len(item["name"]) for item in classes))
        lines.append(f"{'':<{names}} precision   recall       F1     rows")
        for item in classes:
            shares = "".join(f"{item[key]:9.2f}" for key in ("precision", "recall", "f1"))
            lines.append(f"{item['name']:<{names}} {shares} {item['support']:8,}")
    for test in values.get("comparison", []):
        low, high = test["interval"]
        lines.append(
            f"{test['name']:<{width}} {test['first']:.2f} against {test['second']:.2f}: difference "
            f"{test['difference']:+.2f} ({low:+.2f} to {high:+.2f}), p = {test['p_value']:.3f}"
        )
    if swap := values.get("swap"):
        lines.append(f"rows with a term to exchange: {swap['rows']}")
        for name, item in swap.items():
            if name != "rows":
                low, high = item["interval"]
                reach = f"95 % interval {low:.2f} to {high:.2f}"
                lines.append(f"{name:<{width}} {item['value']:8.2f}  {reach}")
    lines.append(f"rows         {values['rows']:8d}")
    if values.get("skipped"):
        lines.append(f"skipped      {values['skipped']:8d}")
    return "\n".join(lines)
