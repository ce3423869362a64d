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


def must_be(task: Any, name: str, bounds: str, *, is_right: bool) -> list[str]:
    """Say of a setting what it must be, unless it is: "from 0 to below 1"."""
    return [] if is_right else [f"{name} is {getattr(task, name)}, but must be {bounds}"]


def within(task: Any, name: str, low: float, high: float, shown: str = "") -> list[str]:
    """Say what is wrong with a setting that has two bounds; `shown` says what the upper one is."""
    is_right = low <= getattr(task, name) <= high
    return must_be(task, name, f"from {low} to {shown or high}", is_right=is_right)


def rate_problems(task: Any, name: str = "dropout") -> list[str]:
    """Say what is wrong with a rate."""
    return must_be(task, name, "from 0 to below 1", is_right=0 <= getattr(task, name) < 1)


def length_problems(task: Any) -> list[str]:
    """Say what is wrong with `dropout` and `max_tokens`, which most tasks on encoders have."""
    return rate_problems(task) + at_least(task, {"max_tokens": 8})
