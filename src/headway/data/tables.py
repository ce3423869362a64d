"""TSV and CSV files -> records: a header, or names by position, then rows of fields."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from headway.data.lines import find_damage, find_nearest, is_blank
from headway.data.records import DataFile, Sink, list_names
from headway.errors import DataError

# The csv module counts in a C long, which has 32 bits on some systems.
_LONGEST_FIELD = 2**31 - 1


def read_tsv(file: DataFile, sink: Sink) -> None:
    """Read fields between tabs; a quote is a character like any other."""
    _read_table(file, ((i, line.split("\t")) for i, line in enumerate(file.lines, 1)), sink)


def read_csv(file: DataFile, sink: Sink) -> None:
    """Read fields between commas, which may be quoted and then hold commas and lines."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        _read_table(file, _csv_rows(file.lines), sink)
    finally:
        csv.field_size_limit(before)


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Give the first line of each row, and its fields or what is wrong with it."""
    # Strict, since otherwise a quote that is never closed swallows the rest without a word. Lines
    # come without their "\r", so a "\r\n" inside quotes is read as "\n".
    reader = csv.reader((line + "\n" for line in lines), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            upto = f" (up to line {reader.line_num})" if reader.line_num > number else ""
            yield number, f"no valid CSV: {error}{upto}"


def _read_table(file: DataFile, rows: Iterable[tuple[int, list[str] | str]], sink: Sink) -> None:
    label = f"{file.label}, line"
    header = sink.names.header
    at_start = True
    for number, fields in rows:
        if isinstance(fields, str):
            problem = fields
        elif all(map(is_blank, fields)):
            sink.leave_out((label, number))
            continue
        else:
            problem = next(filter(None, map(find_damage, fields)), "")
        if at_start:
            at_start = False
            if not header:
                header = _check_header(problem or fields, f"{label} {number}", sink)
                continue
            if fields == header:
                continue
        if not problem and len(fields) != len(header):
            problem = f"the number of fields is {len(fields)}, but there are {len(header)} columns"
        if problem:
            sink.reject((label, number), problem)
        else:
            sink.add((label, number), dict(zip(header, fields, strict=True)))


def _check_header(fields: list[str] | str, where: str, sink: Sink) -> list[str]:
    if isinstance(fields, str):
        raise DataError(f"the header cannot be read: {fields}", where=where)
    header = [name.strip() for name in fields]
    seen = sink.names.apply(dict.fromkeys(header))
    if missing := [name for name in sink.columns if name not in seen]:
        spare = [name for name in seen if name not in sink.columns]
        near = {name: find_nearest(sink.names.theirs(name), spare) for name in missing}
        entries = " ".join(f"{name}={near[name] or 'NAME'}" for name in missing)
        raise DataError(
            sink.describe_missing(missing, header),
            where=where,
            hint=f"Give the names with {sink.flags.columns} {entries}, or, if the file has no "
            "header, with the names of all its columns in order",
        )
    wanted = {*sink.columns, *sink.optional, *sink.names.renames}
    twice = sorted({name for name in header if name in wanted and header.count(name) > 1})
    if twice:
        raise DataError(f"the header has {list_names(twice)} more than once", where=where)
    return header
