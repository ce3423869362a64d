"""Model folders in Hugging Face layout: config.json and model.safetensors, read and written."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from headway import registry
from headway.errors import ConfigError, FileError, join_problems
from headway.files.carried import Carried, find_carried, read_rate
from headway.files.kinds import find_kind
from headway.files.manifest import MANIFEST, changed_files, get_key, put_key, read_json, write_json
from headway.files.rename import head_names, to_published
from headway.files.vocabulary import VOCABULARY_FILES, read_tokenizer_config
from headway.files.weights import (
    Fit,
    hint_at_misfits,
    place_head,
    read_own_head,
    read_tensors,
    save_tensors,
    weight_files,
)
from headway.layers.shapes import shapes_only
from headway.names import Layout, PublishedHead

# Keys with which a published model asks to run code of its own.
_CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
# No published network is near these; beyond them a config is damaged or hostile.
_LARGEST = {"num": 1_000, "vocab_size": 10_000_000}
_LARGEST_SIZE = 1_000_000


def pick_layout(key: str, config: Any) -> Layout:
    """Find the published layout that a config of ours is written in."""
    layouts: tuple[Layout, ...] = registry.load_module("models", key).LAYOUTS
    for layout in layouts:
        if all(getattr(config, name) == value for name, value in layout.when.items()):
            return layout
    raise ConfigError(f"no published layout of {key} fits this config")


def make_body(key: str, config: Any, head: str) -> Any:
    """Build the network that a kind of head stands on, with the parts that its class has.

    Raises:
        ConfigError: if the architecture has no published class with such a head.
    """
    published = _published_head(key, pick_layout(key, config), head)
    body_class = registry.load_class("models", key)
    return (
        body_class(config, published.parts) if published.parts is not None else body_class(config)
    )


def _published_head(key: str, layout: Layout, head: str) -> PublishedHead:
    if head not in layout.heads:
        raise ConfigError(
            f"no published {key} has a head of kind {head}",
            hint=f"it has {', '.join(layout.heads)}",
        )
    return layout.heads[head]


def write_model(
    folder: Path,
    key: str,
    body: Any,
    *,
    kind: str,
    head: nn.Module | None = None,
    labels: Sequence[str] = (),
    problem: str = "",
    carried: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json and model.safetensors of a body and what stands on it.

    Args:
        folder: Existing folder.
        key: Name of the architecture's file.
        body: The network, with its `config`.
        kind: Kind of head.
        head: The head's own network, where it has one.
        labels: Names of the classes.
        problem: What others call what a sequence head does; "" where it is something else.
        carried: Keys of config.json that were read and not used.
    """
    config = body.config
    layout = pick_layout(key, config)
    published: dict[str, Any] = {
        "architectures": [_published_head(key, layout, kind).architecture],
        "model_type": layout.model_type,
        "torch_dtype": "float32",
    }
    fixed: dict[str, Any] = {**layout.constants, **layout.extras}
    for name, keys in layout.config.items():
        fixed |= dict.fromkeys(keys, getattr(config, name))
    for name, value in {**fixed, **layout.derived(config)}.items():
        put_key(published, name, value)
    if not labels and kind == "sequence" and head is not None:
        # Others take two results for granted.
        labels = [f"LABEL_{number}" for number in range(head.output.out_features)]  # pyright: ignore
    if labels:
        published["id2label"] = {str(number): name for number, name in enumerate(labels)}
        published["label2id"] = {name: number for number, name in enumerate(labels)}
    if problem and kind == "sequence":
        published["problem_type"] = problem
    published |= {k: value for k, value in (carried or {}).items() if k not in published}
    rate_key = _published_head(key, layout, kind).dropout
    if head is not None and read_rate(published, rate_key) is not None:
        published[rate_key] = head.dropout.rate  # pyright: ignore
    write_json(folder / "config.json", published)
    parameters = {name: value.detach().float() for name, value in body.named_parameters()}
    with shapes_only():
        expected = dict(make_body(key, config, kind).named_parameters())
    if missing := sorted(expected.keys() ^ parameters.keys()):
        raise ConfigError(
            f"the network is no whole {key}: {join_problems(missing)} differ from a fresh one",
            hint="was it packed for inference?",
        )
    table = layout.table(kind)
    tensors = to_published(parameters | place_head(folder, head, table), table)
    save_tensors(tensors, folder / "model.safetensors")


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
    if not isinstance(published.get("model_type"), str):
        raise ConfigError("config.json does not say its model_type", where=where)
    try:
        key = registry.model_key(published["model_type"])
    except ConfigError as error:
        raise ConfigError(error.message, where=where, hint=error.hint) from error
    module = registry.load_module("models", key)
    layout = _layout_of(published, module.LAYOUTS)
    published = layout.settle(published)
    config_class = getattr(module, registry.class_name(key) + "Config")
    problems = _odd_values(published, layout.constants)
    values, more = _read_values(published, layout, config_class)
    problems += more
    if not problems:
        config = config_class(**{**layout.when, **values})
        problems = _odd_values(published, layout.derived(config))
    if not problems:
        called = {name: keys[0] for name, keys in layout.config.items()}
        problems = check_sizes(config, called=called)
        problems += [_in_words_of(called, problem) for problem in config.check()]
    if problems:
        raise FileError("the config cannot be used: " + join_problems(problems), where=where)
    return key, config, layout


