"""Dates as dozens of locales write them, and the ISO 8601 date of each: the quickstart's data.

The patterns and names are Unicode's (CLDR), read through Babel: each locale's full, long, medium
and short form, three of its skeletons, and two plain patterns for locales that do not put the year
first. A record is `{"source": "fr dimanche 3 mars 2024", "target": "2024-03-03", "locale": "fr"}`.
The locale stands in front because the same words may mean different days: "3 listopada 2024" is in
October in Croatian and in November in Polish, and 3/4/2024 is in March or in April.

As Babel does it, and so here: all dates are Gregorian, also where the locale's own calendar is not
(th, fa); all digits are Latin, also where the locale's own are not (bn, fa, mr, my); spaces and
direction marks stay as CLDR has them, so a narrow no-break space is no plain space.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from babel import Locale
from babel.dates import format_date, get_date_format, parse_pattern

from headway.data.lines import write_jsonl
from headway.errors import ConfigError, FileError, join_problems, nearest

LOCALES: tuple[str, ...] = (
    # Latin script
    *("en", "en_GB", "de", "nl", "sv", "nb", "da", "is", "fr", "es", "pt", "it", "ro", "ca", "pl"),
    *("cs", "sk", "sl", "hr", "hu", "fi", "et", "lt", "lv", "tr", "id", "vi", "sw", "eu", "fil"),
    # Cyrillic, Greek, Armenian, Georgian, Ethiopic
    *("ru", "uk", "be", "bg", "sr", "mk", "kk", "mn", "el", "hy", "ka", "am"),
    # Hebrew and Arabic script, written from right to left
    *("he", "ar", "fa", "ur"),
    # South and South East Asia
    *("hi", "mr", "bn", "pa", "ta", "te", "th", "km", "my"),
    # East Asia
    *("zh", "zh_Hant", "ja", "ko"),
)

FIRST_YEAR, LAST_YEAR = 1900, 2099
# Seven dates in ten are drawn from these years, the rest from all of them.
RECENT_YEARS, RECENT_SHARE = (1950, 2050), 0.7

STYLES = ("full", "long", "medium", "short")
SKELETONS = ("yMMMEd", "yMd", "yMEd")
# People write these too, where the day or the month comes first; "3 mars 2024" needs no comma.
PLAIN_PATTERNS = ("d MMMM y", "EEE d MMM y")

# A locale that has given nothing new after so many draws in a row has nothing new to give.
MAX_FRUITLESS_DRAWS = 20_000

_FIELD = re.compile(r"%\(([A-Za-z]+)\)s")
# For each letter of a pattern: which part of a date it shows (see `_Writer.write`), and a date for
# each value of that part. 2001-01-01 was a Monday. Every year here has the same era.
_DAYS = (0, [date(2001, 1, day) for day in range(1, 32)])
_MONTHS = (1, [date(2001, month, 1) for month in range(1, 13)])
_YEARS = (2, [date(year, 1, 1) for year in range(FIRST_YEAR, LAST_YEAR + 1)])
_WEEKDAYS = (3, [date(2001, 1, day) for day in range(1, 8)])
_ERA = (4, [date(2001, 1, 1)])
_LETTERS = {"d": _DAYS, "y": _YEARS, "G": _ERA}
_LETTERS |= dict.fromkeys("ML", _MONTHS) | dict.fromkeys("Ec", _WEEKDAYS)


@dataclass(frozen=True, kw_only=True)
class DateSplits:
    """Written dates in three parts that share no written date, with or without the locale."""

    train: list[dict[str, str]]
    valid: list[dict[str, str]]
    test: list[dict[str, str]]
    ambiguous: int
    """Draws dropped because the text, with its locale, stands for several dates (3/4/24)."""
    duplicates: int
    """Draws dropped because the text was there already, or in a split that is held out."""


def generate_dates(
    *,
    num_train: int = 100_000,
    num_valid: int = 1_000,
    num_test: int = 5_000,
    seed: int = 0,
    locales: Sequence[str] = LOCALES,
) -> DateSplits:
    """Draw written dates, evenly over locales and over the patterns of each locale.

    The split is by the written text: a date string of test or valid is in no other split, not even
    under another locale. The day it stands for may be, written otherwise. The same arguments give
    the same splits; test does not depend on the sizes of the others, and a larger train set begins
    with the smaller one. Rows go round the locales in turn.

    Raises:
        ConfigError: if a locale is not in `LOCALES`, or a size is negative or more than there is.
    """
    sizes = {"num_train": num_train, "num_valid": num_valid, "num_test": num_test}
    _check(sizes, locales)
    draw = _Draw(seed, locales)
    test, valid, train = draw.split(num_test), draw.split(num_valid), draw.split(num_train)
    return DateSplits(
        train=train, valid=valid, test=test, ambiguous=draw.ambiguous, duplicates=draw.duplicates
    )


def count_ambiguous(records: Iterable[Mapping[str, str]]) -> int:
    """Count the distinct texts that, without their locale, have several targets in the records."""
    targets: dict[str, set[str]] = {}
    for record in records:
        text = record["source"].removeprefix(record["locale"] + " ")
        targets.setdefault(text, set()).add(record["target"])
    return sum(len(found) > 1 for found in targets.values())


def write_dates(directory: Path | str, splits: DateSplits) -> None:
    """Write train.jsonl, valid.jsonl and test.jsonl, each in one step: a record on a line.

    Raises:
        FileError: if the directory or a file in it cannot be written.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The dates cannot be written: {error.strerror or error}",
            where=str(error.filename or directory),
            hint="Name a directory that you may write to",
        ) from error
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    for name, records in parts.items():
        write_jsonl(directory / f"{name}.jsonl", records)


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """One pattern of one locale, with its names looked up beforehand.

    Babel takes the pattern apart anew for every date; looking names up in tables gives the same
    text about ten times as fast.
    """

    pattern: str
    template: str
    """The pattern with %s for each of its fields."""
    parts: tuple[int, ...]
    """For each field, the part of a date that it shows: an index into the tuple in `write`."""
    tables: tuple[tuple[str, ...], ...]
    """For each field, what is written for each value of that part."""

    def write(self, day: date) -> str:
        """Write a date as Babel's `format_date` does with this pattern."""
        values = (day.day - 1, day.month - 1, day.year - FIRST_YEAR, day.weekday(), 0)
        return self.template % tuple(
            [table[values[part]] for part, table in zip(self.parts, self.tables, strict=True)]
        )

    @property
    def is_injective(self) -> bool:
        """Whether two dates never look the same: day, month and year are there, none repeats."""
        return {0, 1, 2} <= set(self.parts) and all(
            len(set(table)) == len(table) for table in self.tables
        )

    @property
    def shape(self) -> tuple[str, ...]:
        """The template and what each field looks like: digits, or names of one kind."""
        looks = ("#" if table[0].isdecimal() else " ".join(table) for table in self.tables)
        return self.template, *looks


