"""A recipe: everything a run needs, as a TOML file, as flags, as frozen dataclasses.

The sections are in `sections.py`; neither file needs torch or any model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headway.errors import ConfigError, FileError, nearest
from headway.fields import convert, to_toml
from headway.sections import OPEN_SECTIONS, SECTIONS, Recipe, dash


def own_fields(section: str) -> dict[str, dataclasses.Field]:
    """List the fields that a section itself has, without the settings of a model or task."""
    fields = {item.name: item for item in dataclasses.fields(SECTIONS[section])}
    if section in OPEN_SECTIONS:
        del fields["settings"]
    return fields


def read_toml(text: str, *, where: str) -> dict[str, dict[str, Any]]:
    """Read the sections of a recipe file.

    Raises:
        ConfigError: for broken TOML, an unknown section, or a key outside of a section.
    """
    try:
        sections = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the recipe is no valid TOML: {error}", where=where) from error
    for name, content in sections.items():
        if name not in SECTIONS:
            raise ConfigError(
                f"a recipe has no section {name!r}", where=where, hint=nearest(name, SECTIONS)
            )
        if not isinstance(content, dict):
            raise ConfigError(f"{name} must be a section: [{name}]", where=where)
    return sections


def build(sections: Mapping[str, Mapping[str, Any]], *, where: str) -> Recipe:
    """Build a recipe from the sections of files and flags, already merged.

    Keys of `model` and `task` that are not their own become settings of the architecture and the
    task, and are checked by `check_settings`.

    Raises:
        ConfigError: for an unknown key, with the nearest known one, or a value of a wrong type.
    """
    built = {}
    for name, section_class in SECTIONS.items():
        own: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for key, value in sections.get(name, {}).items():
            key = key.replace("-", "_")
            if key in own or key in settings:
                raise ConfigError(f"{name}.{dash(key)} is given twice", where=where)
            is_own = name not in OPEN_SECTIONS or key in own_fields(name)
            (own if is_own else settings)[key] = value
        values = convert_settings(name, own, section_class, where=where)
        if name in OPEN_SECTIONS:
            values["settings"] = settings
        if values.get("batch_rows") is not None:
            values.setdefault("batch_tokens", None)
        built[name] = section_class(**values)
    recipe = Recipe(**built)
    try:
        recipe.check()
    except ConfigError as error:
        raise ConfigError(error.message, where=where) from error
    return recipe


def convert_settings(
    section: str, settings: Mapping[str, Any], config_class: type, *, where: str
) -> dict[str, Any]:
    """Give the keys of a section, or the settings of a model or task, the types of their class.

    Raises:
        ConfigError: for an unknown key, with the nearest known one, or a value of a wrong type.
    """
    hints = typing.get_type_hints(config_class)
    kinds = {item.name: hints[item.name] for item in dataclasses.fields(config_class)}
    values = {}
    for key, value in settings.items():
        if key not in kinds:
            known = {*map(dash, kinds), *map(dash, own_fields(section))}
            raise ConfigError(
                f"there is no {section}.{dash(key)}", where=where, hint=nearest(dash(key), known)
            )
        values[key] = convert(value, kinds[key], where=f"{section}.{dash(key)}")
    return values


def shipped() -> dict[str, Path]:
    """List the recipes that come with the package: name -> file."""
    folder = Path(__file__).parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find(name: str) -> Path:
    """Find a recipe: a file, or the name of a shipped one.

    Raises:
        FileError: with the nearest names, if there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    recipes = shipped()
    if name in recipes:
        return recipes[name]
    hint = nearest(name, recipes, count=3)
    raise FileError(f"there is no recipe file or shipped recipe {name!r}", hint=hint)


def read(path: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """Read a recipe file; flags come on top.

    Args:
        path: TOML file.
        overrides: Section -> key -> value, from flags.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"the recipe cannot be read: {error}", where=str(path)) from error
    sections = read_toml(text, where=str(path))
    merged = {name: {**sections.get(name, {})} for name in SECTIONS}
    for name, values in (overrides or {}).items():
        if name not in SECTIONS:
            raise ConfigError(f"a recipe has no section {name!r}", hint=nearest(name, SECTIONS))
        chosen = {key.replace("-", "_") for key in values}
        kept = {k: v for k, v in merged[name].items() if k.replace("-", "_") not in chosen}
        merged[name] = _exclusive(kept, chosen) | dict(values)
    return build(merged, where=str(path))


def _exclusive(values: dict[str, Any], chosen: set[str]) -> dict[str, Any]:
    """Let a flag for one way to size a batch or a run replace the file's other way."""
    pairs = {"batch_rows": "batch_tokens", "batch_tokens": "batch_rows", "epochs": "steps"}
    for given in chosen & set(pairs):
        values.pop(pairs[given], None)
        values.pop(dash(pairs[given]), None)
    return values


def write(recipe: Recipe) -> str:
    """Write a recipe as TOML that `read` gives back."""
    lines = []
    for name in SECTIONS:
        section = getattr(recipe, name)
        values = {key: getattr(section, key) for key in own_fields(name)}
        if name in OPEN_SECTIONS:
            values |= section.settings
        lines.append(f"[{name}]")
        lines += [f"{dash(key)} = {to_toml(value)}" for key, value in values.items()]
        lines.append("")
    return "\n".join(lines)


def identify(recipe: Recipe) -> str:
    """Hash everything in a recipe that a run cannot change on its way: all but its length."""
    training = dataclasses.replace(recipe.training, steps=None, epochs=1.0)
    text = write(dataclasses.replace(recipe, training=training))
    return hashlib.sha256(text.encode()).hexdigest()
