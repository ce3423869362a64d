"""Turn old pickled weights into safetensors; run in a process of its own, and nowhere else.

python -m headway.files.unpickle FOLDER OUT

Even torch's restricted reader of pickles has had holes, so that nothing pickled is ever opened in
the process of a user: this one has one job, reads with `weights_only` and without a fallback, and
ends.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from headway.errors import FileError, HeadwayError, join_problems
from headway.files.manifest import leads_out, read_json

# Where a trainer's checkpoint has the weights.
_CHECKPOINT_KEYS = ("state_dict", "model_state_dict")
_ONE, _INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def find_pickles(folder: Path) -> list[Path]:
    """List the pickled files of a folder, none of them outside of it.

    Raises:
        FileError: if there is none, or the index points elsewhere.
    """
    if (folder / _ONE).is_file():
        return [folder / _ONE]
    if not (folder / _INDEX).is_file():
        raise FileError(f"there is no {_ONE}", where=str(folder), hint="is it converted already?")
    listed = read_json(folder / _INDEX).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    if not names or any(leads_out(folder, name) for name in names):
        raise FileError(f"{_INDEX} points outside of its folder", where=str(folder))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileError(f"there is no {join_problems(missing)}", where=str(folder))
    return [folder / name for name in names]


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors; anything else in it is refused.

    Raises:
        FileError: if it holds code, or no tensors.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FileError(
            f"{path.name} holds more than tensors, and is not opened", where=str(path.parent)
        ) from error
    except Exception as error:
        # Of a cut or changed file the reader raises whatever it stumbles over.
        raise FileError(f"{path.name} is damaged: {error}", where=str(path.parent)) from error
    if not isinstance(found, dict):
        raise FileError(f"{path.name} holds no table of tensors", where=str(path.parent))
    # What lies beside the weights is the trainer's.
    inside = (found[name] for name in _CHECKPOINT_KEYS if isinstance(found.get(name), dict))
    found = next(inside, found)
    if inner := [str(name) for name, value in found.items() if isinstance(value, dict)]:
        raise FileError(
            f"{path.name} holds tables inside of a table ({join_problems(inner)})",
            where=str(path.parent),
            hint="save the table of the weights alone",
        )
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise FileError(f"{path.name} holds no tensors", where=str(path.parent))
    return tensors


def convert(folder: Path, out: Path) -> int:
    """Write all tensors of a folder into one safetensors file; give their number."""
    tensors: dict[str, Tensor] = {}
    for path in find_pickles(folder):
        tensors |= read_pickle(path)
    # Tensors that share memory are written once for each name.
    whole = {name: value.clone().contiguous() for name, value in tensors.items()}
    save_file(whole, out, metadata={"format": "pt"})
    return len(whole)


def main() -> int:
    """Convert, and say in one line what went wrong."""
    folder, out = map(Path, sys.argv[1:3])
    try:
        sys.stdout.write(f"{convert(folder, out)}\n")
    except HeadwayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