def _layout_of(published: Mapping[str, Any], layouts: Sequence[Layout]) -> Layout:
    """Find the layout that a config.json is written in; the first where none fits better."""
    named = [item for item in layouts if item.model_type == published["model_type"]]

    def fits(layout: Layout) -> bool:
        keys = ((layout.config.get(name, ()), value) for name, value in layout.when.items())
        return all(get_key(published, key, value) == value for ours, value in keys for key in ours)

    return next(filter(fits, named), named[0])


def _odd_values(published: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """Find keys that ask for something else than what is computed."""
    return [
        f"{name} is {reprlib.repr(get_key(published, name))}, but Headway computes only {value!r}"
        for name, value in known.items()
        if get_key(published, name, value) != value
    ]


def _in_words_of(called: Mapping[str, str], problem: str) -> str:
    """Write the names of config.json in a problem in place of our own."""
    return re.sub(r"\w+", lambda word: called.get(word[0], word[0]), problem)


def check_sizes(config: Any, *, called: Mapping[str, str] | None = None) -> list[str]:
    """Find sizes beyond any model, and ids outside of the vocabulary, before memory is taken.

    Args:
        config: Of a body.
        called: Field -> the name that the user knows it by, where it has another.
    Returns:
        problems: Empty if the sizes can be meant.
    """
    problems = []
    for name, value in dataclasses.asdict(config).items():
        shown = f"{(called or {}).get(name, name)} is {reprlib.repr(value)}"
        if type(value) is not int:
            continue
        if name.endswith("_token_id"):
            if not 0 <= value < config.vocab_size:
                problems.append(f"{shown}, but the vocabulary has {config.vocab_size} entries")
        elif abs(value) > _largest(name):
            problems.append(f"{shown}, which is beyond any model")
    return problems


def _read_values(
    published: Mapping[str, Any], layout: Layout, config_class: type
) -> tuple[dict[str, Any], list[str]]:
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    values: dict[str, Any] = {}
    problems = []
    for name, keys in layout.config.items():
        seen = [value for key in keys if (value := get_key(published, key)) is not None]
        if not seen:
            continue
        if any(value != seen[0] for value in seen[1:]):
            problems.append(f"{' and '.join(keys)} differ, which Headway does not compute")
        default = fields[name].default
        value = float(seen[0]) if isinstance(default, float) and _is_number(seen[0]) else seen[0]
        if type(value) is not type(default):
            kind = type(default).__name__
            problems.append(f"{keys[0]} is {reprlib.repr(value)}, but must be of type {kind}")
        values[name] = value
    return values, problems


def _is_number(value: Any) -> bool:
    # An integer beyond these has no float.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e300


def _largest(name: str) -> int:
    return _LARGEST.get(name) or _LARGEST.get(name.split("_")[0], _LARGEST_SIZE)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a model folder held.

    Args:
        key: Name of the architecture's file.
        body: The network with its weights, in eval mode.
        kind: Kind of head it was opened with.
        saved_kind: Kind of head it was saved with.
        head: The head's own parameters, without "head."; empty where the folder has none.
        labels: Names of the classes, from config.json.
        fresh: Parts that the folder lacks and that were drawn at random, or are still to be made.
        unused: Tensors of other heads, which were left out.
        problem: `problem_type` of config.json, "" where it has none.
        changed: Files that were edited after the folder was saved.
        carried: What the files say beside, to be written back.
        dropout: Rate before the results of this kind of head; None where the folder says none.
    """

    key: str
    body: Any
    kind: str
    saved_kind: str
    head: Mapping[str, Tensor]
    labels: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    problem: str = ""
    changed: tuple[str, ...] = ()
    carried: Carried = field(default_factory=Carried)
    dropout: float | None = None


def read_model(folder: Path, *, kind: str | None = None) -> Loaded:
    """Read a body, and the head on top of it.

    Nothing is drawn at random first and nothing is copied twice: the network is built without
    memory and takes the tensors of the file as they are.

    Args:
        folder: Model folder.
        kind: Kind of head to open it with; None: the one it was saved with.
    Raises:
        FileError: if the folder is missing or damaged, or the weights do not fit the config.
        ConfigError: if the architecture has no such head.
    """
    if not folder.is_dir():
        raise FileError(f"there is no model folder {folder}")
    if not (folder / "config.json").exists() and (folder / "model" / "config.json").is_file():
        raise FileError(f"{folder} is a run", hint=f"its model is {folder / 'model'}")
    changed = _check_model(folder)
    key, config, layout = read_config(folder)
    published = read_json(folder / "config.json")
    tensors = read_tensors(folder)
    saved_kind = find_kind(key, config, layout, published, tensors)
    kind = kind or saved_kind
    with shapes_only():
        body = make_body(key, config, kind)
    fit = Fit(body, layout, kind, tensors)
    try:
        ours = fit.tensors()
    except FileError as error:
        hint = hint_at_misfits(tensors, layout, error.message)
        raise FileError(error.message, where=str(folder), hint=hint) from error
    ours = {name: value.float() for name, value in ours.items()}
    head = {name[5:]: ours.pop(name) for name in list(ours) if name.startswith("head.")}
    head |= {} if head_names(layout.table(kind)) else read_own_head(folder)
    body.load_state_dict(ours, strict=False, assign=True)
    for part in fit.fresh:
        if part != "head":
            getattr(body, part).to_empty(device="cpu")
            body.init_weights(part)
    # Last, so that what is shared is what the file holds.
    body.tie_weights()
    return Loaded(
        key=key,
        body=body.eval(),
        kind=kind,
        saved_kind=saved_kind,
        head=head,
        labels=_read_labels(published),
        fresh=tuple(fit.fresh),
        unused=tuple(fit.unused),
        problem=str(published.get("problem_type") or ""),
        changed=tuple(changed),
        carried=find_carried(published, layout, config, read_tokenizer_config(folder)),
        dropout=read_rate(published, layout.heads[kind].dropout),
    )


def _check_model(folder: Path) -> list[str]:
    """List what was edited since the folder was saved; weights that differ are damaged."""
    changed = changed_files(folder, quick=True)
    fatal = [
        name for name in changed if name.endswith(".safetensors") or not (folder / name).is_file()
    ]
    if fatal:
        raise FileError(
            f"{', '.join(sorted(fatal))} differs from what was saved",
            where=str(folder),
            hint=f"copy the folder again; if you changed it yourself, remove {MANIFEST}",
        )
    return sorted(changed)


def _read_labels(published: Mapping[str, Any]) -> tuple[str, ...]:
    labels = published.get("id2label")
    if not isinstance(labels, dict):
        return ()
    try:
        return tuple(str(labels[number]) for number in sorted(labels, key=int))
    except ValueError:
        return ()


def list_files(folder: Path) -> list[Path]:
    """List the files that a model is read from."""
    names = ("config.json", "adapter_config.json", "adapter_model.safetensors", *VOCABULARY_FILES)
    named = [folder / name for name in names]
    return [path for path in (*named, *weight_files(folder)) if path.is_file()]


def write_generation_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write generation_config.json for those who decode with `transformers`."""
    write_json(folder / "generation_config.json", dict(values))


def count_parameters(body: nn.Module) -> dict[str, int]:
    """Count the trained numbers of each top-level part, ties once."""
    counts: dict[str, int] = {}
    for name, value in body.named_parameters():
        if value.requires_grad:
            part = name.split(".")[0]
            counts[part] = counts.get(part, 0) + value.numel()
    return counts
