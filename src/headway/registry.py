"""The folder is the registry: `models/`, `tasks/` and `cli/` are listed, not imported.

A key is a file name; files that begin with `_` are not keys. What a listing needs (the first line
of the docstring, the literal tuple PUBLISHED) is read from the source without importing it, so a
listing costs milliseconds and never imports torch.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from headway.errors import ConfigError, nearest

_ROOT = Path(__file__).parent


def list_keys(folder: str) -> list[str]:
    """List the keys of a folder of the package, such as "models"."""
    return sorted(
        file.stem for file in (_ROOT / folder).glob("*.py") if not file.name.startswith("_")
    )


def _parse(folder: str, key: str) -> ast.Module:
    return ast.parse((_ROOT / folder / f"{key}.py").read_text(encoding="utf-8"))


def summary(folder: str, key: str) -> str:
    """Read the first line of a file's docstring."""
    return (ast.get_docstring(_parse(folder, key)) or "").split("\n")[0]


def published(key: str) -> tuple[str, ...]:
    """Read the `model_type` words that a model file reads and writes."""
    for node in _parse("models", key).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "PUBLISHED"
        ):
            return tuple(ast.literal_eval(node.value))
    return ()


def check_key(folder: str, key: str) -> str:
    """Return the key if the folder has it.

    Raises:
        ConfigError: with the nearest names, if it does not.
    """
    known = list_keys(folder)
    if key not in known:
        kind = folder.rstrip("s")
        raise ConfigError(f"there is no {kind} {key!r}", hint=nearest(key, known, count=3))
    return key


def load_module(folder: str, key: str) -> ModuleType:
    """Import the file behind a key."""
    return importlib.import_module(f"headway.{folder}.{check_key(folder, key)}")


def class_name(key: str) -> str:
    """Name the public class of a key's file: "bert" -> "Bert", "masked_lm" -> "MaskedLm"."""
    return "".join(part.capitalize() for part in key.split("_"))


def load_class(folder: str, key: str) -> type:
    """Import the one public class of its kind behind a key."""
    return vars(load_module(folder, key))[class_name(key)]


def model_key(model_type: str) -> str:
    """Find the model file that reads a published `model_type`.

    Raises:
        ConfigError: if no file does.
    """
    known: dict[str, str] = {}
    for key in list_keys("models"):
        known |= dict.fromkeys(published(key), key)
    if model_type not in known:
        raise ConfigError(
            f"model_type {model_type!r} is not one that Headway reads",
            hint=nearest(model_type, known, count=3),
        )
    return known[model_type]
