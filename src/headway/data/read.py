"""Files -> records: JSON lines, TSV, CSV, plain text and parallel text; errors name file and line.

A line ends at "\\n" and nowhere else, and a "\\r" before it goes too: U+2028 and NUL are text.
Files are UTF-8, with or without a byte order mark, and gzip is read transparently. A row that
cannot be used is never dropped in silence: it stops the reading, or is kept in `Records.bad`.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import hashlib
import io
import json
import os
import reprlib
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from headway.errors import ConfigError, DataError, FileError, join_problems, nearest

STDIN = "-"
_GZIP_MAGIC = b"\x1f\x8b"
_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".tsv": "tsv", ".csv": "csv"}
# These columns are text in every task; others may hold numbers, lists or objects.
_TEXT_COLUMNS = frozenset({"source", "target", "text"})
# The csv module counts in a C long, which has 32 bits on some systems.
_LONGEST_FIELD = 2**31 - 1
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be used.

    Args:
        where: File and line, such as "train.tsv, line 12".
        index: Its position among all rows, usable or not, counted from 0; blank lines are no rows.
        problem: What is wrong with it.
    """

    where: str
    index: int
    problem: str


@dataclass(frozen=True, kw_only=True)
class Records:
    """What was read from one or several files.

    Args:
        rows: Usable rows, in order.
        places: For each row the file, up to the word "line", and the number of the line.
        bad: Rows that cannot be used, in order; empty unless bad rows were to be skipped.
        empty_rows: Blank lines, which mean nothing and were left out.
        files: Names of the files, as they appear in messages.
    """

    rows: list[dict[str, Any]]
    places: list[tuple[str, int]]
    bad: list[BadRow] = field(default_factory=list)
    empty_rows: int = 0
    files: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, index: int) -> str:
        """Name the file and line of a usable row."""
        return _where(self.places[index])


def read_records(
    paths: Sequence[str | Path],
    *,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    names: Sequence[str] = (),
    skip_bad: bool = False,
) -> Records:
    """Read records from files, one after the other, or from parallel text files side by side.

    The suffix (before .gz) tells the format: .jsonl, .ndjson and .json hold a JSON object on each
    line (or, .json, one array), .tsv a header and fields between tabs without quoting, .csv a
    header and quoted fields, and anything else is plain text. As many plain text files as there
    are columns are parallel: line i of each makes record i.

    Args:
        paths: Files; "-" is standard input, whose format is told by its first line.
        columns: What every record must have. Other columns are kept as they are.
        optional: What a record may have: checked like the others, but left out where it is null.
        names: "source=de" takes the file's column de as source. Entries without "=" are the names,
            in order, of the columns of TSV and CSV files without a header.
        skip_bad: Keep rows that cannot be used in `bad`; else they are an error.
    Raises:
        ConfigError: if there is no file or `names` makes no sense.
        DataError: if rows cannot be used, columns are missing or nothing is left.
        FileError: if a file is missing, unreadable or damaged.
    """
    if not paths:
        raise ConfigError("no data file is given", hint="Name at least one")
    if sum(str(path) == STDIN for path in paths) > 1:
        raise ConfigError("standard input (-) is given twice, but can be read only once")
    sink = _Sink(columns, optional, _parse_names(names, [*columns, *optional], columns))
    files = [_recognize(path, tables=len(columns) > 1 or bool(names)) for path in paths]
    for file in files:
        if sink.names.header and file.kind not in ("tsv", "csv"):
            raise ConfigError(
                f"{file.label} is no TSV or CSV file, so its columns cannot be named by position",
                where="--data.columns",
                hint=f"Write {columns[0]}=NAME for a JSON file, or nothing for plain text",
            )
    if len(files) == len(columns) > 1 and all(file.kind == "text" for file in files):
        _read_parallel(files, sink)
    else:
        for file in files:
            _READERS[file.kind](file, sink)
    return sink.finish([file.label for file in files], skip_bad=skip_bad)


