"""The errors that a user can meet, and the exit code that belongs to each.

    HeadwayError
      ConfigError    a recipe, a flag or a model config asks for something impossible
      DataError      rows that cannot be used
      FileError      a file or directory is missing, damaged, in use or not to be trusted
      ShapeError     tensors that do not fit each other
      TrainError     a training run that cannot go on
      RequestError   a call to a model that it cannot answer

A message says what is wrong with the value seen, what was expected, where, and what to do:

    model.num_attention_heads is 10, but hidden_size 768 is not divisible by it.
    In recipe.toml, line 7. Use 8, 12 or 16.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
# Training was stopped by a signal and its checkpoint is saved: run it again with --resume.
EXIT_STOPPED = 75
# Interrupted without anything to go on from.
EXIT_INTERRUPTED = 130

# Known words that a hint lists; the rest is counted.
_MOST_KNOWN = 12


class HeadwayError(Exception):
    """A problem that one line can explain.

    Args:
        message: What is wrong and what was expected, without a final full stop.
        where: The file, line or field, such as "recipe.toml, line 7".
        hint: What to do about it, as an instruction.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f" In {self.where}." if self.where else ""
        advice = f" {_end(self.hint)}" if self.hint else ""
        line = f"{_end(self.message)}{place}{advice}"
        # One line, whatever a file name or a foreign message brings along.
        return " ".join(line.split())


class ConfigError(HeadwayError):
    """A recipe, a flag or a model config asks for something impossible."""

    exit_code = EXIT_USAGE


class DataError(HeadwayError):
    """Rows that cannot be used."""


class FileError(HeadwayError):
    """A file or directory is missing, damaged, in use or not to be trusted."""


class ShapeError(HeadwayError):
    """Tensors that do not fit each other."""


class TrainError(HeadwayError):
    """A training run that cannot go on."""


class RequestError(HeadwayError):
    """A call to a model that it cannot answer."""


def nearest(name: str, known: Iterable[str], *, count: int = 1) -> str:
    """Name the known words closest to a mistyped one, as the end of a hint.

    Returns:
        "did you mean 'x'?" with up to `count` words, or up to 12 of the known when none is near.
    """
    words = sorted(known)
    close = difflib.get_close_matches(name, words, n=count, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(word) for word in close) + "?"
    if not words:
        return "there are none"
    rest = len(words) - _MOST_KNOWN
    return "known: " + ", ".join(words[:_MOST_KNOWN]) + (f" and {rest} more" if rest > 0 else "")


def join_problems(problems: list[str], *, shown: int = 5) -> str:
    """Join several problems of one kind into one sentence; the rest is counted."""
    rest = len(problems) - shown
    return "; ".join(problems[:shown]) + (f"; and {rest} more" if rest > 0 else "")


def _end(sentence: str) -> str:
    bare = sentence.strip().rstrip(".")
    return bare if bare.endswith(("?", "!")) else f"{bare}."
