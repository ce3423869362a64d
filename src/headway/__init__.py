"""Headway: text in, a model you own out.

    import headway
    model = headway.load("run/model")
    model.translate(["ein Hund"])

Names are resolved on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headway.recipe import read as read_recipe
    from headway.sections import Recipe
    from headway.tasks._load import load
    from headway.tasks._model import Model
    from headway.train.run import resume as resume_run
    from headway.train.run import train as run_recipe

__version__ = "0.1.0"

__all__ = ["Model", "Recipe", "load", "read_recipe", "resume_run", "run_recipe"]

_HOMES = {
    "Model": ("headway.tasks._model", "Model"),
    "Recipe": ("headway.sections", "Recipe"),
    "load": ("headway.tasks._load", "load"),
    "read_recipe": ("headway.recipe", "read"),
    "resume_run": ("headway.train.run", "resume"),
    "run_recipe": ("headway.train.run", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headway' has no attribute {name!r}")
    if "torch" not in sys.modules:
        memory = importlib.import_module("headway.memory")
        memory.choose_environment(is_training=name in ("run_recipe", "resume_run"))
    module, attribute = _HOMES[name]
    value = vars(importlib.import_module(module))[attribute]
    globals()[name] = value
    return value