def read_text(path: str | Path) -> Iterator[str]:
    """Give the lines of a text file, without their ends.

    Raises:
        DataError: at a line that is not UTF-8.
        FileError: if the file is missing, unreadable or damaged.
    """
    for number, line in enumerate(_lines(path), 1):
        if problem := _damage(line):
            raise DataError(
                f"the text is {problem}",
                where=f"{_label(path)}, line {number}",
                hint="Convert the file to UTF-8",
            )
        yield line


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON lines, in one step: a reader sees the old file or the whole new one.

    Raises:
        DataError: if a row cannot be written as JSON; the old file is then still there.
        FileError: if the file cannot be written; the same holds.
    """
    path = Path(path)
    try:
        # A link is followed, and a device or pipe cannot be replaced: it is written as it is.
        special = path.exists() and not path.is_file()
        with path.open("wb") if special else _draft(path) as stream:
            for number, row in enumerate(rows, 1):
                stream.write(_to_json(row, number))
    except OSError as error:
        raise FileError(
            f"{_label(path)} cannot be written: {error.strerror or error}",
            hint="Free some space or choose another place; what was there before is untouched",
        ) from error


def fingerprint(paths: Iterable[str | Path]) -> dict[str, str]:
    """Hash each file as it is on disk: SHA-256 by name; standard input cannot be read again."""
    hashes = {}
    for path in paths:
        if str(path) == STDIN:
            continue
        try:
            with Path(path).open("rb") as stream:
                hashes[_label(path)] = hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
    return hashes


@dataclass(frozen=True, kw_only=True)
class _Names:
    """How the columns of files are called: theirs -> ours, or all of ours in order."""

    renames: dict[str, str]
    header: list[str]

    def theirs(self, name: str) -> str:
        return next((theirs for theirs, ours in self.renames.items() if ours == name), name)

    def apply(self, row: dict[str, Any]) -> dict[str, Any]:
        # All at once, so that two names can be exchanged; a column of theirs that is called like
        # one of ours gives way.
        taken = set(self.renames.values())
        return {
            self.renames.get(key, key): value
            for key, value in row.items()
            if key in self.renames or key not in taken
        }


def _parse_names(names: Sequence[str], known: Sequence[str], columns: Sequence[str]) -> _Names:
    header = [name for name in names if "=" not in name]
    ours, theirs = ([name.split("=", 1)[i] for name in names if "=" in name] for i in (0, 1))
    problems = []
    if ours and header:
        problems.append(f"some entries have a '=' and some have none ({header[0]!r})")
    if any(map(_is_blank, [*header, *ours, *theirs])):
        problems.append("an entry lacks a name")
    unknown = [name for name in ours if name not in known]
    problems += [f"{name!r} is no column of the task; {nearest(name, known)}" for name in unknown]
    for group in (header, ours, theirs):
        twice = sorted({name for name in group if group.count(name) > 1})
        problems += [f"{name!r} is given twice" for name in twice]
    if header and not ours:
        problems += [f"{name!r} is not among the names" for name in columns if name not in header]
    if problems:
        raise ConfigError(
            join_problems(problems),
            where="--data.columns",
            hint=f"Write {columns[0]}=NAME for a column that the file calls otherwise, or, for a "
            "file without a header, the names of all its columns in order",
        )
    return _Names(renames=dict(zip(theirs, ours, strict=True)), header=header)


class _Sink:
    """Takes rows in the order of the files, checks them, and counts what cannot be used."""

    def __init__(self, columns: Sequence[str], optional: Sequence[str], names: _Names) -> None:
        self.columns = columns
        self.optional = optional
        self.names = names
        self.rows: list[dict[str, Any]] = []
        self.places: list[tuple[str, int]] = []
        self.bad: list[BadRow] = []
        self.empty_rows = 0
        self._lacking = ""

    def add(self, place: tuple[str, int], row: dict[str, Any]) -> None:
        if self.names.renames:
            row = self.names.apply(row)
        for column in self.optional:
            if column in row and row[column] is None:
                del row[column]
        if problem := self._problem(row):
            self.reject(place, problem)
        else:
            self.rows.append(row)
            self.places.append(place)

    def reject(self, place: tuple[str, int], problem: str) -> None:
        index = len(self.rows) + len(self.bad)
        self.bad.append(BadRow(where=_where(place), index=index, problem=problem))

    def _problem(self, row: dict[str, Any]) -> str:
        for column in self.columns:
            value = row.get(column)
            if isinstance(value, str):
                if _is_blank(value):
                    return f"{column} is blank"
            elif column not in row:
                self._lacking = column
                return self.describe_missing([column], row)
            elif value is None:
                return f"{column} is null"
            elif column in _TEXT_COLUMNS:
                return f"{column} is no text, but {reprlib.repr(value)}"
        for column in self.optional:
            if column in _TEXT_COLUMNS and not isinstance(row.get(column, ""), str):
                return f"{column} is no text, but {reprlib.repr(row[column])}"
        return ""

    def describe_missing(self, columns: Sequence[str], seen: Iterable[str]) -> str:
        asked = [
            f"{theirs!r} (as {name})" if (theirs := self.names.theirs(name)) != name else repr(name)
            for name in columns
        ]
        return f"no column {' or '.join(asked)} among {_list_names(seen)}"

    def finish(self, files: list[str], *, skip_bad: bool) -> Records:
        if self.bad and not skip_bad:
            total = len(self.rows) + len(self.bad)
            hint = "Use --skip-bad to leave them out"
            if self._lacking:
                hint += f", or name the column with --data.columns {self._lacking}=NAME"
            raise DataError(
                f"{len(self.bad):,} of {total:,} rows cannot be used: "
                + join_problems([f"{row.where}: {row.problem}" for row in self.bad]),
                hint=hint,
            )
        if not self.rows:
            counts = f"{len(self.bad):,} bad and {self.empty_rows:,} blank"
            raise DataError(
                f"{join_problems(files)} has no usable rows ({counts})",
                hint="; ".join(f"{row.where}: {row.problem}" for row in self.bad[:1]),
            )
        return Records(
            rows=self.rows,
            places=self.places,
            bad=self.bad,
            empty_rows=self.empty_rows,
            files=files,
        )


@dataclass(frozen=True, kw_only=True)
class _File:
    label: str
    kind: str
    lines: Iterable[str]


def _recognize(path: str | Path, *, tables: bool) -> _File:
    if str(path) != STDIN:
        name = str(path).lower().removesuffix(".gz")
        kind = _KINDS.get(Path(name).suffix, "text")
        return _File(label=_label(path), kind=kind, lines=_lines(path))
    lines = list(_lines(path))
    first = next((line for line in lines if not _is_blank(line)), "")
    kind = "tsv" if tables and "\t" in first else "text"
    if first.lstrip().startswith("{"):
        kind = "jsonl"
    return _File(label=_label(path), kind=kind, lines=lines)


def _read_plain(file: _File, sink: _Sink) -> None:
    if len(sink.columns) != 1:
        # That a file is not there, or is no file, is the nearer problem.
        next(iter(file.lines), None)
        raise DataError(
            f"{file.label} is plain text, but the task needs {_list_names(sink.columns)}",
            hint=f"Give {len(sink.columns)} plain text files, whose lines belong together, or a "
            "TSV, CSV or JSONL file with these columns",
        )
    label = f"{file.label}, line"
    for number, line in enumerate(file.lines, 1):
        if _is_blank(line):
            sink.empty_rows += 1
        elif problem := _damage(line):
            sink.reject((label, number), problem)
        else:
            sink.add((label, number), {sink.columns[0]: line})


def _read_parallel(files: Sequence[_File], sink: _Sink) -> None:
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
        blank = [_is_blank(text) for text in texts]
        if all(blank):
            sink.empty_rows += 1
            continue
        problems = [
            "the line is blank, but not in every file" if empty else _damage(text)
            for text, empty in zip(texts, blank, strict=True)
        ]
        if any(problems):
            side = next(i for i, problem in enumerate(problems) if problem)
            sink.reject((f"{files[side].label}, line", number), problems[side])
        else:
            sink.add((joint, number), dict(zip(sink.columns, texts, strict=True)))


def _read_json_lines(file: _File, sink: _Sink) -> None:
    label = f"{file.label}, line"
    for number, line in enumerate(file.lines, 1):
        if _is_blank(line):
            sink.empty_rows += 1
        elif problem := _damage(line):
            sink.reject((label, number), problem)
        else:
            try:
                row = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                sink.reject((label, number), f"no valid JSON: {error}")
            else:
                _add_value(sink, (label, number), row, escapes="\\ud" in line or "\\uD" in line)


def _read_json(file: _File, sink: _Sink) -> None:
    lines = list(file.lines)
    first = next((line for line in lines if not _is_blank(line)), "")
    if not first.lstrip().startswith("["):
        _read_json_lines(_File(label=file.label, kind="jsonl", lines=lines), sink)
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


def _add_value(sink: _Sink, place: tuple[str, int], value: Any, *, escapes: bool) -> None:
    if not isinstance(value, dict):
        sink.reject(place, f"no JSON object, but {reprlib.repr(value)}")
        return
    # An escape in JSON can be half of a surrogate pair, which no UTF-8 file could hold again.
    try:
        problem = _damage(json.dumps(value, ensure_ascii=False)) if escapes else ""
    except RecursionError:
        problem = "lists or objects inside one another without end"
    if problem:
        sink.reject(place, problem)
    else:
        sink.add(place, value)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)


def _read_tsv(file: _File, sink: _Sink) -> None:
    _read_table(file, ((i, line.split("\t")) for i, line in enumerate(file.lines, 1)), sink)


def _read_csv(file: _File, sink: _Sink) -> None:
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


def _read_table(file: _File, rows: Iterable[tuple[int, list[str] | str]], sink: _Sink) -> None:
    label = f"{file.label}, line"
    header = sink.names.header
    at_start = True
    for number, fields in rows:
        if isinstance(fields, str):
            problem = fields
        elif all(map(_is_blank, fields)):
            sink.empty_rows += 1
            continue
        else:
            problem = next(filter(None, map(_damage, fields)), "")
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


def _check_header(fields: list[str] | str, where: str, sink: _Sink) -> list[str]:
    if isinstance(fields, str):
        raise DataError(f"the header cannot be read: {fields}", where=where)
    header = [name.strip() for name in fields]
    seen = sink.names.apply(dict.fromkeys(header))
    if missing := [name for name in sink.columns if name not in seen]:
        spare = [name for name in seen if name not in sink.columns]
        near = {name: _nearest_of(sink.names.theirs(name), spare) for name in missing}
        entries = " ".join(f"{name}={near[name] or 'NAME'}" for name in missing)
        raise DataError(
            sink.describe_missing(missing, header),
            where=where,
            hint=f"Give the names with --data.columns {entries}, or, if the file has no header, "
            "with the names of all its columns in order",
        )
    wanted = {*sink.columns, *sink.optional, *sink.names.renames}
    twice = sorted({name for name in header if name in wanted and header.count(name) > 1})
    if twice:
        raise DataError(f"the header has {_list_names(twice)} more than once", where=where)
    return header


_READERS: dict[str, Callable[[_File, _Sink], None]] = {
    "jsonl": _read_json_lines,
    "json": _read_json,
    "tsv": _read_tsv,
    "csv": _read_csv,
    "text": _read_plain,
}


def _lines(path: str | Path) -> Iterator[str]:
    """Give the lines of a file; bytes that are not UTF-8 become lone surrogates (see `_damage`)."""
    try:
        with ExitStack() as stack:
            for number, raw in enumerate(_open(path, stack)):
                if number == 0:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                line = raw.removesuffix(b"\n").removesuffix(b"\r")
                yield line.decode("utf-8", "surrogateescape")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _open(path: str | Path, stack: ExitStack) -> io.BufferedReader[Any]:
    raw = io.BytesIO(sys.stdin.buffer.read()) if str(path) == STDIN else io.FileIO(path)
    stream = stack.enter_context(io.BufferedReader(raw, _BUFFER_BYTES))
    if not str(path).lower().endswith(".gz") and stream.peek(2)[:2] != _GZIP_MAGIC:
        return stream
    # The outer buffer finds the ends of lines in C, which GzipFile alone does not.
    return io.BufferedReader(gzip.GzipFile(fileobj=stream), _BUFFER_BYTES)


def _unreadable(path: str | Path, error: Exception) -> FileError:
    label, hint = _label(path), ""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    if isinstance(error, FileNotFoundError):
        return FileError(f"there is no file {label}", hint=_hint_at_file(Path(path)))
    if isinstance(error, IsADirectoryError):
        reason, hint = "it is a directory", "Name a file in it"
    elif isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        reason = f"it is no whole gzip file: {error}"
        hint = "Copy it again, or take .gz off its name if it is not compressed"
    return FileError(f"{label} cannot be read: {reason}", hint=hint)


def _hint_at_file(path: Path) -> str:
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return f"There is no directory {_label(path.parent)} either"
    # Comparing names is slow, so a huge directory is not looked through to its end.
    near = _nearest_of(path.name, names[:2000])
    return f"The nearest name there is {_label(near)}" if near else ""


def _nearest_of(name: str, known: Sequence[str]) -> str:
    # `errors.nearest` lists all that is known when nothing is near: a directory is too long for it.
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")


@contextmanager
def _draft(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside the one meant, which takes its place when nothing has gone wrong."""
    path = path.resolve()
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            if path.suffix.lower() == ".gz":
                # Neither name nor time inside: equal rows make equal files.
                with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped:
                    yield cast(BinaryIO, zipped)
            else:
                yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _to_json(row: Mapping[str, Any], number: int) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"row {number} cannot be written as JSON: {error}") from error


def _damage(text: str) -> str:
    """Say what keeps a text from being written as UTF-8, if anything does."""
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before, code = text[max(0, error.start - 20) : error.start], ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return f"not UTF-8: byte 0x{code - 0xDC00:02x} after {before!r}"
        return f"no text: half of a surrogate pair, \\u{code:04x}, after {before!r}"
    return ""


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _label(path: str | Path) -> str:
    if str(path) == STDIN:
        return "standard input"
    # A name that is not UTF-8 must not break the message that shows it.
    return str(path).encode("utf-8", "backslashreplace").decode()


def _where(place: tuple[str, int]) -> str:
    return f"{place[0]} {place[1]}"


def _list_names(names: Iterable[str]) -> str:
    shown = [reprlib.repr(name) for name in names]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
