"""The weights of a published folder, and how they fit a network of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from headway.errors import FileError, join_problems
from headway.files.manifest import leads_out, read_json
from headway.files.rename import (
    UNTIED,
    find_overruled,
    head_names,
    match_published,
    to_ours,
    to_published,
)
from headway.names import Entry, Layout

# Parameters of a head that no published class has.
HEAD_FILE = "head.safetensors"
INDEX = "model.safetensors.index.json"
# What torch puts before the names of a network that it spreads or compiles.
WRAPPERS = ("module.", "_orig_mod.")


class Fit:
    """Published tensors held against what a network needs.

    Args:
        body: The network, without memory.
        layout: How its family is published.
        kind: Kind of head.
        tensors: Published name -> tensor.
    """

    def __init__(self, body: Any, layout: Layout, kind: str, tensors: Mapping[str, Tensor]) -> None:
        self.body, self.layout = body, layout
        # A body's names lack the prefix in a file of the body alone, whatever the class says.
        prefixed = any(name.startswith(layout.prefix) for name in tensors)
        self.table = layout.table(kind, prefixed=prefixed)
        own = dict(body.named_parameters())
        self.shapes = {name: value.shape for name, value in own.items()}
        names = {id(value): name for name, value in own.items()}
        every = body.named_parameters(remove_duplicate=False)
        self.shared = {name: names[id(value)] for name, value in every if name not in own}
        self.unused: list[str] = []
        self.given = {n: t for n, t in tensors.items() if self._is_asked(n, kind, prefixed)}
        pairs, _ = match_published(self.table, self.given)
        overruled = find_overruled(self.table, pairs)
        self.unused += overruled
        self.given = {n: t for n, t in self.given.items() if n not in overruled}
        pairs = [pair for pair in pairs if pair.published in self.given]
        found = {self.shared.get(name, name): pair for pair in pairs for name in pair.ours}
        head = layout.heads[kind]
        needed = [*(head.parts or ()), *(["head"] if head_names(head.renames) else [])]
        there = set(map(top_part, found))
        lacking = {"head", *map(top_part, self.shapes)} - there
        self.fresh = [part for part in needed if part in lacking]
        if "head" in needed and "head" in there:
            # A whole linear layer: as many results as the file has, of the body's width.
            weight = found.get("head.output.weight")
            shape = self.given[weight.published].shape if weight is not None else ()
            count = shape[0] if len(shape) == 2 else 1
            self.shapes["head.output.weight"] = torch.Size([count, body.config.hidden_size])
            if getattr(body, "has_head_bias", True):
                self.shapes["head.output.bias"] = torch.Size([count])

    def _is_asked(self, name: str, kind: str, prefixed: bool) -> bool:
        """Leave out, and note, what only other heads of the family need."""
        known = set(self.shapes) | set(self.shared)
        for pair in match_published(self.table, [name])[0]:
            # What is ignored, and what is needed.
            if not pair.ours or any(n in known or n.startswith("head.") for n in pair.ours):
                return True
        heads = self.layout.heads.values()
        every = {"head", *(part for head in heads for part in head.parts or ())}
        for other in self.layout.heads:
            pairs, _ = match_published(self.layout.table(other, prefixed=prefixed), [name])
            if any(top_part(ours) in every for pair in pairs for ours in pair.ours):
                self.unused.append(name)
                return False
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Turn published tensors into ours, and add what the config determines.

        Raises:
            FileError: if they do not fit the config, or are no floating-point numbers.
        """
        pairs, _ = match_published(self.table, self.given)
        read = [pair.published for pair in pairs if pair.ours]
        if odd := [name for name in read if not self.given[name].is_floating_point()]:
            raise FileError(
                f"{join_problems(odd)}: no floating-point numbers, but {self.given[odd[0]].dtype}"
            )
        shapes = {n: shape for n, shape in self.shapes.items() if top_part(n) not in self.fresh}
        body, renames = self.body, self.table
        if not hasattr(body, "fixed_parameters"):
            return to_ours(self.given, renames, shapes, shared=self.shared)
        # First without memory: nothing of a size that the file does not bear out is computed.
        with torch.device("meta"):
            written = to_published(body.fixed_parameters(), renames)
        ours = to_ours({**written, **self.given}, renames, shapes, shared=self.shared)
        if any(value.is_meta for value in ours.values()):
            fixed = body.fixed_parameters()
            ours |= {name: fixed[name] for name, value in ours.items() if value.is_meta}
        return ours


