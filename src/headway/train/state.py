"""Everything that resuming a run needs, and the checkpoints that keep it."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from headway.errors import FileError, join_problems
from headway.files.manifest import check_folder, read_json, write_folder, write_json
from headway.files.weights import save_tensors

_AVERAGE = "average.safetensors"
_STEP_FOLDER = re.compile(r"step-(\d{8})")


@dataclass(kw_only=True)
class TrainState:
    """Where a run is. With weights and optimizer moments, all that bit-equal resumption needs.

    Order, dropout and masking are functions of (seed, epoch, step), so no generator or loader
    state is among it.
    """

    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Passes completed."""
    step_in_epoch: int = 0
    """Updates done in this pass."""
    tokens: int = 0
    """Real tokens seen."""
    seconds: float = 0.0
    """Time spent, over all starts."""
    evaluated_step: int = 0
    """Step of the last evaluation."""
    best_score: float | None = None
    """Best validation score so far; higher is better."""
    best_step: int = 0
    """Step it was reached at."""
    stale_evaluations: int = 0
    """Evaluations since then."""
    loss_sums: dict[str, list[float]] = field(default_factory=dict)
    """Loss name -> total and count since the last report."""
    report_tokens: int = 0
    """Real tokens since the last report."""
    report_seconds: float = 0.0
    """Time since the last report."""
    averaged_weights: int = 0
    """Weights in the mean that goes along."""
    averaged_from: int = 0
    """Step after which they enter it."""


def save_checkpoint(
    folder: Path,
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainState,
    *,
    average: Mapping[str, Tensor],
) -> Path:
    """Write a checkpoint, whole or not at all; it counts once its manifest is there.

    Args:
        folder: `checkpoints/` of a run.
        modules: Body and head.
        optimizer: Adam or AdamW.
        state: Where the run is.
        average: Mean of the weights that goes along; empty if there is none.
    Returns:
        path: The checkpoint's folder, `step-00000500`.
    Raises:
        FileError: if it cannot be written; earlier ones are untouched.
    """
    path = folder / f"step-{state.step:08d}"
    weights = {name: value.detach().contiguous() for name, value in _stored(modules).items()}
    moments = {
        f"{name}/{key}": value.detach().clone().contiguous()
        for name, parameter in modules.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }

    def fill(draft: Path) -> None:
        save_tensors(weights, draft / "model.safetensors")
        save_tensors(moments, draft / "optimizer.safetensors")
        if average:
            save_tensors(average, draft / _AVERAGE)
        write_json(draft / "state.json", dataclasses.asdict(state))

    write_folder(path, fill)
    return path


def _stored(modules: nn.Module) -> Mapping[str, Tensor]:
    """List what a checkpoint holds: of a model with adapters not what they are added to."""
    own = dict(modules.named_parameters())
    if not any(".lora_" in name for name in own):
        return own
    # In a phase of unfreezing adapters may rest, but never what learns whole, which is the top.
    return {n: p for n, p in own.items() if ".lora_" in n or p.requires_grad}


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first, whole or not."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _STEP_FOLDER.fullmatch(path.name))


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the newest checkpoint that is whole.

    Returns:
        path, damaged: None if there is none; one line about each newer one that is damaged.
    """
    damaged = []
    for path in reversed(list_checkpoints(folder)):
        try:
            check_folder(path)
        except FileError as error:
            damaged.append(str(error))
        else:
            return path, damaged
    return None, damaged


def step_of(path: Path) -> int:
    """Read the step from a checkpoint's name."""
    return int(path.name.removeprefix("step-"))


def prune_checkpoints(folder: Path, *, keep: Collection[Path]) -> None:
    """Delete all other checkpoints, and drafts that a crash left behind."""
    others = [path for path in list_checkpoints(folder) if path not in keep]
    for path in (*others, *folder.glob(".*")):
        shutil.rmtree(path, ignore_errors=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path} is damaged: {error}") from error


def load_weights(path: Path, modules: nn.Module) -> None:
    """Put a checkpoint's weights into body and head."""
    weights = read_weights(path / "model.safetensors")
    own = _stored(modules)
    ours, theirs = ({n: value.shape for n, value in found.items()} for found in (own, weights))
    if differing := sorted({name for name, _ in ours.items() ^ theirs.items()}):
        raise FileError(
            f"the checkpoint does not fit the recipe: {join_problems(differing)}",
            where=str(path),
            hint="of a run's recipe only training.steps and training.epochs may change",
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(weights[name])


def read_average(path: Path) -> dict[str, Tensor]:
    """Read the mean of the weights that a checkpoint kept; empty if it has none."""
    file = path / _AVERAGE
    return read_weights(file) if file.is_file() else {}


def load_checkpoint(path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """Put a checkpoint's weights and moments in place and read where the run was."""
    load_weights(path, modules)
    parameters = dict(modules.named_parameters())
    for name, value in read_weights(path / "optimizer.safetensors").items():
        parameter, key = name.rsplit("/", 1)
        owner = parameters[parameter]
        # `state` makes an empty dict for a parameter that it does not know.
        optimizer.state[owner][key] = value.to(owner.device)
    values: dict[str, Any] = read_json(path / "state.json")
    known = {item.name for item in dataclasses.fields(TrainState)}
    state = TrainState(**{key: value for key, value in values.items() if key in known})
    counts = (state.step, state.epoch, state.step_in_epoch, state.evaluated_step)
    if not all(type(count) is int and count >= 0 for count in counts):
        raise FileError("state.json is damaged", where=str(path))
    return state
