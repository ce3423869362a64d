"""Fields of dataclasses as TOML values, as flags and as help texts."""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import json
import math
import types
import typing
from dataclasses import is_dataclass
from typing import Any

from headway.errors import ConfigError


def describe_fields(config_class: type) -> dict[str, str]:
    """Read the line below each field of a config class, inherited ones too: its help text.

    Returns:
        texts: Field name -> text; an inherited field has its own class's, unless it is said anew.
    """
    texts = {}
    for part in reversed([part for part in config_class.__mro__ if is_dataclass(part)]):
        body = ast.parse(inspect.getsource(part)).body[0].body  # pyright: ignore
        for before, after in itertools.pairwise(body):
            if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                texts[before.target.id] = after.value.value  # pyright: ignore
    return texts


def convert(value: Any, kind: Any, *, where: str) -> Any:
    """Turn a TOML value or the words of a flag into a field's type.

    Args:
        value: From TOML (already typed) or a flag (a list of words).
        kind: The field's annotation.
        where: Key, for the message.
    Raises:
        ConfigError: if it does not fit.
    """
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        words = [word for option in options for word in typing.get_args(option)]
        if (word := value[0] if isinstance(value, list) and len(value) == 1 else value) in words:
            return word
        if value is None or value == ["none"] or value == "none":
            return None
        return convert(value, next(o for o in options if _is_plain(o)), where=where)
    if origin is tuple:
        items = list(value) if isinstance(value, list | tuple) else [value]
        if len(options) == 2 and options[1] is not Ellipsis and len(items) != len(options):
            raise ConfigError(f"{where} takes {len(options)} values, not {len(items)}")
        return tuple(convert(item, options[0], where=where) for item in items)
    if isinstance(value, list):
        if len(value) != 1:
            raise ConfigError(f"{where} takes one value, not {len(value)}")
        value = value[0]
    return _convert_one(value, kind, where=where)


def _is_plain(kind: Any) -> bool:
    """Say whether a part of a union is a type of values, neither None nor certain words."""
    return kind is not type(None) and typing.get_origin(kind) is not typing.Literal


def _convert_one(value: Any, kind: type, *, where: str) -> Any:
    wrong = ConfigError(f"{where} is {value!r}, but must be of type {kind.__name__}")
    if kind is bool:
        words = {"true": True, "yes": True, "false": False, "no": False}
        if (word := str(value).lower()) not in words:
            raise wrong
        return words[word]
    allowed = str if kind is str else str | int | float
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise wrong
    if kind is str:
        return value
    if kind is int and not isinstance(value, float):
        # Not by way of a float, which has no room for large integers; 1e4 goes that way.
        with contextlib.suppress(ValueError):
            return int(value)
    try:
        number = float(value)
        if kind is int and number != int(number):
            raise wrong
    except (ValueError, OverflowError) as error:
        raise wrong from error
    if not math.isfinite(number):
        raise ConfigError(f"{where} is {value!r}, but must be a finite number")
    return kind(number)


def to_toml(value: Any) -> str:
    """Write a value as TOML; None, which TOML lacks, as the word none."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, str):
        # A JSON string is a valid basic TOML string, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
