"""Records, where they came from, and the check that every row passes, whatever its format."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headway.data.lines import is_blank
from headway.errors import ConfigError, DataError, join_problems, nearest

# Blank rows that are named, not only counted.
_NUM_EMPTY_PLACES = 20
# These columns are text in every task; others may hold numbers, lists or objects.
_TEXT_COLUMNS = frozenset({"source", "target", "text", "text_pair"})


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
class Flags:
    """What hints call the settings that the user can change: by default, keys of a recipe.

    Args:
        skip_bad: Leaves bad rows out.
        columns: Takes the names of columns.
    """

    skip_bad: str = "--data.skip-bad true"
    columns: str = "--data.columns"


RECIPE_FLAGS = Flags()


@dataclass(frozen=True, kw_only=True)
class Records:
    """What was read from one or several files.

    Args:
        rows: Usable rows, in order.
        places: For each row the file, up to the word "line", and the number of the line.
        bad: Rows that cannot be used, in order; empty unless bad rows were to be skipped.
        empty_rows: Blank lines, which mean nothing and were left out.
        empty_places: File and line of the first 20 of them.
        files: Names of the files, as they appear in messages.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    empty_rows: int = 0
    empty_places: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, index: int) -> str:
        """Name the file and line of a usable row."""
        return _where(self.places[index])


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file to read: its name in messages, its format and its lines."""

    label: str
    kind: str
    lines: Iterable[str]


@dataclass(frozen=True, kw_only=True)
class Names:
    """How the columns of files are called: theirs -> ours, or all of ours in order."""

    renames: dict[str, str]
    header: list[str]

    def theirs(self, name: str) -> str:
        """Give the name by which the files call one of our columns."""
        return next((theirs for theirs, ours in self.renames.items() if ours == name), name)

    def apply(self, row: dict[str, Any]) -> dict[str, Any]:
        """Rename the columns of a row."""
        # All at once, so that two names can be exchanged; a column of theirs that is called like
        # one of ours gives way.
        taken = set(self.renames.values())
        return {
            self.renames.get(key, key): value
            for key, value in row.items()
            if key in self.renames or key not in taken
        }


def parse_names(
    names: Sequence[str], known: Sequence[str], columns: Sequence[str], *, where: str
) -> Names:
    """Parse what the user says about the names of columns (see `read_records`).

    Raises:
        ConfigError: with all that makes no sense in it.
    """
    header = [name for name in names if "=" not in name]
    ours, theirs = ([name.split("=", 1)[i] for name in names if "=" in name] for i in (0, 1))
    problems = []
    if ours and header:
        problems.append(f"some entries have a '=' and some have none ({header[0]!r})")
    if any(map(is_blank, [*header, *ours, *theirs])):
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
            where=where,
            hint=f"Write {columns[0]}=NAME for a column that the file calls otherwise, or, for a "
            "file without a header, the names of all its columns in order",
        )
    return Names(renames=dict(zip(theirs, ours, strict=True)), header=header)


@dataclass(kw_only=True)
class Sink:
    """Takes rows in the order of the files, checks them, and counts what cannot be used.

    Args:
        columns, optional, keep_blank, may_be_blank, problem, flags: As `read_records` has them.
        names: How the files call the columns.
    """

    columns: Sequence[str]
    optional: Sequence[str]
    names: Names
    flags: Flags
    keep_blank: bool
    may_be_blank: Sequence[str]
    problem: Callable[[dict[str, Any]], str | None]
    records: Records = field(default_factory=Records)
    num_empty: int = 0
    lacking: str = ""
    """A column that some row does not have."""

    def add(self, place: tuple[str, int], row: dict[str, Any]) -> None:
        """Take a row as the file has it, if it passes the check."""
        if self.names.renames:
            row = self.names.apply(row)
        for column in self.optional:
            if column in row and row[column] is None:
                del row[column]
        if problem := self._problem(row):
            self.reject(place, problem)
        else:
            self._keep(place, row)

    def add_blank(self, place: tuple[str, int]) -> None:
        """Take a blank line of plain text: leave it out, or keep it as an empty text."""
        if self.keep_blank:
            self._keep(place, dict.fromkeys(self.columns, ""))
        else:
            self.leave_out(place)

    def _keep(self, place: tuple[str, int], row: dict[str, Any]) -> None:
        self.records.rows.append(row)
        self.records.places.append(place)

    def leave_out(self, place: tuple[str, int]) -> None:
        """Count a blank row."""
        self.num_empty += 1
        if self.num_empty <= _NUM_EMPTY_PLACES:
            self.records.empty_places.append(_where(place))

    def reject(self, place: tuple[str, int], problem: str) -> None:
        """Note a row that cannot be used."""
        index = len(self.records.rows) + len(self.records.bad)
        self.records.bad.append(BadRow(where=_where(place), index=index, problem=problem))

    def _problem(self, row: dict[str, Any]) -> str:
        for column in self.columns:
            value = row.get(column)
            if isinstance(value, str):
                if is_blank(value) and column not in self.may_be_blank:
                    return f"{column} is blank"
            elif column not in row:
                self.lacking = column
                return self.describe_missing([column], row)
            elif value is None:
                return f"{column} is null"
            elif column in _TEXT_COLUMNS:
                return f"{column} is no text, but {reprlib.repr(value)}"
        for column in self.optional:
            if column in _TEXT_COLUMNS and not isinstance(row.get(column, ""), str):
                return f"{column} is no text, but {reprlib.repr(row[column])}"
            if column in _TEXT_COLUMNS and column in row and is_blank(row[column]):
                return f"{column} is blank"
        return self.problem(row) or ""

    def describe_missing(self, columns: Sequence[str], seen: Iterable[str]) -> str:
        """Say which columns are not there, in the names that the user knows."""
        asked = [
            f"{theirs!r} (as {name})" if (theirs := self.names.theirs(name)) != name else repr(name)
            for name in columns
        ]
        return f"no column {' or '.join(asked)} among {list_names(seen)}"

    def finish(self, files: list[str], *, skip_bad: bool) -> Records:
        """Give what was read.

        Raises:
            DataError: if no row is left, or some are bad and not to be skipped.
        """
        records = dataclasses.replace(self.records, empty_rows=self.num_empty, files=files)
        bad = [f"{row.where}: {row.problem}" for row in records.bad]
        if bad and not skip_bad:
            hint = f"Use {self.flags.skip_bad} to leave them out"
            if self.lacking:
                hint += f", or name the column with {self.flags.columns} {self.lacking}=NAME"
            raise DataError(
                f"{len(bad):,} of {len(records) + len(bad):,} rows cannot be used: "
                + join_problems(bad),
                hint=hint,
            )
        # Where answers are to stay in step with lines, bad rows are worth an answer each.
        if not records.rows and not (bad and self.keep_blank):
            counts = f"{len(bad):,} bad and {self.num_empty:,} blank"
            raise DataError(
                f"{join_problems(files)} has no usable rows ({counts})", hint="".join(bad[:1])
            )
        return records


def list_names(names: Iterable[str]) -> str:
    """Show names in a message: each one shortened, and ten at most."""
    shown = [reprlib.repr(name) for name in names]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")


def _where(place: tuple[str, int]) -> str:
    return f"{place[0]} {place[1]}"
