"""Files of running text as segments: short enough to be tokenized, documents kept apart.

Where the ends of lines do not matter a segment is a line; where text shall be written again as it
was, segments are cut between two words, where no tokenizer sees across.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.data.lines import find_damage, is_blank, label_file, read_text
from headway.errors import DataError

# A line longer than this is cut: the library takes a hundred times a text's size to encode it.
_LONGEST_SEGMENT = 1 << 16
# Text whose lines are kept is cut into pieces of about so many characters, between two words.
_PIECE_CHARACTERS = 1 << 13
_BETWEEN_WORDS = re.compile(r"(?<=\w) (?=\w)")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of running text.

    Args:
        text: Not blank, unless the ends of lines are kept.
        begins: It is the first of its document.
    """

    text: str
    begins: bool


def read_corpus(
    paths: Sequence[str | Path], counts: Counter[str] | None = None, *, keeps_lines: bool = False
) -> Iterator[Segment]:
    """Read corpus files: plain text (a blank line begins a new document) or JSONL ("text").

    Args:
        paths: Files, one after the other; gz too. No document spans two.
        counts: Its "blank_lines" are counted up, if it is given.
        keeps_lines: Keep the ends of lines, blank lines too; a file of plain text is then one
            document.
    Raises:
        DataError: at a line that cannot be used.
        FileError: if a file is missing, unreadable or damaged.
    """
    counts = Counter() if counts is None else counts
    for path in paths:
        if str(path).lower().removesuffix(".gz").endswith((".csv", ".tsv", ".parquet")):
            raise DataError(
                f"{label_file(path)} is a table, but a corpus is plain text or JSONL",
                hint='write one column as text, or rows as {"text": "..."}',
            )
        if keeps_lines:
            yield from _read_whole(path)
            continue
        has_rows, begins = is_json(path), True
        for number, line in enumerate(read_text(path), 1):
            if is_blank(line):
                begins = True
                counts["blank_lines"] += 1
                continue
            texts = _text_of(line, path, number).split("\n") if has_rows else [line]
            begins = begins or has_rows
            texts = itertools.filterfalse(is_blank, texts)
            for part in itertools.chain.from_iterable(map(_split_long, texts)):
                yield Segment(text=part, begins=begins)
                begins = False


def _read_whole(path: str | Path) -> Iterator[Segment]:
    """Read documents as they stand: a file of plain text is one, a row of JSONL is one."""
    documents: Iterable[Iterable[str]] = [read_text(path, keeps_ends=True)]
    if is_json(path):
        documents = (
            [_text_of(line, path, number)]
            for number, line in enumerate(read_text(path), 1)
            if not is_blank(line)
        )
    for parts in documents:
        for place, text in enumerate(_cut_between_words(parts)):
            yield Segment(text=text, begins=place == 0)


def _cut_between_words(parts: Iterable[str]) -> Iterator[str]:
    """Join parts of a text, and cut it where no tokenizer sees across: before " word"."""
    held, seen = "", 0
    for part in parts:
        held += part
        if len(held) < _PIECE_CHARACTERS:
            continue
        start = 0
        for found in _BETWEEN_WORDS.finditer(held, seen):
            if found.start() - start >= _PIECE_CHARACTERS:
                yield from _split_long(held[start : found.start()])
                start = found.start()
        *long, held = _split_long(held[start:])
        yield from long
        # Of what is left nothing is looked through again, but a space whose word may come.
        seen = max(0, len(held) - 1)
    if held:
        yield from _split_long(held)


def _split_long(line: str) -> Iterator[str]:
    """Cut a line that is a whole book into parts, at spaces: memory stays bounded."""
    start = 0
    while len(line) - start > _LONGEST_SEGMENT:
        end = line.rfind(" ", start + 1, start + _LONGEST_SEGMENT)
        end = end if end > start else start + _LONGEST_SEGMENT
        yield line[start:end]
        start = end
    yield line[start:] if start else line


def is_json(path: str | Path) -> bool:
    """Say whether a file has a JSON object on each line, by its name."""
    return str(path).lower().removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json"))


def _text_of(line: str, path: str | Path, number: int) -> str:
    """Give the text of a row."""
    where = f"{label_file(path)}, line {number}"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line is no JSON: {error}", where=where) from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise DataError("the row has no 'text'", where=where, hint='write {"text": "..."}')
    if problem := find_damage(text):
        raise DataError(f"the text is {problem}", where=where)
    return text
