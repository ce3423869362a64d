"""List the recipes that come with the package.

headway recipes
headway new multi30k-transformer > my.toml
"""

from __future__ import annotations

import json as json_
import sys
from dataclasses import dataclass

from headway import recipe


@dataclass(frozen=True)
class Options:
    """Options of `headway recipes`."""

    json: bool = False
    """Print one JSON object per recipe."""


def run(options: Options) -> int:
    """Print name and first comment line of each recipe."""
    for name, path in recipe.shipped().items():
        summary = path.read_text(encoding="utf-8").split("\n")[0].lstrip("# ")
        line = f"{name:<22} {summary}"
        if options.json:
            line = json_.dumps({"name": name, "summary": summary})
        sys.stdout.write(line + "\n")
    return 0
