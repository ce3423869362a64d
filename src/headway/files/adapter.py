"""Adapters in the layout of PEFT: adapter_config.json and adapter_model.safetensors.

PEFT names adapters by the published modules that they belong to. Where one of those is several
layers of ours (GPT-2's joint query, key and value), the layers' products become the blocks of one,
whose rank is the sum of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headway.errors import FileError, join_problems
from headway.files.folder import pick_layout
from headway.files.hub import fetched_before, local_folder, published_as
from headway.files.manifest import MANIFEST, read_json, sha256, write_json
from headway.files.rename import is_turned, match_ours, match_published, to_published
from headway.files.weights import (
    place_head,
    read_file,
    read_own_head,
    save_tensors,
    weight_files,
)
from headway.layers.lora import LoraLinear, can_adapt, replace_layer
from headway.names import Copy, Entry, Ignore, Layout, Split

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Keys of PEFT that ask for something else than products of two matrices, where they are set.
_REFUSED = (
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "megatron_config", "arrow_config"),
    *("trainable_token_indices", "target_parameters", "layer_replication", "eva_config"),
    *("alora_invocation_tokens", "kasa_config", "monteclora_config", "velora_config"),
)
# Beginnings that leave the base model's own weights alone; others change them.
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
# Kind of head -> what PEFT calls what it does.
_TASK_TYPES = {
    "sequence": "SEQ_CLS",
    "token": "TOKEN_CLS",
    "causal_lm": "CAUSAL_LM",
    "translation": "SEQ_2_SEQ_LM",
}


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Whose adapters a network has.

    Args:
        base: Folder of the model that they belong to.
        weights: Of its files of weights, name -> SHA-256; empty where nobody wrote it down.
    """

    base: Path
    weights: Mapping[str, str]


@dataclass(frozen=True)
class _Product:
    """What an adapter adds: alpha / rank * up down."""

    down: Tensor
    up: Tensor
    alpha: float


def base_of(folder: Path) -> Adapter:
    """Describe the model of a folder as one that adapters belong to.

    A manifest's word is taken for its hashes, as loading does for large files.
    """
    manifest = folder / MANIFEST
    said = read_json(manifest) if manifest.is_file() else {}
    hashes, sizes = said.get("sha256", {}), said.get("bytes", {})
    found = {}
    for path in weight_files(folder):
        is_same = path.name in hashes and sizes.get(path.name) == path.stat().st_size
        found[path.name] = hashes[path.name] if is_same else sha256(path)
    return Adapter(base=folder, weights=found)


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def write_adapter(
    folder: Path, key: str, body: Any, adapter: Adapter, *, kind: str, head: nn.Module | None
) -> None:
    """Write the adapters of a body, what else of it learned, and the head on it.

    Args:
        folder: Existing folder.
        key: Name of the architecture's file.
        body: The network, some of whose layers are `LoraLinear`.
        adapter: Whose they are.
        kind: Kind of head.
        head: The head's own network, where it has one.
    """
    table = pick_layout(key, body.config).table(kind)
    adapted = [n for n, layer in body.named_modules() if isinstance(layer, LoraLinear)]
    found = match_ours(table, [f"{name}.weight" for name in adapted])
    pairs = [pair for pair in found if not isinstance(pair.entry, Copy)]
    products = {pair.published.removesuffix(".weight"): _join(body, pair.ours) for pair in pairs}
    whole = {
        name: value.detach()
        for name, value in body.named_parameters()
        if value.requires_grad and ".lora_" not in name
    }
    tensors = to_published(whole | place_head(folder, head, table), table)
    saved = sorted({name.rpartition(".")[0] for name in tensors})
    for name, product in products.items():
        tensors |= {f"{name}.lora_A.weight": product.down, f"{name}.lora_B.weight": product.up}
    usual = next(iter(products.values()))
    rank, alpha = len(usual.down), usual.alpha
    # A place in the cache of one machine says nothing on another; a published name does.
    name, revision = published_as(adapter.base) or (str(adapter.base), None)
    config = {
        "peft_type": "LORA",
        "task_type": _TASK_TYPES.get(kind),
        "base_model_name_or_path": name,
        "revision": revision,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {n: len(p.down) for n, p in products.items() if len(p.down) != rank},
        "alpha_pattern": {n: p.alpha for n, p in products.items() if p.alpha != alpha},
        "target_modules": sorted(products),
        "modules_to_save": saved or None,
        "fan_in_fan_out": any(is_turned(pair.entry) for pair in pairs),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / CONFIG, config)
    named = {f"{_PREFIX}{name}": value.contiguous() for name, value in tensors.items()}
    save_tensors(named, folder / WEIGHTS)


