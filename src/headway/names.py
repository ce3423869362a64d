"""Small values that say how published names map to ours, and how a table of them is written.

A model file lists its published layouts as data; `files/rename.py` runs the lists in both
directions. `{}` stands for a layer number and matches digits only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Rename:
    """One published parameter is one of ours.

    Rename("encoder.layer.{}.attention.self.query", "encoder.layers.{}.attention.query") covers
    `.weight` and `.bias` below that name, and the parameter of exactly that name.
    """

    published: str
    ours: str


class Transpose(Rename):
    """As Rename, for a matrix that the published file stores the other way round."""


class OneRow(Rename):
    """As Rename, for a vector that the published file stores as a matrix of one row."""


@dataclass(frozen=True)
class Split:
    """One published parameter is several of ours, laid one after the other along an axis.

    `transposed`: the published file stores the matrix the other way round; the axis is its own.
    """

    published: str
    ours: tuple[str, ...]
    axis: int = 0
    transposed: bool = False


class Tie(Rename):
    """A second published name of a parameter; read when the first is absent, never written."""


class Copy(Rename):
    """A second published name of a parameter; read when the first is absent, and written too."""


@dataclass(frozen=True)
class Ignore:
    """A published tensor that carries nothing we need."""

    published: str


def renames_below(
    published: str, ours: str, pairs: Iterable[tuple[str, str]]
) -> tuple[Rename, ...]:
    """Name what lies below a published name and below one of ours: (theirs, ours) each."""
    return tuple(Rename(f"{published}.{theirs}", f"{ours}.{own}") for theirs, own in pairs)


Entry = Rename | Split | Ignore


def published_fields(
    config_class: type, renamed: Mapping[str, str | tuple[str, ...]] = MappingProxyType({})
) -> dict[str, tuple[str, ...]]:
    """Say how a config's fields are published: by their own names, or by those in `renamed`.

    A field may have several published names, or, with (), none.
    """
    named = {item.name: renamed.get(item.name, item.name) for item in fields(config_class)}
    return {
        own: (names,) if isinstance(names, str) else names for own, names in named.items() if names
    }


@dataclass(frozen=True)
class PublishedHead:
    """A published class: an architecture with what stands on top of it.

    Args:
        architecture: The class in `config.json`.
        parts: Optional parts of the body that this class has, such as "pooler"; None: the
            architecture has no optional parts.
        renames: Names of the head's own parameters, below `head.`, and of parts that this class
            calls otherwise.
        is_body: The class is the body alone, whose parameters have no prefix.
        dropout: Published key with the rate of dropout before the head's results; "": none.
    """

    architecture: str
    parts: tuple[str, ...] | None = None
    renames: tuple[Entry, ...] = ()
    is_body: bool = False
    dropout: str = ""


@dataclass(frozen=True)
class Layout:
    """How one published family writes an architecture.

    Args:
        model_type: The word in `config.json`.
        heads: Kind of head -> the published class. A file that names none of them is read as the
            first.
        when: Values of our config that this layout stands for, such as {"norm": "post"}. Where
            `config` has them too, files say which of several layouts of one model_type is meant.
        config: Our config field -> the published keys that carry it (all of them are written,
            and all that are present must agree). "a.b" is key b of the object a.
        constants: Published keys that this architecture fixes; a file that says otherwise is
            refused.
        derived: Gives published keys that follow from our config, likewise.
        settle: Says in the words of `config` what files of several ages say otherwise.
        extras: Published keys written for the benefit of other readers, not checked.
        prefix: What the body's parameters are called below, in a class with a head.
        renames: The parameter names of the body, without the prefix.
    """

    model_type: str
    heads: Mapping[str, PublishedHead]
    when: Mapping[str, object] = field(default_factory=dict)
    config: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    derived: Callable[[Any], Mapping[str, object]] = lambda config: {}
    settle: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda published: published
    extras: Mapping[str, object] = field(default_factory=dict)
    prefix: str = ""
    renames: tuple[Entry, ...] = ()

    def table(self, kind: str, *, prefixed: bool | None = None) -> tuple[Entry, ...]:
        """Give the names of a whole class: of its head, then of its body.

        Args:
            kind: Key of `heads`.
            prefixed: Whether the body's names have the prefix; None: as this class has them.
        """
        head = self.heads[kind]
        if prefixed is None:
            prefixed = not head.is_body
        body = self.renames
        if self.prefix and prefixed:
            body = tuple(replace(entry, published=self.prefix + entry.published) for entry in body)
        return (*head.renames, *body)


def part_of(name: str, pattern: str) -> str | None:
    """Say which part of a network a parameter belongs to: itself, or the module it lies in.

    Args:
        name: Of a parameter, in our words.
        pattern: Names of parts; `{}` stands for a layer number, `*` for anything.
    Returns:
        part: The pattern with its number filled in; None: the parameter is not in any such part.

    >>> part_of("encoder.layers.11.attention.key.bias", "encoder.layers.{}")
    'encoder.layers.11'
    >>> part_of("encoder.layers.11.attention.key.bias", "encoder.layers.1") is None
    True
    """
    expression = re.escape(pattern).replace(r"\{\}", r"(\d+)").replace(r"\*", ".*")
    found = re.fullmatch(expression + r"(?:\..*)?", name)
    if found is None:
        return None
    return pattern.replace("{}", found[1]) if "{}" in pattern else pattern