def top_part(name: str) -> str:
    """Name the top-level part of a network that a parameter belongs to."""
    return name.partition(".")[0]


def _modern_name(name: str) -> str:
    """Write a norm's parameters as they are called today: the first BERTs say gamma and beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a folder, in one file or in several that an index lists.

    Names are today's, without what a wrapper put before them.

    Raises:
        FileError: if a file is missing or damaged, or the index points outside of the folder.
    """
    listed = _read_index(folder)
    tensors: dict[str, Tensor] = {}
    for name in ["model.safetensors"] if listed is None else sorted(set(listed.values())):
        tensors |= read_file(folder / name)
    if missing := sorted((listed or {}).keys() - tensors.keys()):
        raise FileError(
            f"the files lack what {INDEX} lists: {join_problems(missing)}", where=str(folder)
        )
    return {_modern_name(name): value for name, value in _without_wrapper(tensors).items()}


def weight_files(folder: Path) -> list[Path]:
    """List the files that the weights of a folder are read from, the index with them."""
    listed = _read_index(folder)
    if listed is None:
        return [folder / "model.safetensors"]
    return [*(folder / name for name in sorted(set(listed.values()))), folder / INDEX]


def _read_index(folder: Path) -> dict[str, str] | None:
    """Read which tensor lies in which file; None where there is one file for all."""
    index = folder / INDEX
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return None
    listed = read_json(index).get("weight_map")
    if not (isinstance(listed, dict) and all(isinstance(x, str) for x in listed.values())):
        raise FileError(f"{index.name} has no weight_map", where=str(folder))
    if outside := [name for name in sorted(set(listed.values())) if leads_out(folder, name)]:
        raise FileError(
            f"{index.name} points outside of its folder: {join_problems(outside)}",
            where=str(folder),
        )
    return listed


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what a wrapper around the network put before all names."""
    for prefix in WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _without_wrapper({n.removeprefix(prefix): t for n, t in tensors.items()})
    return tensors


def hint_at_misfits(tensors: Mapping[str, Tensor], layout: Layout, message: str) -> str:
    """Say what to do about weights that do not fit, where that is known.

    Args:
        tensors: Published name -> tensor.
        layout: How the family is published.
        message: What does not fit.
    """
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in tensors):
            return (
                f"some names begin with {prefix}, which a wrapper in training adds; take it off "
                "them, or save the network inside of the wrapper"
            )
    if UNTIED in message and "tie_word_embeddings" in layout.config:
        return (
            'if the two are meant to differ, set "tie_word_embeddings": false in config.json, '
            "which says that they are one"
        )
    return ""


def place_head(folder: Path, head: nn.Module | None, table: tuple[Entry, ...]) -> dict[str, Tensor]:
    """Give the tensors of a head for the file of its model, or write them into one of their own.

    A head that nobody published must not answer under a published class.

    Args:
        folder: Of the model.
        head: Its head's own network, where it has one.
        table: The names that the model is published by.
    """
    own = {} if head is None else {n: p.detach().float() for n, p in head.named_parameters()}
    if head_names(table):
        return {f"head.{name}": value for name, value in own.items()}
    if own:
        save_tensors({n: v.contiguous() for n, v in own.items()}, folder / HEAD_FILE)
    return {}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a file of tensors.

    Raises:
        OSError: if there is no room, which the library wraps in an error of its own.
    """
    try:
        save_file(dict(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_own_head(folder: Path) -> dict[str, Tensor]:
    """Read the head of a model that is published as its body alone; empty where there is none."""
    path = folder / HEAD_FILE
    return read_file(path) if path.is_file() else {}


def read_file(path: Path) -> dict[str, Tensor]:
    """Read one file of weights.

    Raises:
        FileError: if it is missing or damaged.
    """
    if not path.is_file():
        old = path.parent / "pytorch_model.bin"
        hint = f"write it with: headway convert {path.parent}" if old.exists() else ""
        raise FileError(f"there is no {path.name}", where=str(path.parent), hint=hint)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path.name} is damaged: {error}", where=str(path.parent)) from error