def _join(body: nn.Module, weights: tuple[str, ...]) -> _Product:
    """Lay the products of the layers of these weights out as the blocks of one, with one scale."""
    layers: list[Any] = [body.get_submodule(name.removesuffix(".weight")) for name in weights]
    adapted = [layer for layer in layers if isinstance(layer, LoraLinear)]
    scale = adapted[0].scale
    downs = torch.cat([layer.lora_down.detach().float() for layer in adapted])
    ups = [
        layer.lora_up.detach().float() * (layer.scale / scale)
        if isinstance(layer, LoraLinear)
        else torch.zeros(layer.out_features, 0)
        for layer in layers
    ]
    return _Product(downs, torch.block_diag(*ups), scale * len(downs))


def read_adapter(folder: Path) -> Adapter:
    """Find out whose adapters a folder holds.

    Raises:
        FileError: if they are of another kind than low-rank products, or there is no base, or
            another one than they were learned for.
    """
    config = read_json(folder / CONFIG)
    asked = [name for name in _REFUSED if config.get(name)]
    if config.get("peft_type") != "LORA":
        asked = [f"peft_type {config.get('peft_type')}"]
    if config.get("bias", "none") != "none":
        asked.append(f"bias {config['bias']!r}")
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        asked.append(f"init_lora_weights {config['init_lora_weights']!r}")
    if asked:
        raise FileError(
            f"the adapter asks for {', '.join(asked)}, which Headway does not compute",
            where=str(folder),
            hint="merge it with PEFT, and open what comes out",
        )
    named = str(config.get("base_model_name_or_path") or "")
    base = _find_base(folder, named, str(config.get("revision") or "") or None)
    own = folder / "headway.json"
    weights = read_json(own).get("base") if own.is_file() else None
    adapter = Adapter(base=base, weights=weights if isinstance(weights, dict) else {})
    if adapter.weights and adapter.weights != base_of(base).weights:
        raise FileError(
            f"the adapter was learned for other weights than those in {base}",
            where=str(folder),
            hint=f"name the right model in {CONFIG}, as base_model_name_or_path",
        )
    return adapter


def _find_base(folder: Path, named: str, revision: str | None) -> Path:
    """Find the model that an adapter names: a folder, or a published one that was fetched."""
    where = f"write where it is into {CONFIG}, as base_model_name_or_path"
    if not named:
        raise FileError("the adapter does not name its model", where=str(folder), hint=where)
    for path in (folder / named, local_folder(named)):
        if (path / "config.json").is_file():
            return path
    if found := fetched_before(named, revision):
        return found
    fetch = f"{named}@{revision}" if revision else named
    raise FileError(
        f"the adapter belongs to {named}, which is no model folder",
        where=str(folder),
        hint=f"if it is published, fetch it: headway inspect hub:{fetch}; or {where}",
    )


def kind_of(folder: Path) -> str | None:
    """Say what kind of head PEFT trained; None where it does not say."""
    task_type = read_json(folder / CONFIG).get("task_type")
    return next((kind for kind, name in _TASK_TYPES.items() if name == task_type), None)


def read_head(folder: Path, layout: Layout, kind: str) -> dict[str, Tensor]:
    """Read the head that an adapter brings, names without "head."; empty where it has none."""
    pairs, _ = match_published(layout.table(kind), tensors := _read_tensors(folder))
    named = {ours: tensors[pair.published] for pair in pairs for ours in pair.ours}
    return {n[5:]: value.float() for n, value in named.items() if n.startswith("head.")}


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read what an adapter holds, by the names of the base model's own modules."""
    # A base_layer is the model's own weight, which some files repeat.
    return {
        name.removeprefix(_PREFIX): value
        for name, value in read_file(folder / WEIGHTS).items()
        if ".base_layer." not in name
    }