class _Draw:
    """Draws written dates that are unique and outside every split drawn before."""

    def __init__(self, seed: int, locales: Sequence[str]) -> None:
        self.random = random.Random(seed)
        self.locales = locales
        writers = {code: _read_writers(code) for code in locales}
        self.turns = {code: itertools.cycle(writers[code]) for code in locales}
        self.unclear = {code: _find_unclear(writers[code]) for code in locales}
        self.held_out: set[str] = set()
        self.ambiguous = 0
        self.duplicates = 0

    def split(self, count: int) -> list[dict[str, str]]:
        """Draw the records of one split, the locales in turn, and hold out their texts."""
        drawn: dict[tuple[str, str], str] = {}
        for code in itertools.islice(itertools.cycle(self.locales), count):
            text, day = self._draw_new(code, drawn)
            drawn[code, text] = day.isoformat()
        self.held_out.update(text for _, text in drawn)
        return [
            {"source": f"{code} {text}", "target": target, "locale": code}
            for (code, text), target in drawn.items()
        ]

    def _draw_new(self, code: str, drawn: dict[tuple[str, str], str]) -> tuple[str, date]:
        for _ in range(MAX_FRUITLESS_DRAWS):
            writer = next(self.turns[code])
            if writer.pattern in self.unclear[code]:
                self.ambiguous += 1
                continue
            day = self._draw_day()
            text = writer.write(day)
            if (code, text) not in drawn and text not in self.held_out:
                return text, day
            self.duplicates += 1
        raise ConfigError(
            f"Locale {code} has no new dates left after {len(drawn):,} of this split",
            hint="Ask for fewer records or name more locales",
        )

    def _draw_day(self) -> date:
        recent = self.random.random() < RECENT_SHARE
        first, last = RECENT_YEARS if recent else (FIRST_YEAR, LAST_YEAR)
        start, end = date(first, 1, 1).toordinal(), date(last, 12, 31).toordinal()
        # random() and not randint: only random() promises the same numbers in every Python.
        return date.fromordinal(start + int(self.random.random() * (end - start + 1)))


