"""Which kind of head a model folder holds: by the class that it names, and by its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headway import registry
from headway.files.rename import head_names, match_published
from headway.files.weights import top_part
from headway.layers.shapes import shapes_only
from headway.names import Layout, PublishedHead


def find_kind(
    key: str, config: Any, layout: Layout, published: Mapping[str, Any], names: Iterable[str]
) -> str:
    """Find out what head a folder was saved with.

    The class counts, unless the file holds a richer kind whole: a BertForMaskedLM with pooler and
    pair head beside is a BertForPreTraining. Without a class that is known, the kind counts of
    whose own tensors most are there.

    Args:
        key: Name of the architecture's file.
        config: Its config.
        layout: How its family is published.
        published: config.json.
        names: Of the published tensors.
    Returns:
        kind: A key of the layout's heads; the first where nothing says otherwise.
    """
    classes = published.get("architectures")
    named = classes[0] if isinstance(classes, list) and classes else None
    kinds = [kind for kind, head in layout.heads.items() if head.architecture == named]
    first = [*kinds, *layout.heads][0]
    heads = layout.heads
    candidates = [kind for kind in heads if not kinds or _is_richer(heads, kind, first)]
    if not candidates or len(layout.heads) == 1:
        return first
    counts = _count_own(key, config, layout, list(names), candidates)
    # The first is taken unless another has more.
    return max([first, *counts], key=lambda kind: counts.get(kind, 0))


def _is_richer(heads: Mapping[str, PublishedHead], kind: str, other: str) -> bool:
    """Say whether a kind has all that another has on top of the body, and more.

    Only heads of pretraining lie together in one file.
    """
    more, less = set(heads[kind].renames), set(heads[other].renames)
    return "masked_lm" in (heads[kind].parts or ()) and bool(less) and more > less


def _count_own(
    key: str, config: Any, layout: Layout, names: list[str], candidates: Iterable[str]
) -> dict[str, int]:
    """Count the parameters of each kind's head and parts; kinds of which one lacks are left out."""
    parts = {part for head in layout.heads.values() for part in head.parts or ()}
    with shapes_only():
        body = registry.load_class("models", key)(config, tuple(sorted(parts)))
    # What shares the embeddings' memory is listed there alone, and need not be in the file.
    every = [name for name, _ in body.named_parameters()]
    prefixed = any(name.startswith(layout.prefix) for name in names)
    counts = {}
    for kind in candidates:
        head = layout.heads[kind]
        own = [name for name in every if top_part(name) in (head.parts or ())]
        ends = ("weight", "bias") if getattr(body, "has_head_bias", True) else ("weight",)
        own += [f"{name}.{end}" for name in head_names(head.renames) for end in ends]
        table = layout.table(kind, prefixed=prefixed)
        pairs, _ = match_published(table, names)
        if own and {name for pair in pairs for name in pair.ours}.issuperset(own):
            counts[kind] = len(own)
    return counts
