"""What can be wrong with the settings of a task: a sentence for each problem."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from headway.errors import nearest


def one_of(task: Any, allowed: Mapping[str, Collection[str]]) -> list[str]:
    """Say which settings are none of the words that they may be.

    Args:
        task: Has the settings.
        allowed: Setting -> words.
    """
    values = {name: getattr(task, name) for name in allowed}
    return [
        f"{name} is {value!r}; {nearest(value, allowed[name])}"
        for name, value in values.items()
        if value not in allowed[name]
    ]


def at_least(task: Any, bounds: Mapping[str, int]) -> list[str]:
    """Say which settings are below their bounds.

    Args:
        task: Has the settings.
        bounds: Setting -> lowest value.
    """
    values = {name: getattr(task, name) for name in bounds}
    return [
        f"{name} is {value}, but at least {bounds[name]} is needed"
        for name, value in values.items()
        if value < bounds[name]
    ]


def rate_problems(dropout: float) -> list[str]:
    """Say what is wrong with a rate of dropout."""
    return [] if 0 <= dropout < 1 else [f"dropout is {dropout}, but must be from 0 to below 1"]


def length_problems(task: Any) -> list[str]:
    """Say what is wrong with `dropout` and `max_tokens`, which most tasks on encoders have."""
    return rate_problems(task.dropout) + at_least(task, {"max_tokens": 8})
