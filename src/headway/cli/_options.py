"""Options of a verb: its dataclass, and the keys of a recipe as flags."""

from __future__ import annotations

import dataclasses
import sys
import textwrap
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import tyro

from headway import fields, recipe
from headway.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class TakesRecipe:
    """Options of a verb that takes every key of a recipe as a flag."""

    overrides: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=dict)
    """Section -> key -> words."""


def parse(module: ModuleType, verb: str, arguments: list[str]) -> Any:
    """Read a verb's words into its Options.

    Args:
        module: The verb's file, with `Options`.
        verb: Its name.
        arguments: Words after the verb.
    """
    takes_recipe = issubclass(module.Options, TakesRecipe)
    overrides: dict[str, dict[str, list[str]]] = {}
    if takes_recipe:
        overrides, arguments = split_recipe_flags(arguments)
    wants_help = "--help" in arguments or "-h" in arguments
    if wants_help:
        # The example comes first, laid out as it is written.
        sys.stdout.write(textwrap.dedent(module.__doc__ or "") + "\n")
    try:
        options = tyro.cli(
            module.Options,
            args=arguments,
            prog=f"headway {verb}",
            description="",
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    finally:
        if wants_help and takes_recipe:
            sys.stdout.write(_recipe_help())
    return dataclasses.replace(options, overrides=overrides) if takes_recipe else options


def split_recipe_flags(words: list[str]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Take `--section.key value` out of a command line.

    A key that holds several values (`--data.train a.de a.en`) takes all words up to the next flag.

    Returns:
        overrides: Section -> key -> words.
        rest: The other words, in order.
    Raises:
        ConfigError: for an unknown section, or a flag without a value.
    """
    overrides: dict[str, dict[str, list[str]]] = {}
    rest: list[str] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if not word.startswith("--") or "." not in word.split("=")[0]:
            rest.append(word)
            continue
        name, _, value = word[2:].partition("=")
        section, _, key = name.partition(".")
        key = key.replace("-", "_")
        if section not in recipe.SECTIONS:
            raise ConfigError(
                f"a recipe has no section {section!r}", hint=nearest(section, recipe.SECTIONS)
            )
        values = [value] if value else []
        kind = typing.get_type_hints(recipe.SECTIONS[section]).get(key)
        many = typing.get_origin(kind) is tuple
        while place < len(words) and not words[place].startswith("--") and (many or not values):
            values.append(words[place])
            place += 1
        if not values:
            raise ConfigError(f"--{name} needs a value")
        overrides.setdefault(section, {})[key] = values
    return overrides, rest


def _recipe_help() -> str:
    lines = ["Keys of a recipe, each of them a flag (--training.peak-lr 3e-4):", ""]
    for section, section_class in recipe.SECTIONS.items():
        texts = fields.describe_fields(section_class)
        for name, own in recipe.own_fields(section).items():
            default = "" if own.default is dataclasses.MISSING else own.default
            flag = f"--{section}.{name.replace('_', '-')}"
            lines.append(f"  {flag:<32} {texts.get(name, '')} ({default})")
    lines += [
        "",
        "Further keys of [model] and [task] are those of the chosen architecture and task:",
    ]
    lines += ["headway inspect RECIPE prints them all.", "", ""]
    return "\n".join(lines)
