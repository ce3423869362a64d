"""Run a model's table of published parameter names, in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from headway.errors import ConfigError, FileError, join_problems
from headway.names import Copy, Entry, Ignore, OneRow, Rename, Split, Tie, Transpose

UNTIED = "differs from the tensor it should share"
# Beyond so many names of a layer, the layer is named instead.
_FEW_NAMES = 3
_MOST_NAMES = 50
_OF_LAYER = re.compile(r"(.*?\.)(\d{1,9})\.(.+)")


@dataclass(frozen=True)
class Pair:
    """One published tensor and those of ours it stands for (none: it is ignored)."""

    published: str
    ours: tuple[str, ...]
    entry: Entry


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [re.escape(part) for part in pattern.split("{}")]
    return re.compile(r"(\d+)".join(parts) + r"((?:\..+)?)")


def _translate(name: str, pattern: str, results: tuple[str, ...]) -> tuple[str, ...] | None:
    """Rewrite a name by one pattern, carrying layer numbers and what follows."""
    found = _compiled(pattern).fullmatch(name)
    if found is None:
        return None
    *numbers, rest = found.groups()
    return tuple(result.format(*numbers) + rest for result in results)


def ours_of(entry: Entry) -> tuple[str, ...]:
    """Give the names that an entry of the table maps to; none where it is ignored."""
    if isinstance(entry, Split):
        return entry.ours
    return () if isinstance(entry, Ignore) else (entry.ours,)


def head_names(entries: Iterable[Entry]) -> list[str]:
    """List the head's own parameters among what some entries map to."""
    return [name for entry in entries for name in ours_of(entry) if name.startswith("head.")]


def match_published(renames: Iterable[Entry], names: Iterable[str]) -> tuple[list[Pair], list[str]]:
    """Find what each published tensor is to us.

    Args:
        renames: The table; the first entry that fits a name counts. Empty: names are ours.
        names: Of the published file.
    Returns:
        pairs: One for each name that the table knows.
        unexpected: Names it does not know.
    """
    table = tuple(renames)
    pairs, unexpected = [], []
    for name in names:
        if not table:
            pairs.append(Pair(name, (name,), Rename(name, name)))
            continue
        for entry in table:
            ours = _translate(name, entry.published, ours_of(entry))
            if ours is not None:
                pairs.append(Pair(name, ours, entry))
                break
        else:
            unexpected.append(name)
    return pairs, unexpected


def find_overruled(renames: Iterable[Entry], pairs: Iterable[Pair]) -> list[str]:
    """List the tensors whose place another takes: of two first names the table's first counts.

    A head with a pooling layer of its own takes the place of its body's.
    """
    order = {id(entry): place for place, entry in enumerate(renames)}
    first = [pair for pair in pairs if not isinstance(pair.entry, Tie | Copy)]
    first.sort(key=lambda pair: order.get(id(pair.entry), 0))
    taken: set[str] = set()
    overruled = []
    for pair in first:
        if not taken.isdisjoint(pair.ours):
            overruled.append(pair.published)
        taken.update(pair.ours)
    return overruled


def match_ours(renames: Iterable[Entry], names: Iterable[str]) -> list[Pair]:
    """Find the published name of each of our parameters.

    Raises:
        ConfigError: if a parameter has none, or two share one: the table is then wrong.
    """
    table = tuple(renames)
    pairs: dict[str, Pair] = {}
    problems = []
    for name in names:
        pair = _published_pair(table, name) if table else Pair(name, (name,), Rename(name, name))
        if pair is None:
            problems.append(f"{name} has no published name")
        elif pair.published in pairs and pairs[pair.published] != pair:
            problems.append(f"{name} and {pairs[pair.published].ours[0]} are both {pair.published}")
        else:
            pairs[pair.published] = pair
    if problems:
        raise ConfigError("the table of names is not one-to-one: " + join_problems(problems))
    return list(pairs.values()) + _copies(table, names)


def _copies(table: Iterable[Entry], names: Iterable[str]) -> list[Pair]:
    """Find the second names under which parameters are written once more."""
    return [
        Pair(found[0], (name,), entry)
        for entry in table
        if isinstance(entry, Copy)
        for name in names
        if (found := _translate(name, entry.ours, (entry.published,))) is not None
    ]


def _published_pair(table: tuple[Entry, ...], name: str) -> Pair | None:
    for entry in table:
        if isinstance(entry, Tie | Copy | Ignore):
            continue
        for pattern in ours_of(entry):
            found = _translate(name, pattern, (entry.published, *ours_of(entry)))
            if found is not None:
                return Pair(found[0], found[1:], entry)
    return None


