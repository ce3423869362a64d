"""List the recipes that come with the package.

headway recipes
headway new multi30k-transformer > my.toml
"""

from __future__ import annotations

from dataclasses import dataclass

from headway import recipe
from headway.cli import _records


@dataclass(frozen=True)
class Options:
    """Options of `headway recipes`."""

    json: bool = False
    """Print one JSON object per recipe."""


def run(options: Options) -> None:
    """Print name and first comment line of each recipe."""
    for name, path in recipe.shipped().items():
        summary = path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
        values = {"name": name, "summary": summary}
        _records.write(values, f"{name:<22} {summary}", as_json=options.json)
