"""The sections of a recipe: every setting, what it means, and what it may be.

Sections `model` and `task` also carry the settings of the chosen architecture and task; those are
kept as plain mappings here and checked where their types are known.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from headway.errors import ConfigError, nearest

CLASS_WEIGHTS = ("none", "balanced")
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
    "slanted-triangular",
)


def dash(name: str) -> str:
    return name.replace("_", "-")


def at_least(section: str, values: Any, least: Mapping[str, float]) -> list[str]:
    return [
        f"{section}.{dash(name)} is {value}, but at least {bound} is needed"
        for name, bound in least.items()
        if (value := getattr(values, name)) is not None and value < bound
    ]


def not_among(section: str, values: Any, choices: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"{section}.{dash(name)} is {value!r}; {nearest(value, allowed)}"
        for name, allowed in choices.items()
        if (value := getattr(values, name)) not in allowed
    ]


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
        problems = at_least("data", self, {"max_rows": 1})
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
        return at_least("text", self, {"vocab_size": 8, "add_words": 0})


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


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """What the model learns to do."""

    name: str = "translation"
    """Key of a file in tasks/."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the task."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the weights are found."""

    seed: int = 0
    """Of weights, order, dropout; a Unigram vocabulary is learned by chance, and then kept."""
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
    peak_lr: float | Literal["auto"] = 1e-3
    """Highest learning rate; auto: by the width of model.path, 5e-5 at 768, and 1e-3 without."""
    schedule: str = "inverse-sqrt"
    """constant, step, exponential, cyclical, one-cycle, linear, cosine, inverse-sqrt or
    slanted-triangular."""
    warmup_steps: int = 400
    """Updates in which the rate rises from 0 (schedules linear, cosine, inverse-sqrt, constant)."""
    warmup_ratio: float = 0.0
    """Share of the run in which it rises, in place of warmup-steps; slanted-triangular has 0.1."""
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

    @property
    def rate(self) -> float:
        """Give the highest learning rate, once it is spelled out.

        Raises:
            ConfigError: if it is not.
        """
        if isinstance(self.peak_lr, str):
            raise ConfigError(
                "training.peak-lr is 'auto', which only a run of a recipe spells out",
                hint="give a number",
            )
        return self.peak_lr

    def check(self) -> list[str]:
        """Return every problem of this section."""
        least = {"micro_batch_tokens": 1, "warmup_steps": 0, "cycle_steps": 1, "weight_decay": 0}
        least |= {"clip_norm": 0, "steps": 1, "batch_tokens": 1, "batch_rows": 1}
        problems = at_least("training", self, least | {"evaluate_steps": 1})
        if not 0 <= self.seed < 2**63:
            problems.append(f"training.seed is {self.seed}, but must be from 0 to below 2^63")
        for name in ("epochs", "peak_lr", "epsilon", "decay_ratio"):
            if getattr(self, name) != "auto" and not 0 < getattr(self, name) < float("inf"):
                problems.append(
                    f"training.{dash(name)} is {getattr(self, name)}, but must be above 0"
                )
        if not 0 <= self.warmup_ratio < 1:
            problems.append(
                f"training.warmup-ratio is {self.warmup_ratio}, but must be from 0 to below 1"
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
        return problems + not_among("training", self, choices)


@dataclass(frozen=True, kw_only=True)
class Playbook:
    """The craft around the loop.

    A body has stages from the input up: the embeddings, then each layer. What is above them, the
    head and its pooling, is the top.
    """

    patience: int | None = None
    """Evaluations without a better score after which training stops early."""
    choose_by: str = "auto"
    """Score that chooses the best model: auto (the task's first), loss, or a score's name."""
    valid_beams: int = 1
    """Beams of the decoding that scores while training."""
    class_weights: str = "none"
    """none, or balanced: every class counts the same in the loss, however rare it is."""
    freeze: tuple[str, ...] = ()
    """Parts that never learn, by name: embeddings, encoder.layers.0, *.norm.bias."""
    unfreeze_epochs: tuple[float, ...] = ()
    """Gradual unfreezing: passes with the top alone, then with one stage more, and so on from the
    top down; the last number goes on holding. None: all learn from the start."""
    unfreeze_steps: tuple[int, ...] = ()
    """The same in updates, in place of passes."""
    unfreeze_stages: int = 1
    """Stages that join at once."""
    cache_megabytes: int = 2048
    """Memory for what frozen stages give, computed once; beyond it, a file. 0 computes it again
    and again."""
    layer_decay: float = 1.0
    """Factor from each stage's rate to that of the one below; the top has the full rate."""
    stage_rates: tuple[float, ...] = ()
    """Shares of the rate for as many equal groups of stages, from the embeddings up, in place of
    layer-decay."""
    reinit_layers: int = 0
    """Uppermost layers of model.path, with its pooler, that are drawn anew."""
    swa_start: float | None = None
    """Stochastic weight averaging: share of the run, such as 0.75, after which the rate is constant
    and the mean of the weights is the model."""
    swa_rate: float = 0.5
    """That constant rate as a share of peak-lr; the rate does not fall below it before, either."""
    swa_steps: int | None = None
    """Updates between two weights that enter the mean; none spreads twenty over the rest."""
    ema_decay: float | None = None
    """Exponential averaging: share, such as 0.999, that the mean of the weights keeps an update."""
    lora_rank: int = 0
    """Rank of low-rank adapters, which learn in place of model.path's own weights; 0: none."""
    lora_alpha: float = 16.0
    """Their scale is this divided by their rank."""
    lora_targets: tuple[str, ...] = ("query", "value")
    """Last words of the names of the layers that have them."""
    average_checkpoints: int = 1
    """Last checkpoints whose mean is tried as the final model; 1 is off."""

    def check(self) -> list[str]:
        """Return every problem of this section."""
        least = {"average_checkpoints": 1, "valid_beams": 1, "unfreeze_stages": 1}
        least |= {
            "reinit_layers": 0,
            "lora_rank": 0,
            "cache_megabytes": 0,
            "patience": 1,
            "swa_steps": 1,
        }
        problems = at_least("playbook", self, least)
        problems += not_among("playbook", self, {"class_weights": CLASS_WEIGHTS})
        if self.lora_rank and not (self.lora_alpha > 0 and self.lora_targets):
            problems.append("playbook.lora-alpha must be above 0, and lora-targets name some layer")
        for name in ("layer_decay", "stage_rates", "swa_rate"):
            value = getattr(self, name)
            shares = value if isinstance(value, tuple) else (value,)
            if not all(0 < share <= 1 for share in shares):
                shown = ", ".join(map(str, shares))
                problems.append(f"playbook.{dash(name)} is {shown}, but must be above 0, at most 1")
        for name in ("swa_start", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                problems.append(f"playbook.{dash(name)} is {value}, but must be between 0 and 1")
        for name in ("unfreeze_epochs", "unfreeze_steps"):
            if not all(value > 0 for value in getattr(self, name)):
                problems.append(f"playbook.{dash(name)} must be above 0")
        return problems + self._conflicts()

    def _conflicts(self) -> list[str]:
        pairs = (
            ("unfreeze_epochs", "unfreeze_steps", self.unfreeze_epochs and self.unfreeze_steps),
            ("layer_decay", "stage_rates", self.layer_decay != 1 and self.stage_rates),
            ("lora_rank", "reinit_layers", self.lora_rank and self.reinit_layers),
            ("lora_rank", "freeze", self.lora_rank and self.freeze),
            ("swa_start", "ema_decay", self.swa_start is not None and self.ema_decay is not None),
            ("swa_start", "average_checkpoints", self.swa_start and self.average_checkpoints > 1),
            ("ema_decay", "average_checkpoints", self.ema_decay and self.average_checkpoints > 1),
        )
        return [
            f"playbook.{dash(one)} and playbook.{dash(other)} cannot go together: give one of them"
            for one, other, is_both in pairs
            if is_both
        ]


# A run without any of it.
PLAIN = Playbook()


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
        # What model and task may be, their own files know.
        sections = (self.data, self.text, self.training, self.playbook)
        if problems := [problem for section in sections for problem in section.check()]:
            raise ConfigError("; ".join(problems))


SECTIONS: Mapping[str, type] = types.MappingProxyType(
    {item.name: item.default_factory for item in fields(Recipe)}  # pyright: ignore
)
OPEN_SECTIONS = ("model", "task")
