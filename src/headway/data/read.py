"""Files -> records: JSON lines, TSV, CSV, plain text and parallel text; errors name file and line.

A row that cannot be used is never dropped in silence: it stops the reading, or is kept in
`Records.bad`.
"""

from __future__ import annotations

import itertools
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from headway.data.corpora import read_conll, squad_rows
from headway.data.lines import STDIN, find_damage, is_blank, label_file, read_lines
from headway.data.records import (
    RECIPE_FLAGS,
    BadRow,
    DataFile,
    Flags,
    Records,
    Sink,
    list_names,
    parse_names,
)
from headway.data.tables import read_csv, read_tsv
from headway.errors import ConfigError, DataError

__all__ = ["BadRow", "Flags", "Records", "read_records"]


def read_records(
    paths: Sequence[str | Path],
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    names: Sequence[str] = (),
    skip_bad: bool = False,
    keep_blank: bool = False,
    may_be_blank: Sequence[str] = (),
    problem: Callable[[dict[str, Any]], str | None] = lambda row: None,
    flags: Flags = RECIPE_FLAGS,
) -> Records:
    """Read records from files, one after the other, or from parallel text files side by side.

    The suffix (before .gz) tells the format: .jsonl, .ndjson and .json hold a JSON object on each
    line (or, .json, one array), .tsv a header and fields between tabs without quoting, .csv a
    header and quoted fields, .conll a word and its tag on each line and a blank line between
    sentences, .json may be SQuAD's, and anything else is plain text. As many plain text files as
    there are columns are parallel: line i of each makes record i.

    Args:
        paths: Files; "-" is standard input, whose format is told by its first line.
        columns: What every record must have. Other columns are kept as they are.
        optional: What a record may have: checked like the others, but left out where it is null.
        names: "source=de" takes the file's column de as source. Entries without "=" are the names,
            in order, of the columns of TSV and CSV files without a header.
        skip_bad: Keep rows that cannot be used in `bad`; else they are an error.
        keep_blank: Keep blank lines of a plain text file as empty texts, so that answers stay in
            step with lines; else they are left out and counted.
        may_be_blank: Columns that may hold an empty text.
        problem: Says what else is wrong with a row that has its columns; None: nothing.
        flags: How the caller's flags are called, for hints.
    Raises:
        ConfigError: if there is no file or `names` makes no sense.
        DataError: if rows cannot be used, columns are missing or nothing is left.
        FileError: if a file is missing, unreadable or damaged.
    """
    if not paths:
        raise ConfigError("no data file is given", hint="Name at least one")
    if sum(str(path) == STDIN for path in paths) > 1:
        raise ConfigError("standard input (-) is given twice, but can be read only once")
    sink = Sink(
        columns=columns,
        optional=optional,
        names=parse_names(names, [*columns, *optional], columns, where=flags.columns),
        flags=flags,
        keep_blank=keep_blank,
        may_be_blank=may_be_blank,
        problem=problem,
    )
    files = [_recognize(path, columns, has_names=bool(names)) for path in paths]
    for file in files:
        if sink.names.header and file.kind not in ("tsv", "csv"):
            raise ConfigError(
                f"{file.label} is no TSV or CSV file, so its columns cannot be named by position",
                where=flags.columns,
                hint=f"Write {columns[0]}=NAME for a JSON file, or nothing for plain text",
            )
    if len(files) == len(columns) > 1 and all(file.kind == "text" for file in files):
        _read_parallel(files, sink)
    else:
        for file in files:
            _READERS[file.kind](file, sink)
    return sink.finish([file.label for file in files], skip_bad=skip_bad)


def _recognize(path: str | Path, columns: Sequence[str], *, has_names: bool) -> DataFile:
    if str(path) != STDIN:
        suffix = Path(str(path).lower().removesuffix(".gz")).suffix.removeprefix(".")
        kind = suffix if suffix in _READERS else "text"
        return DataFile(label=label_file(path), kind=kind, lines=read_lines(path))
    lines = list(read_lines(path))
    kind = _kind_of(_first_text(lines), columns, has_names=has_names)
    return DataFile(label=label_file(path), kind=kind, lines=lines)


def _first_text(lines: Iterable[str]) -> str:
    return next(itertools.filterfalse(is_blank, lines), "")


def _kind_of(first: str, columns: Sequence[str], *, has_names: bool) -> str:
    """Tell a format by its first line."""
    if first.lstrip().startswith("{"):
        return "jsonl"
    # No other format but JSON has tags.
    if "tags" in columns or first.startswith("-DOCSTART-"):
        return "conll"
    for kind, separator in (("tsv", "\t"), ("csv", ",")):
        fields = {field.strip(' "') for field in first.split(separator)}
        # A text may hold tabs or commas, but hardly the names of its own columns between them;
        # with several columns a tab can be nothing else.
        is_table = has_names or set(columns) <= fields or (kind == "tsv" and len(columns) > 1)
        if is_table and separator in first:
            return kind
    return "text"