def to_ours(
    tensors: Mapping[str, Tensor],
    renames: Iterable[Entry],
    shapes: Mapping[str, torch.Size],
    *,
    shared: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Turn published tensors into ours.

    Args:
        tensors: Published name -> tensor.
        renames: The table.
        shapes: Name -> shape of every parameter that the model needs.
        shared: Second name of a parameter -> the name that `shapes` has for it.
    Raises:
        FileError: naming every missing, unexpected and misshapen tensor in one message, as the
            file calls them.
    """
    shared, table = shared or {}, tuple(renames)
    pairs, unexpected = match_published(table, tensors)
    found: dict[str, Tensor] = {}
    origin: dict[str, Pair] = {}
    untied: list[str] = []

    def is_second(pair: Pair) -> bool:
        return isinstance(pair.entry, Tie | Copy) or any(name in shared for name in pair.ours)

    # Second names come last: they count only where the parameter's own name is absent.
    for pair in sorted(pairs, key=is_second):
        for name, tensor in zip(pair.ours, _to_ours(tensors[pair.published], pair), strict=True):
            own = shared.get(name, name)
            if own not in found:
                found[own], origin[own] = tensor, pair
            elif (
                is_second(pair)
                and not isinstance(pair.entry, Copy)
                and not torch.equal(found[own], tensor)
            ):
                untied.append(pair.published)
    unexpected += [origin[name].published for name in found if name not in shapes]
    missing = [_published_pair(table, name) or name for name in shapes if name not in found]
    problems = [(p if isinstance(p, str) else p.published, "is missing") for p in missing]
    problems += [(name, "is not part of this architecture") for name in unexpected]
    problems += [(name, UNTIED) for name in untied]
    for name, shape in shapes.items():
        if name in found and found[name].shape != shape:
            pair = origin[name]
            seen, wanted = list(tensors[pair.published].shape), _published_shape(pair.entry, shape)
            problems.append((pair.published, f"has shape {seen} instead of {wanted}"))
    if problems:
        raise FileError(f"the weights do not fit: {_describe(problems)}")
    return {name: found[name] for name in shapes}


def _describe(problems: Iterable[tuple[str, str]]) -> str:
    """Say what is wrong with which tensors; several of ours may be one of theirs."""
    alike: dict[str, list[str]] = {}
    for name, problem in dict.fromkeys(problems):
        alike.setdefault(problem, []).append(name)
    said = [f"{name} {problem}" for problem, names in alike.items() for name in _fold(names)]
    return join_problems(said, shown=_MOST_NAMES)


def _fold(names: Iterable[str]) -> list[str]:
    """Write many tensors of a layer as one, and layers that are alike: layer.2,3.* (32)."""
    layers: dict[tuple[str, int], list[str]] = {}
    folded: list[str] = []
    for name in names:
        if found := _OF_LAYER.fullmatch(name):
            layers.setdefault((found[1], int(found[2])), []).append(found[3])
        else:
            folded.append(name)
    alike: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for (stem, number), rests in sorted(layers.items()):
        alike.setdefault((stem, tuple(rests)), []).append(number)
    for (stem, rests), numbers in alike.items():
        written = ",".join(map(str, numbers))
        if len(rests) > _FEW_NAMES:
            folded.append(f"{stem}{written}.* ({len(rests) * len(numbers)})")
        else:
            folded += [f"{stem}{written}.{rest}" for rest in rests]
    return folded


def is_turned(entry: Entry) -> bool:
    """Say whether the file stores a matrix the other way round."""
    return isinstance(entry, Transpose) or (isinstance(entry, Split) and entry.transposed)


def _turn(tensor: Tensor, entry: Entry) -> Tensor:
    return tensor.t() if is_turned(entry) and tensor.dim() == 2 else tensor


def _to_ours(tensor: Tensor, pair: Pair) -> tuple[Tensor, ...]:
    entry, parts = pair.entry, (tensor,)
    if isinstance(entry, Ignore):
        return ()
    if isinstance(entry, OneRow) and tensor.dim() == 2 and len(tensor) == 1:
        return (tensor[0],)
    if isinstance(entry, Split):
        parts = tensor.chunk(len(pair.ours), dim=entry.axis if tensor.dim() > 1 else 0)
    return tuple(_turn(part, entry) for part in parts)


def _published_shape(entry: Entry, shape: torch.Size) -> list[int]:
    """Give the shape that the file has for a parameter of ours."""
    seen = list(shape)
    if is_turned(entry) and len(seen) == 2:
        seen = seen[::-1]
    if isinstance(entry, OneRow):
        return [1, *seen]
    if isinstance(entry, Split):
        seen[entry.axis if len(seen) > 1 else 0] *= len(entry.ours)
    return seen


def to_published(tensors: Mapping[str, Tensor], renames: Iterable[Entry]) -> dict[str, Tensor]:
    """Turn our tensors into published ones, contiguous and ready to be written."""
    written = {}
    for pair in match_ours(renames, tensors):
        parts = [_turn(tensors[name], pair.entry) for name in pair.ours]
        tensor = parts[0]
        if isinstance(pair.entry, Split):
            tensor = torch.cat(parts, dim=pair.entry.axis if tensor.dim() > 1 else 0)
        elif isinstance(pair.entry, OneRow):
            tensor = tensor[None]
        tensor = tensor.detach().contiguous()
        if isinstance(pair.entry, Copy):
            # A file cannot hold the same memory twice.
            tensor = tensor.clone()
        written[pair.published] = tensor if tensor.is_meta else tensor.cpu()
    return written
