"""Names of classes, as records write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

# Between several classes of a row, in a table.
_SEPARATOR = "|"
_NUMBER = re.compile(r"-?\d{1,18}")


def label_names(value: Any, *, several: bool) -> list[str]:
    """Read the class, or classes, of a row.

    Args:
        value: A word or a whole number; where there are several, a list of them, or a text with
            "|" between them.
        several: A row may have any number of classes.
    Raises:
        ValueError: saying what is wrong.
    """
    if several and not isinstance(value, list):
        if not isinstance(value, str | int):
            raise ValueError(f"label is {value!r}, but must be a list of classes")
        value = [part for part in str(value).split(_SEPARATOR) if part.strip()]
    values = value if several else [value]
    names = []
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"label is {item!r}, but must be a word or a whole number")
        if not str(item).strip():
            raise ValueError("label is empty")
        names.append(str(item).strip())
    return names


def order_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Put classes in order: numbers by size, words by the alphabet."""

    def key(name: str) -> tuple:
        return (0, int(name), name) if _NUMBER.fullmatch(name) else (1, 0, name)

    return tuple(sorted(set(names), key=key))


def read_number(value: Any, name: str = "label") -> float:
    """Read a number.

    Args:
        value: A number, or one written as text.
        name: What it is, for messages.
    Raises:
        ValueError: saying what is wrong.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}, but must be a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}, but must be a finite number")
    return number
