"""Files -> lines of text, and records -> files: UTF-8, gzip, and every failure as one line.

A line ends at "\\n" and nowhere else, and a "\\r" before it goes too: U+2028 and NUL are text.
Files are UTF-8, with or without a byte order mark, and gzip is read transparently.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import hashlib
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from headway.errors import DataError, FileError

STDIN = "-"
_GZIP_MAGIC = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 20


def read_lines(path: str | Path, *, keeps_ends: bool = False) -> Iterator[str]:
    """Give the lines of a file, as they are: `find_damage` tells which are not UTF-8.

    Args:
        path: File; gz too.
        keeps_ends: Leave the "\\n" at a line's end, which the last one may lack.
    Raises:
        FileError: if the file is missing, unreadable or damaged.
    """
    try:
        with ExitStack() as stack:
            for number, raw in enumerate(_open(path, stack)):
                if number == 0:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                line = raw.removesuffix(b"\n").removesuffix(b"\r")
                if keeps_ends and raw.endswith(b"\n"):
                    line += b"\n"
                # Bytes that are not UTF-8 become lone surrogates.
                yield line.decode("utf-8", "surrogateescape")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def read_text(path: str | Path, *, keeps_ends: bool = False) -> Iterator[str]:
    """Give the lines of a text file; arguments as for `read_lines`.

    Raises:
        DataError: at a line that is not UTF-8.
        FileError: if the file is missing, unreadable or damaged.
    """
    for number, line in enumerate(read_lines(path, keeps_ends=keeps_ends), 1):
        if problem := find_damage(line):
            raise DataError(
                f"the text is {problem}",
                where=f"{label_file(path)}, line {number}",
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
        with path.open("wb") if special else replacing(path) as stream:
            for number, row in enumerate(rows, 1):
                stream.write(_to_json(row, number))
    except OSError as error:
        raise FileError(
            f"{label_file(path)} cannot be written: {error.strerror or error}",
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
                hashes[label_file(path)] = hashlib.file_digest(stream, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
    return hashes


def find_damage(text: str) -> str:
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


def is_blank(text: str) -> bool:
    """Tell whether a text is empty or white space."""
    return not text or text.isspace()


def label_file(path: str | Path) -> str:
    """Name a file in messages."""
    if str(path) == STDIN:
        return "standard input"
    # A name that is not UTF-8 must not break the message that shows it.
    return str(path).encode("utf-8", "backslashreplace").decode()


def find_nearest(name: str, known: Sequence[str]) -> str:
    """Give the known name closest to a mistyped one, or "" when none is near.

    `errors.nearest` then lists what is known instead, which is no help for a directory.
    """
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), "")


def _open(path: str | Path, stack: ExitStack) -> io.BufferedReader[Any]:
    raw = io.BytesIO(sys.stdin.buffer.read()) if str(path) == STDIN else io.FileIO(path)
    stream = stack.enter_context(io.BufferedReader(raw, _BUFFER_BYTES))
    if not str(path).lower().endswith(".gz") and stream.peek(2)[:2] != _GZIP_MAGIC:
        return stream
    # The outer buffer finds the ends of lines in C, which GzipFile alone does not.
    return io.BufferedReader(gzip.GzipFile(fileobj=stream), _BUFFER_BYTES)


def _unreadable(path: str | Path, error: Exception) -> FileError:
    label, hint = label_file(path), ""
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
        return f"There is no directory {label_file(path.parent)} either"
    # Comparing names is slow, so a huge directory is not looked through to its end.
    near = find_nearest(path.name, names[:2000])
    return f"The nearest name there is {label_file(near)}" if near else ""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
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