@cache
def _read_writers(code: str) -> tuple[_Writer, ...]:
    """Read the distinct patterns of a locale, in the order of `STYLES`, skeletons, plain ones."""
    locale = Locale.parse(code)
    patterns = [get_date_format(style, locale).pattern for style in STYLES]
    skeletons = locale.datetime_skeletons
    patterns += [skeletons[name].pattern for name in SKELETONS if name in skeletons]
    if not _find_fields(patterns[STYLES.index("long")])[0].startswith("y"):
        patterns += PLAIN_PATTERNS
    tables = {
        field: tuple(format_date(day, field, locale) for day in _LETTERS[field[0]][1])
        for field in {field for pattern in patterns for field in _find_fields(pattern)}
    }
    return tuple(
        _Writer(
            pattern=pattern,
            template=_FIELD.sub("%s", _parse(pattern)),
            parts=tuple(_LETTERS[field[0]][0] for field in _find_fields(pattern)),
            tables=tuple(tables[field] for field in _find_fields(pattern)),
        )
        for pattern in dict.fromkeys(patterns)
    )


def _parse(pattern: str) -> str:
    """Turn "d.M.y" into "%(d)s.%(M)s.%(y)s"."""
    # It is a string already; Babel's annotation says otherwise.
    return str(parse_pattern(pattern).format)


def _find_fields(pattern: str) -> list[str]:
    return _FIELD.findall(_parse(pattern))


def _find_unclear(writers: Sequence[_Writer]) -> frozenset[str]:
    """Name the patterns of a locale whose texts may stand for several dates.

    Either by themselves (years of two digits), or because two patterns look the same and put day,
    month and year in different orders.
    """
    orders: dict[tuple[str, ...], set[tuple[int, ...]]] = {}
    for writer in writers:
        orders.setdefault(writer.shape, set()).add(writer.parts)
    return frozenset(
        writer.pattern
        for writer in writers
        if not writer.is_injective or len(orders[writer.shape]) > 1
    )


def _check(sizes: Mapping[str, int], locales: Sequence[str]) -> None:
    """Refuse locales that are not ours and sizes that cannot be had."""
    unknown = [code for code in dict.fromkeys(locales) if code not in LOCALES]
    if unknown:
        names = join_problems([repr(code) for code in unknown])
        raise ConfigError(
            f"No dates are known for {names}", where="locales", hint=nearest(unknown[0], LOCALES)
        )
    if not locales or len(set(locales)) < len(locales):
        raise ConfigError(
            f"locales is {list(locales)}, but at least one was expected and none twice",
            hint="Name each locale once",
        )
    negative = [f"{name} is {size}" for name, size in sizes.items() if size < 0]
    if negative:
        raise ConfigError(f"{join_problems(negative)}, but sizes start at 0")
    days = date(LAST_YEAR, 12, 31).toordinal() - date(FIRST_YEAR, 1, 1).toordinal() + 1
    writers = [_read_writers(code) for code in locales]
    clear = min(len(found) - len(_find_unclear(found)) for found in writers)
    # Half, because the last new texts take ever more draws to find.
    most = len(locales) * clear * days // 2
    if sum(sizes.values()) > most:
        raise ConfigError(
            f"{' + '.join(sizes)} is {sum(sizes.values()):,}, but {len(locales)} locales give at "
            f"most {most:,} different dates",
            hint="Ask for fewer records or name more locales",
        )
