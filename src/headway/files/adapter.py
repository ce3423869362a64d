"""Adapters in the layout of PEFT: adapter_config.json and adapter_model.safetensors.

PEFT names adapters by the published modules that they belong to. Where one of those is several
layers of ours (GPT-2's joint query, key and value), the layers' products become the blocks of one,
whose rank is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from headway.data.lines import fingerprint
from headway.errors import FileError, join_problems
from headway.files.folder import pick_layout
from headway.files.manifest import read_json, write_json
from headway.files.rename import head_names, is_turned, match_ours, match_published, to_published
from headway.files.weights import HEAD_FILE, read_file, weight_files
from headway.layers.lora import LoraLinear, replace_layer
from headway.names import Copy, Entry, Ignore, Split

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
# Ways of PEFT that compute something else; false, empty or absent they are not meant.
_REFUSED = ("use_dora", "use_qalora", "lora_bias", "megatron_config", "trainable_token_indices")
# What others call what a head does.
_TASK_TYPES = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS", "causal_lm": "CAUSAL_LM"}


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """Whose adapters a network has.

    Args:
        base: Folder of the model that they belong to.
        weights: Of its files of weights, name -> SHA-256; empty where nobody wrote it down.
    """

    base: Path
    weights: Mapping[str, str]


def base_of(folder: Path) -> Adapter:
    """Describe the model of a folder as one that adapters belong to."""
    files = [str(path) for path in weight_files(folder)]
    found = fingerprint(files)
    return Adapter(base=folder, weights={Path(name).name: found[name] for name in files})


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def write_adapter(
    folder: Path, key: str, body: Any, adapter: Adapter, *, kind: str, head: nn.Module | None
) -> None:
    """Write the adapters of a body, and what stands on it.

    Args:
        folder: Existing folder.
        key: Name of the architecture's file.
        body: The network, some of whose layers are `LoraLinear`.
        adapter: Whose they are.
        kind: Kind of head.
        head: The head's own network, where it has one.
    """
    table = pick_layout(key, body.config).table(kind)
    layers = {n: layer for n, layer in body.named_modules() if isinstance(layer, LoraLinear)}
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    turned = False
    for module, parts, entry in _modules(body, layers, table):
        down, up = _join([layers.get(part) for part in parts], body, parts)
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = down
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = up
        ranks[module], turned = len(down), turned or is_turned(entry)
    others = {n: p.detach() for n, p in body.named_parameters() if _is_whole(n, p)}
    own = {} if head is None else {n: p.detach().float() for n, p in head.named_parameters()}
    if own and head_names(table):
        others |= {f"head.{name}": value for name, value in own.items()}
    elif own:
        save_file({n: v.contiguous() for n, v in own.items()}, folder / HEAD_FILE)
    whole = to_published(others, table)
    tensors |= {f"{_PREFIX}{name}": value for name, value in whole.items()}
    rank, scale = ranks[next(iter(ranks))], next(iter(layers.values())).scale
    config = {
        "peft_type": "LORA",
        "task_type": _TASK_TYPES.get(kind, "SEQ_2_SEQ_LM" if kind == "translation" else None),
        "base_model_name_or_path": str(adapter.base),
        "r": rank,
        "lora_alpha": scale * rank,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: scale * r for name, r in ranks.items() if r != rank},
        "target_modules": sorted(ranks),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole}) or None,
        "fan_in_fan_out": turned,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    write_json(folder / CONFIG, config)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _is_whole(name: str, parameter: nn.Parameter) -> bool:
    """Say whether a parameter of the body is learned as it is, such as a fresh pooler's."""
    return parameter.requires_grad and ".lora_" not in name


def _modules(
    body: nn.Module, layers: Mapping[str, Any], table: tuple[Entry, ...]
) -> list[tuple[str, tuple[str, ...], Entry]]:
    """Name the published module of each layer, all of its layers, and how they are laid out."""
    found = {}
    for pair in match_ours(table, [f"{name}.weight" for name in layers]):
        if not isinstance(pair.entry, Copy):
            parts = tuple(name.removesuffix(".weight") for name in pair.ours)
            found[pair.published.removesuffix(".weight")] = (parts, pair.entry)
    return [(module, *rest) for module, rest in found.items()]


def _join(layers: list[LoraLinear | None], body: nn.Module, parts: tuple[str, ...]) -> Any:
    """Lay the products of several layers out as the blocks of one."""
    if len(layers) == 1 and layers[0] is not None:
        return layers[0].lora_down.detach().float(), layers[0].lora_up.detach().float()
    ups = []
    for layer, part in zip(layers, parts, strict=True):
        height: int = body.get_submodule(part).out_features  # pyright: ignore
        width = 0 if layer is None else layer.lora_up.shape[1]
        ups.append(torch.zeros(height, width) if layer is None else layer.lora_up.detach().float())
    downs = [layer.lora_down.detach().float() for layer in layers if layer is not None]
    return torch.cat(downs), torch.block_diag(*ups)