def apply_adapter(folder: Path, key: str, body: Any, kind: str) -> dict[str, Tensor]:
    """Give a body the adapters of a folder, and let them and nothing else learn.

    Args:
        folder: With an adapter.
        key: Name of the architecture's file.
        body: Of the base model; changed in place.
        kind: Kind of head.
    Returns:
        head: Parameters of the head, without "head."; empty where the folder has none.
    Raises:
        FileError: if they do not fit, naming all that do not.
    """
    config, table = read_json(folder / CONFIG), pick_layout(key, body.config).table(kind)
    tensors = _read_tensors(folder)
    head = read_own_head(folder)
    body.requires_grad_(False)
    products = {name for name in tensors if ".lora_" in name}
    modules = {name.partition(".lora_")[0] for name in products}
    problems = []
    for module in sorted(modules):
        halves = [f"{module}.lora_{half}.weight" for half in "AB"]
        products -= {*halves}
        down, up = (tensors.get(half) for half in halves)
        if down is None or up is None:
            problems.append(f"the adapter of {module} lacks a half")
            continue
        product = _Product(down, up, _alpha(config, module, len(down)))
        problems += _adapt(body, module, product, table)
    problems += [f"{name} is no part of an adapter" for name in sorted(products)]
    whole = {name: value for name, value in tensors.items() if ".lora_" not in name}
    problems += _take_whole(body, head, whole, table)
    if problems:
        raise FileError(
            "the adapter does not fit its base model: " + join_problems(problems),
            where=str(folder),
            hint="is it for another model?",
        )
    return head


def _alpha(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Give the alpha of a module, by which alpha / rank is its scale."""
    alphas = config.get("alpha_pattern") or {}
    # PEFT's keys are expressions for the end of a name.
    found = [value for name, value in alphas.items() if re.match(rf"(.*\.)?({name})$", module)]
    alpha = float([*found, config.get("lora_alpha", rank)][0])
    return alpha * rank**0.5 if config.get("use_rslora") else alpha


def _adapt(body: nn.Module, module: str, product: _Product, table: tuple[Entry, ...]) -> list[str]:
    """Give our layers of a published module their rows of a product; list what is wrong."""
    pairs, _ = match_published(table, [f"{module}.weight"])
    if not pairs or isinstance(pairs[0].entry, Ignore):
        return [f"{module} is not part of the base model"]
    parts, modules = [n.removesuffix(".weight") for n in pairs[0].ours], dict(body.named_modules())
    ours: list[Any] = [modules.get(part) for part in parts]
    if not all(map(can_adapt, parts, ours)):
        return [f"{module} is no layer that can have an adapter here"]
    shape = (sum(layer.out_features for layer in ours), len(product.down))
    if product.down.shape[1:] != (ours[0].in_features,) or product.up.shape != shape:
        return [f"the adapter of {module} has another shape"]
    for part, layer, rows in zip(parts, ours, product.up.float().chunk(len(parts)), strict=True):
        adapted = LoraLinear(layer, rank=len(product.down), alpha=product.alpha)
        adapted.lora_down.data.copy_(product.down)
        adapted.lora_up.data.copy_(rows)
        replace_layer(body, part, adapted)
    return []


def _take_whole(
    body: nn.Module, head: dict[str, Tensor], whole: Mapping[str, Tensor], table: tuple[Entry, ...]
) -> list[str]:
    """Take over what was learned as it is; list what has no place."""
    own, problems = dict(body.named_parameters()), []
    pairs, unknown = match_published(table, whole)
    for pair in pairs:
        value, name = whole[pair.published], pair.ours[0] if pair.ours else ""
        fits = name in own and own[name].shape == value.shape
        if name.startswith("head."):
            head[name.removeprefix("head.")] = value.float()
        elif fits and not isinstance(pair.entry, Split):
            own[name].data.copy_(value)
            own[name].requires_grad_(True)
        else:
            problems.append(f"{pair.published} has another shape, or no place")
    return problems + [f"{name} is not part of the base model" for name in unknown]
