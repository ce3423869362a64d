"""What a run tells those who watch it, as values: the command line draws them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.data.report import DataReport


@dataclass(frozen=True, kw_only=True)
class Started:
    """The run is set up; training begins or goes on."""

    total_steps: int
    step: int
    num_parameters: int
    precision: str
    report: DataReport


@dataclass(frozen=True, kw_only=True)
class Report:
    """One line of metrics.jsonl."""

    step: int
    epoch: float
    loss: float
    losses: dict[str, float]
    tokens_per_second: float
    seconds: float
    learning_rate: float
    grad_norm: float


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The model was scored on the validation data."""

    step: int
    scores: dict[str, float]
    loss: float
    is_best: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something a person should know."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The run is done; the best model is in `model/`."""

    step: int
    best_step: int
    best_score: float | None
    score_name: str
    seconds: float
    model_dir: Path


Event = Started | Report | Evaluated | Note | Finished
