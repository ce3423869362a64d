"""Checks that the configs of several architectures share; each gives the problems it finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def too_small(config: Any, *names: str) -> list[str]:
    """Find sizes and counts below 1."""
    return [
        f"{name} is {getattr(config, name)}, but at least 1 is needed"
        for name in names
        if getattr(config, name) < 1
    ]


def no_shares(config: Any, *names: str) -> list[str]:
    """Find rates that are not from 0 to below 1."""
    return [
        f"{name} is {getattr(config, name)}, but must be from 0 to below 1"
        for name in names
        if not 0 <= getattr(config, name) < 1
    ]


def unknown_words(config: Any, choices: Mapping[str, Iterable[str]]) -> list[str]:
    """Find choices that nobody knows: `choices` lists the words of each field."""
    return [
        f"{name} is {getattr(config, name)!r}, but must be one of {', '.join(allowed)}"
        for name, allowed in choices.items()
        if getattr(config, name) not in allowed
    ]


def uneven_heads(config: Any) -> list[str]:
    """Find a width that the heads cannot share."""
    if config.num_attention_heads >= 1 and config.hidden_size % config.num_attention_heads == 0:
        return []
    return [
        f"num_attention_heads is {config.num_attention_heads}, but hidden_size "
        f"{config.hidden_size} is not divisible by it"
    ]