def read_adapter(folder: Path) -> tuple[Adapter, dict[str, Any]]:
    """Read whose adapters a folder holds, and how they are to be read.

    Raises:
        FileError: if they are of another kind than low-rank products, or there is no base.
    """
    config = read_json(folder / CONFIG)
    odd = [name for name in _REFUSED if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
        kind = config.get("peft_type")
        raise FileError(
            f"the adapter is a {kind} with {', '.join(odd) or 'a bias of its own'}"
            if kind == "LORA"
            else f"the adapter is of kind {kind!r}",
            where=str(folder),
            hint="Headway reads LoRA, products of two matrices and nothing else",
        )
    named = str(config.get("base_model_name_or_path") or "")
    places = [Path(named), folder / named]
    base = next((path for path in places if named and (path / "config.json").is_file()), None)
    if base is None:
        raise FileError(
            f"the adapter belongs to {named or 'a model that it does not name'}, which is no model "
            "folder",
            where=str(folder),
            hint=f"write where it is into {CONFIG}, as base_model_name_or_path",
        )
    own = folder / "headway.json"
    weights = read_json(own).get("base") if own.is_file() else None
    adapter = Adapter(base=base, weights=weights if isinstance(weights, dict) else {})
    if adapter.weights and adapter.weights != base_of(base).weights:
        raise FileError(
            f"the adapter was learned for other weights than those in {base}",
            where=str(folder),
            hint=f"name the right model in {CONFIG}, as base_model_name_or_path",
        )
    return adapter, config


def apply_adapter(
    folder: Path, config: Mapping[str, Any], key: str, body: Any, kind: str
) -> dict[str, Tensor]:
    """Give a body the adapters of a folder.

    Args:
        folder: With an adapter.
        config: Its adapter_config.json.
        key: Name of the architecture's file.
        body: Of the base model; changed in place.
        kind: Kind of head.
    Returns:
        head: Parameters of the head, without "head."; empty where the folder has none.
    Raises:
        FileError: if they do not fit, naming all that do not.
    """
    table = pick_layout(key, body.config).table(kind)
    tensors = read_file(folder / WEIGHTS)
    head = read_file(folder / HEAD_FILE) if (folder / HEAD_FILE).is_file() else {}
    own, modules = dict(body.named_parameters()), dict(body.named_modules())
    problems = []
    for name, value in tensors.items():
        module, _, what = name.removeprefix(_PREFIX).partition(".lora_")
        published = f"{module}.weight" if what else module
        pairs, _ = match_published(table, [published])
        if not pairs or isinstance(pairs[0].entry, Ignore) or not name.startswith(_PREFIX):
            problems.append(f"{name} is not part of {key}")
        elif what == "A.weight":
            up = tensors.get(name.replace("lora_A", "lora_B"))
            parts = [part.removesuffix(".weight") for part in pairs[0].ours]
            layers = [modules.get(part) for part in parts]
            if up is None or not _fits(layers, value, up):
                problems.append(f"the adapter of {module} has another shape")
                continue
            _adapt(body, parts, value, up, _alpha(config, module, len(value)))
        elif what == "B.weight":
            if name.replace("lora_B", "lora_A") not in tensors:
                problems.append(f"{name} lacks its other half")
        elif what or isinstance(pairs[0].entry, Split):
            problems.append(f"{name} cannot be read")
        elif (ours := pairs[0].ours[0]).startswith("head."):
            head[ours.removeprefix("head.")] = value.float()
        elif ours in own and own[ours].shape == value.shape:
            own[ours].data.copy_(value)
        else:
            problems.append(f"{name} has another shape, or no place")
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
    found = [value for name, value in alphas.items() if f".{module}".endswith(f".{name}")]
    alpha = float([*found, config.get("lora_alpha", rank)][0])
    return alpha * rank**0.5 if config.get("use_rslora") else alpha


def _fits(layers: list[Any], down: Tensor, up: Tensor) -> bool:
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        return False
    wide, high = layers[0].in_features, sum(layer.out_features for layer in layers)
    return down.shape[1:] == (wide,) and up.shape == (high, len(down))


def _adapt(body: nn.Module, parts: list[str], down: Tensor, up: Tensor, alpha: float) -> None:
    for part, rows in zip(parts, up.float().chunk(len(parts)), strict=True):
        layer = LoraLinear(body.get_submodule(part), rank=len(down), alpha=alpha)  # pyright: ignore
        layer.lora_down.data.copy_(down)
        layer.lora_up.data.copy_(rows)
        replace_layer(body, part, layer)
