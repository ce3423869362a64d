"""Model folders in Hugging Face layout: config.json and model.safetensors, read and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from headway import registry
from headway.errors import ConfigError, FileError, join_problems
from headway.files.manifest import check_folder, read_json, write_json
from headway.files.rename import to_ours, to_published
from headway.names import Layout

# Keys with which a published model asks to run code of its own.
_CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
# No published network is near these; beyond them a config is damaged or hostile.
_LARGEST = {"num": 10_000, "vocab_size": 10_000_000}
_LARGEST_SIZE = 1_000_000


def pick_layout(key: str, config: Any) -> Layout:
    """Find the published layout that a config of ours is written in."""
    layouts: tuple[Layout, ...] = registry.load_module("models", key).LAYOUTS
    for layout in layouts:
        if all(getattr(config, name) == value for name, value in layout.when.items()):
            return layout
    raise ConfigError(f"no published layout of {key} fits this config")


def write_body(folder: Path, key: str, body: Any) -> None:
    """Write config.json and model.safetensors of a body.

    Args:
        folder: Existing folder.
        key: Name of the architecture's file.
        body: The network, with its `config`.
    """
    config = body.config
    layout = pick_layout(key, config)
    published: dict[str, Any] = {
        "architectures": [layout.architecture],
        "model_type": layout.model_type,
        "torch_dtype": "float32",
        **layout.constants,
        **layout.extras,
    }
    for name, keys in layout.config.items():
        published |= dict.fromkeys(keys, getattr(config, name))
    write_json(folder / "config.json", published)
    parameters = {name: value.detach().float() for name, value in body.named_parameters()}
    try:
        save_file(
            to_published(parameters, layout.renames),
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
    except SafetensorError as error:
        # The library wraps the operating system's error ("No space left on device").
        raise OSError(str(error)) from error


def read_config(folder: Path) -> tuple[str, Any, Layout]:
    """Read config.json.

    Returns:
        key, config, layout: The architecture's file, its config, and how it was written.
    Raises:
        FileError: if it asks for code, for what we do not compute, or for impossible sizes.
        ConfigError: if no architecture of ours reads its model_type.
    """
    where = str(folder / "config.json")
    published = read_json(folder / "config.json")
    asked = [name for name in _CODE_KEYS if name in published]
    if asked:
        raise FileError(
            f"config.json asks to run code of its own ({', '.join(asked)})",
            where=str(folder),
            hint="Headway never runs code from a folder; remove the key if you trust the rest",
        )
    key = registry.model_key(str(published.get("model_type")))
    module = registry.load_module("models", key)
    layout = next(item for item in module.LAYOUTS if item.model_type == published["model_type"])
    config_class = getattr(module, registry.class_name(key) + "Config")
    problems = [
        f"{name} is {published[name]!r}, but Headway computes only {value!r}"
        for name, value in layout.constants.items()
        if published.get(name, value) != value
    ]
    values, more = _read_values(published, layout, config_class)
    problems += more
    if problems:
        raise FileError("the config cannot be used: " + join_problems(problems), where=where)
    config = config_class(**values, **layout.when)
    if problems := config.check():
        raise FileError("the config cannot be used: " + join_problems(problems), where=where)
    return key, config, layout


def _read_values(
    published: Mapping[str, Any], layout: Layout, config_class: type
) -> tuple[dict[str, Any], list[str]]:
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    values: dict[str, Any] = {}
    problems = []
    for name, keys in layout.config.items():
        seen = [published[key] for key in keys if published.get(key) is not None]
        if not seen:
            continue
        if any(value != seen[0] for value in seen):
            problems.append(f"{' and '.join(keys)} differ, which Headway does not compute")
        default = fields[name].default
        value = float(seen[0]) if isinstance(default, float) and _is_number(seen[0]) else seen[0]
        if type(value) is not type(default):
            problems.append(f"{keys[0]} is {value!r}, but must be of type {type(default).__name__}")
        elif isinstance(value, int) and value > _largest(name):
            problems.append(f"{keys[0]} is {value}, which is beyond any model")
        values[name] = value
    return values, problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _largest(name: str) -> int:
    return _LARGEST.get(name) or _LARGEST.get(name.split("_")[0], _LARGEST_SIZE)


def read_body(folder: Path) -> tuple[str, Any]:
    """Read a body: its architecture's key and the network with its weights, in eval mode.

    Nothing is drawn at random first and nothing is copied twice: the network is built without
    memory and takes the tensors of the file as they are.

    Raises:
        FileError: if the folder is missing or damaged, or the weights do not fit the config.
    """
    if not folder.is_dir():
        raise FileError(f"there is no model folder {folder}")
    check_folder(folder, required=False)
    key, config, layout = read_config(folder)
    body_class = registry.load_class("models", key)
    with torch.device("meta"):
        body = body_class(config)
    shapes = {name: value.shape for name, value in body.named_parameters()}
    tensors = _read_tensors(folder / "model.safetensors")
    fixed = _fixed_parameters(body, config, tensors, layout)
    ours = to_ours({**fixed, **tensors}, layout.renames, shapes)
    body.load_state_dict(
        {name: value.float() for name, value in ours.items()}, strict=False, assign=True
    )
    body.tie_weights()
    return key, body.eval()


def _fixed_parameters(
    body: Any, config: Any, tensors: Mapping[str, Tensor], layout: Layout
) -> dict[str, Tensor]:
    """Compute what published files leave out because the config determines it."""
    fixed = body.fixed_parameters() if hasattr(body, "fixed_parameters") else {}
    written = to_published(fixed, layout.renames) if fixed else {}
    return {name: value for name, value in written.items() if name not in tensors}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileError(f"there is no {path.name}", where=str(path.parent))
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path.name} is damaged: {error}", where=str(path.parent)) from error


def write_generation_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write generation_config.json for those who decode with `transformers`."""
    write_json(folder / "generation_config.json", dict(values))


def write_tokenizer(folder: Path, tokenizer_json: str, *, special: Mapping[str, str]) -> None:
    """Write tokenizer.json and tokenizer_config.json.

    Args:
        folder: Existing folder.
        tokenizer_json: As the tokenizers library writes it.
        special: Role -> token, such as {"eos_token": "</s>"}.
    """
    (folder / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
    # A reader of tokenizer.json need not know a class for every way to cut text.
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        | dict(special),
    )


def count_parameters(body: nn.Module) -> dict[str, int]:
    """Count the trained numbers of each top-level part, ties once."""
    counts: dict[str, int] = {}
    for name, value in body.named_parameters():
        if value.requires_grad:
            part = name.split(".")[0]
            counts[part] = counts.get(part, 0) + value.numel()
    return counts
