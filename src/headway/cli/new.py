"""Print a shipped recipe, to start a recipe of your own from.

headway new multi30k-transformer > my.toml
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import tyro

from headway import recipe
from headway.errors import FileError, nearest


@dataclass(frozen=True)
class Options:
    """Options of `headway new`."""

    name: tyro.conf.Positional[str]
    """Name of a shipped recipe."""


def run(options: Options) -> None:
    """Print the recipe's file as it is, comments included."""
    shipped = recipe.shipped()
    if options.name not in shipped:
        raise FileError(
            f"there is no shipped recipe {options.name!r}",
            hint=nearest(options.name, shipped, count=3),
        )
    sys.stdout.write(shipped[options.name].read_text(encoding="utf-8"))