def _read_plain(file: DataFile, sink: Sink) -> None:
    if len(sink.columns) != 1:
        # That a file is not there, or is no file, is the nearer problem.
        next(iter(file.lines), None)
        raise DataError(
            f"{file.label} is plain text, but the task needs {list_names(sink.columns)}",
            hint=f"Give {len(sink.columns)} plain text files, whose lines belong together, or a "
            "TSV, CSV or JSONL file with these columns",
        )
    for place, line in _sound_lines(file, sink, take_blank=sink.add_blank):
        sink.add(place, {sink.columns[0]: line})


def _sound_lines(
    file: DataFile, sink: Sink, *, take_blank: Callable[[tuple[str, int]], None]
) -> Iterator[tuple[tuple[str, int], str]]:
    """Give the lines that hold text, each with its place; damaged ones are rejected."""
    label = f"{file.label}, line"
    for number, line in enumerate(file.lines, 1):
        place = (label, number)
        if is_blank(line):
            take_blank(place)
        elif problem := find_damage(line):
            sink.reject(place, problem)
        else:
            yield place, line


def _read_parallel(files: Sequence[DataFile], sink: Sink) -> None:
    sides = [list(file.lines) for file in files]
    longest, shortest = max(sides, key=len), min(sides, key=len)
    long, short = files[sides.index(longest)].label, files[sides.index(shortest)].label
    if len(longest) != len(shortest):
        raise DataError(
            f"{short} has {len(shortest)} lines but {long} has {len(longest)}: first surplus line "
            f"is {long}, line {len(shortest) + 1}",
            hint="Parallel files need the same number of lines, blank ones included",
        )
    joint = f"{' and '.join(file.label for file in files)}, line"
    for number, texts in enumerate(zip(*sides, strict=True), 1):
        blank = [is_blank(text) for text in texts]
        if all(blank):
            sink.leave_out((joint, number))
            continue
        problems = [
            "the line is blank, but not in every file" if empty else find_damage(text)
            for text, empty in zip(texts, blank, strict=True)
        ]
        if any(problems):
            side = next(i for i, problem in enumerate(problems) if problem)
            sink.reject((f"{files[side].label}, line", number), problems[side])
        else:
            sink.add((joint, number), dict(zip(sink.columns, texts, strict=True)))


def _read_json_lines(file: DataFile, sink: Sink) -> None:
    for place, line in _sound_lines(file, sink, take_blank=sink.leave_out):
        try:
            row = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            sink.reject(place, f"no valid JSON: {error}")
        else:
            _add_value(sink, place, row, escapes="\\ud" in line or "\\uD" in line)


def _read_json(file: DataFile, sink: Sink) -> None:
    lines = list(file.lines)
    first = _first_text(lines)
    if first.lstrip().startswith("{") and (found := squad_rows("\n".join(lines))) is not None:
        for place, row in found:
            _add_value(sink, (f"{file.label}, question", place), row, escapes=True)
        return
    if not first.lstrip().startswith("["):
        _read_json_lines(DataFile(label=file.label, kind="jsonl", lines=lines), sink)
        return
    try:
        values = _DECODER.decode("\n".join(lines))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file.label} begins as a JSON array, but is no valid JSON: {error}",
            hint="Write one object on each line instead, which names the damaged line",
        ) from error
    for number, value in enumerate(values, 1):
        _add_value(sink, (f"{file.label}, item", number), value, escapes=True)


def _add_value(sink: Sink, place: tuple[str, int], value: Any, *, escapes: bool) -> None:
    if not isinstance(value, dict):
        sink.reject(place, f"no JSON object, but {reprlib.repr(value)}")
        return
    # An escape in JSON can be half of a surrogate pair, which no UTF-8 file could hold again.
    try:
        problem = find_damage(json.dumps(value, ensure_ascii=False)) if escapes else ""
    except RecursionError:
        problem = "lists or objects inside one another without end"
    if problem:
        sink.reject(place, problem)
    else:
        sink.add(place, value)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


# By the suffix of a file; whatever has another is plain text.
_READERS: dict[str, Callable[[DataFile, Sink], None]] = {
    "jsonl": _read_json_lines,
    "ndjson": _read_json_lines,
    "json": _read_json,
    "tsv": read_tsv,
    "csv": read_csv,
    "conll": read_conll,
    "text": _read_plain,
}
