"""A recipe: everything a run needs, as a TOML file, as flags, as frozen dataclasses.

Sections `model` and `task` also carry the settings of the chosen architecture and task; those are
kept as plain mappings here and checked where their types are known, so that this file needs
neither torch nor any model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headway.errors import ConfigError, FileError, nearest
from headway.fields import convert, to_toml


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the records come from."""

    train: tuple[str, ...] = ()
    """Training files: one TSV, CSV or JSONL, or two parallel text files (gz too)."""
    valid: tuple[str, ...] = ()
    """Files that the best model is chosen on."""
    columns: tuple[str, ...] = ()
    """Names for files without a header, or ours=theirs to rename columns."""
    skip_bad: bool = False
    """Leave rows out that cannot be used, and count them, instead of stopping."""
    max_rows: int | None = None
    """Use only the first rows of the training files."""
    weights: tuple[float, ...] = ()
    """Passes over each training file in an epoch, for tasks that read running text; none: 1."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        problems = [] if self.max_rows is None else _at_least("data", self, {"max_rows": 1})
        is_fit = len(self.weights) == len(self.train) and any(self.weights)
        if self.weights and not (is_fit and all(0 <= weight <= 1000 for weight in self.weights)):
            problems.append(
                f"data.weights is {list(self.weights)}, but a number from 0 to 1000 is needed for "
                f"each of the {len(self.train)} files of data.train, one of them above 0"
            )
        return problems


@dataclass(frozen=True, kw_only=True)
class Text:
    """How text becomes token ids."""

    tokenizer: str = "bpe"
    """character, word, bpe, byte-bpe, wordpiece or unigram."""
    vocab_size: int = 8000
    """Entries of the vocabulary, special tokens included."""
    lowercase: bool = False
    """Fold case before anything else."""
    add_words: int = 0
    """Words of the training text to add to the vocabulary of model.path, at most."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        return _at_least("text", self, {"vocab_size": 8, "add_words": 0})


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """Which architecture, from which sizes or which folder."""

    architecture: str = "transformer"
    """Key of a file in models/."""
    preset: str | None = None
    """Published size to start from, such as base."""
    path: str | None = None
    """Model folder to start from in place of fresh weights; brings its tokenizer."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Sizes and choices of the architecture."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        return []


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """What the model learns to do."""

    name: str = "translation"
    """Key of a file in tasks/."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the task."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        return []


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the weights are found."""

    seed: int = 0
    """Of weights, order, dropout; but WordPiece and Unigram vocabularies differ each time."""
    epochs: float = 10.0
    """Passes over the training rows."""
    steps: int | None = None
    """Updates in all, in place of epochs."""
    batch_tokens: int | None = 8192
    """Real tokens in an update, both sides counted. Give this or batch_rows."""
    batch_rows: int | None = None
    """Rows in an update."""
    micro_batch_tokens: int = 16384
    """Cells (padding counted) of a forward pass, at most; bounds the memory."""
    layout: str = "sorted"
    """sorted (rows of like length together), packed (several examples a row) or shuffled."""
    optimizer: str = "adamw"
    """adamw (decay apart from the gradient) or adam (decay in the gradient)."""
    peak_lr: float = 1e-3
    """Highest learning rate."""
    schedule: str = "inverse-sqrt"
    """constant, step, exponential, cyclical, one-cycle, linear, cosine or inverse-sqrt."""
    warmup_steps: int = 400
    """Updates in which the rate rises from 0 (schedules linear, cosine, inverse-sqrt, constant)."""
    cycle_steps: int = 1000
    """Updates of a cycle (cyclical) or between two drops (step)."""
    decay_ratio: float = 0.5
    """Factor of a drop (step), or of the rate over the whole run (exponential)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of Adam's two moments."""
    epsilon: float = 1e-9
    """Added to Adam's denominator."""
    weight_decay: float = 0.01
    """Decay of matrices; biases and norms are never decayed."""
    clip_norm: float = 1.0
    """Longest gradient; 0 leaves it as it is."""
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 where the hardware multiplies it."""
    evaluate_steps: int | None = None
    """Updates between evaluations, each with a checkpoint; none means once an epoch."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        least = {"micro_batch_tokens": 1, "warmup_steps": 0, "cycle_steps": 1, "weight_decay": 0}
        least["clip_norm"] = 0
        for name in ("steps", "batch_tokens", "batch_rows", "evaluate_steps"):
            if getattr(self, name) is not None:
                least[name] = 1
        problems = _at_least("training", self, least)
        if not 0 <= self.seed < 2**63:
            problems.append(f"training.seed is {self.seed}, but must be from 0 to below 2^63")
        for name in ("epochs", "peak_lr", "epsilon", "decay_ratio"):
            if not 0 < getattr(self, name) < float("inf"):
                problems.append(
                    f"training.{_dash(name)} is {getattr(self, name)}, but must be above 0"
                )
        if not all(0 <= beta < 1 for beta in self.betas):
            problems.append(f"training.betas is {self.betas}, but both must be from 0 to below 1")
        if (self.batch_tokens is None) == (self.batch_rows is None):
            problems.append("give exactly one of training.batch-tokens and training.batch-rows")
        choices = {
            "layout": ("sorted", "packed", "shuffled"),
            "optimizer": ("adamw", "adam"),
            "precision": ("auto", "fp32", "bf16"),
            "schedule": SCHEDULES,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                problems.append(f"training.{name} is {value!r}; {nearest(value, allowed)}")
        return problems


# In the order of `train/schedules.py`, which draws them.
SCHEDULES = (
    "constant",
    "step",
    "exponential",
    "cyclical",
    "one-cycle",
    "linear",
    "cosine",
    "inverse-sqrt",
)


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """The craft around the loop."""

    patience: int | None = None
    """Evaluations without a better score after which training stops early."""
    average_checkpoints: int = 1
    """Last checkpoints whose mean is tried as the final model; 1 is off."""
    choose_by: str = "auto"
    """Score that chooses the best model: auto (the task's first), loss, or a score's name."""
    valid_beams: int = 1
    """Beams of the decoding that scores while training."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        least = {"average_checkpoints": 1, "valid_beams": 1}
        if self.patience is not None:
            least["patience"] = 1
        return _at_least("playbook", self, least)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a run needs."""

    data: Data = field(default_factory=Data)
    text: Text = field(default_factory=Text)
    model: ModelSection = field(default_factory=ModelSection)
    task: TaskSection = field(default_factory=TaskSection)
    training: Training = field(default_factory=Training)
    playbook: Playbook = field(default_factory=Playbook)

    def check(self) -> None:
        """Check every section.

        Raises:
            ConfigError: naming all problems together.
        """
        sections = (self.data, self.text, self.model, self.task, self.training, self.playbook)
        if problems := [problem for section in sections for problem in section.check()]:
            raise ConfigError("; ".join(problems))


SECTIONS: Mapping[str, type] = types.MappingProxyType(
    {
        "data": Data,
        "text": Text,
        "model": ModelSection,
        "task": TaskSection,
        "training": Training,
        "playbook": Playbook,
    }
)
_OPEN_SECTIONS = ("model", "task")


def _dash(name: str) -> str:
    return name.replace("_", "-")


def _at_least(section: str, values: Any, least: Mapping[str, float]) -> list[str]:
    return [
        f"{section}.{_dash(name)} is {getattr(values, name)}, but at least {bound} is needed"
        for name, bound in least.items()
        if getattr(values, name) < bound
    ]


def own_fields(section: str) -> dict[str, dataclasses.Field]:
    """List the fields that a section itself has, without the settings of a model or task."""
    fields = {item.name: item for item in dataclasses.fields(SECTIONS[section])}
    if section in _OPEN_SECTIONS:
        del fields["settings"]
    return fields


def read_toml(text: str, *, where: str) -> dict[str, dict[str, Any]]:
    """Read the sections of a recipe file.

    Raises:
        ConfigError: for broken TOML, an unknown section, or a key outside of a section.
    """
    try:
        sections = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the recipe is no valid TOML: {error}", where=where) from error
    for name, content in sections.items():
        if name not in SECTIONS:
            raise ConfigError(
                f"a recipe has no section {name!r}", where=where, hint=nearest(name, SECTIONS)
            )
        if not isinstance(content, dict):
            raise ConfigError(f"{name} must be a section: [{name}]", where=where)
    return sections


def build(sections: Mapping[str, Mapping[str, Any]], *, where: str) -> Recipe:
    """Build a recipe from the sections of files and flags, already merged.

    Keys of `model` and `task` that are not their own become settings of the architecture and the
    task, and are checked by `check_settings`.

    Raises:
        ConfigError: for an unknown key, with the nearest known one, or a value of a wrong type.
    """
    built = {}
    for name, section_class in SECTIONS.items():
        kinds = typing.get_type_hints(section_class)
        known = own_fields(name)
        values: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for key, value in sections.get(name, {}).items():
            key = key.replace("-", "_")
            if key in values or key in settings:
                raise ConfigError(f"{name}.{_dash(key)} is given twice", where=where)
            if key in known:
                values[key] = convert(value, kinds[key], where=f"{name}.{_dash(key)}")
            elif name in _OPEN_SECTIONS:
                settings[key] = value
            else:
                raise ConfigError(
                    f"there is no {name}.{_dash(key)}",
                    where=where,
                    hint=nearest(_dash(key), map(_dash, known)),
                )
        if name in _OPEN_SECTIONS:
            values["settings"] = settings
        if values.get("batch_rows") is not None:
            values.setdefault("batch_tokens", None)
        built[name] = section_class(**values)
    recipe = Recipe(**built)
    try:
        recipe.check()
    except ConfigError as error:
        raise ConfigError(error.message, where=where) from error
    return recipe


def convert_settings(
    section: str, settings: Mapping[str, Any], config_class: type, *, where: str
) -> dict[str, Any]:
    """Give the settings of a model or task the types of its config.

    Raises:
        ConfigError: for an unknown key, with the nearest known one, or a value of a wrong type.
    """
    hints = typing.get_type_hints(config_class)
    kinds = {item.name: hints[item.name] for item in dataclasses.fields(config_class)}
    values = {}
    for key, value in settings.items():
        if key not in kinds:
            known = [*map(_dash, kinds), *map(_dash, own_fields(section))]
            raise ConfigError(
                f"there is no {section}.{_dash(key)}", where=where, hint=nearest(_dash(key), known)
            )
        values[key] = convert(value, kinds[key], where=f"{section}.{_dash(key)}")
    return values


def shipped() -> dict[str, Path]:
    """List the recipes that come with the package: name -> file."""
    folder = Path(__file__).parent / "recipes"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find(name: str) -> Path:
    """Find a recipe: a file, or the name of a shipped one.

    Raises:
        FileError: with the nearest names, if there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    recipes = shipped()
    if name in recipes:
        return recipes[name]
    hint = nearest(name, recipes, count=3)
    raise FileError(f"there is no recipe file or shipped recipe {name!r}", hint=hint)


def read(path: Path, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """Read a recipe file; flags come on top.

    Args:
        path: TOML file.
        overrides: Section -> key -> value, from flags.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"the recipe cannot be read: {error}", where=str(path)) from error
    sections = read_toml(text, where=str(path))
    merged = {name: {**sections.get(name, {})} for name in SECTIONS}
    for name, values in (overrides or {}).items():
        if name not in SECTIONS:
            raise ConfigError(f"a recipe has no section {name!r}", hint=nearest(name, SECTIONS))
        chosen = {key.replace("-", "_") for key in values}
        kept = {k: v for k, v in merged[name].items() if k.replace("-", "_") not in chosen}
        merged[name] = _exclusive(kept, chosen) | dict(values)
    return build(merged, where=str(path))


def _exclusive(values: dict[str, Any], chosen: set[str]) -> dict[str, Any]:
    """Let a flag for one way to size a batch or a run replace the file's other way."""
    pairs = {"batch_rows": "batch_tokens", "batch_tokens": "batch_rows", "epochs": "steps"}
    for given in chosen & set(pairs):
        values.pop(pairs[given], None)
        values.pop(_dash(pairs[given]), None)
    return values


def write(recipe: Recipe) -> str:
    """Write a recipe as TOML that `read` gives back."""
    lines = []
    for name in SECTIONS:
        section = getattr(recipe, name)
        values = {key: getattr(section, key) for key in own_fields(name)}
        if name in _OPEN_SECTIONS:
            values |= section.settings
        lines.append(f"[{name}]")
        lines += [f"{_dash(key)} = {to_toml(value)}" for key, value in values.items()]
        lines.append("")
    return "\n".join(lines)


def identify(recipe: Recipe) -> str:
    """Hash everything in a recipe that a run cannot change on its way: all but its length."""
    training = dataclasses.replace(recipe.training, steps=None, epochs=1.0)
    text = write(dataclasses.replace(recipe, training=training))
    return hashlib.sha256(text.encode()).hexdigest()
