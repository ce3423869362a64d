"""The next update of a training on both sides, from the same weights and moments, compared.

Imported in the process of a side only (see `_worker.py`), by the name of a class.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _masked import HuggingFaceMaskedTraining, as_theirs, next_batch
from _worker import Files
from headway.tasks._model import Model
from headway.train.loop import Trainer

PRECISIONS = ("fp32", "bf16")
# Softmax does not see what is added to every key, so these have no gradient but rounding.
_WITHOUT_GRADIENT = "attention.key.bias"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Taken:
    """One update.

    Args:
        loss: Nats per hidden token.
        gradients: Name -> gradient before it is clipped.
        changes: Name -> what was added to the weight.
    """

    loss: float
    gradients: Tensors
    changes: Tensors


@dataclass(frozen=True)
class Comparison:
    """How far two updates are from each other.

    Args:
        step: Updates before it.
        pair: Of what.
        losses: Both losses.
        gradient: Length of the difference of the gradients, by that of the second.
        worst: The same of the tensor where it is greatest.
        worst_name: Which.
        change: As `gradient`, of what the update adds to the weights.
        norm: Length of the second gradient.
    """

    step: int
    pair: str
    losses: tuple[float, float]
    gradient: float
    worst: float
    worst_name: str
    change: float
    norm: float


class SameUpdatesTraining(HuggingFaceMaskedTraining):
    """Our training in bf16, looked at from both sides at some of its updates."""

    def __init__(self, files: Files, **sizes: Any) -> None:
        super().__init__(files, precision="fp32", attention="sdpa", sampling="random", **sizes)

    def compare(self, *, steps: Sequence[int], rate: float, warm_up: int) -> list[Comparison]:
        """Train on our side; at each of these updates take the next one in all four ways."""
        model = self.without_dropout()
        trainer = self.our_trainer(model, rate=rate, warm_up=warm_up, precision="bf16")
        found = []
        for step in sorted(steps):
            while trainer.state.step < step:
                trainer.take_step()
            taken = {}
            for precision in PRECISIONS:
                taken[f"ours {precision}"] = self._ours(trainer, precision)
                taken[f"theirs {precision}"] = self._theirs(trainer, precision, rate, warm_up)
            pairs = [(f"ours {precision}", f"theirs {precision}") for precision in PRECISIONS]
            pairs += [(f"{side} bf16", f"{side} fp32") for side in ("ours", "theirs")]
            found += [_compare(step, pair, taken) for pair in pairs]
        return found

    def _ours(self, trainer: Trainer, precision: str) -> Taken:
        """Take our next update, and take it back."""
        kept = copy.deepcopy(
            (trainer.modules.state_dict(), trainer.optimizer.state_dict(), trainer.state)
        )
        usual = trainer.precision
        before = _weights(trainer.model)
        trainer.precision = precision
        indices = trainer.plan_of(trainer.state.epoch)[trainer.state.step_in_epoch]
        losses = trainer._accumulate(trainer.micro_batches(indices), indices)
        gradients = {
            name: value.grad.clone()
            for name, value in trainer.model.body.named_parameters()
            if value.grad is not None
        }
        trainer.optimizer.zero_grad()
        trainer.take_step()
        changes = _changes(before, _weights(trainer.model))
        trainer.modules.load_state_dict(kept[0])
        trainer.optimizer.load_state_dict(kept[1])
        trainer.state, trainer.precision = kept[2], usual
        return Taken(losses["masked_lm"], gradients, changes)

    def _theirs(self, trainer: Trainer, precision: str, rate: float, warm_up: int) -> Taken:
        """Let their Trainer take the same update from the same weights and moments."""
        self.precision = precision
        batch = as_theirs(next_batch(trainer))
        with tempfile.TemporaryDirectory(dir=self.files.work) as name:
            folder = Path(name)
            trainer.model.save(folder / "weights")
            settings = {"rate": rate, "warm_up": warm_up, "first_step": trainer.state.step}
            theirs = self._make_trainer([batch], first=folder / "weights", **settings)
            theirs.create_optimizer()
            if trainer.state.step:
                self._hand_over_moments(trainer, theirs, folder)
        before = _weights(self.as_ours(theirs.model))
        gradients: dict[str, Tensor] = {}

        def look() -> None:
            # A gradient has the names and shapes of the weights: read as a network.
            network = copy.deepcopy(theirs.model)
            for mine, other in zip(network.parameters(), theirs.model.parameters(), strict=True):
                mine.data = torch.zeros_like(other) if other.grad is None else other.grad.clone()
            gradients.update(_weights(self.as_ours(network)))

        theirs.after_backward = look
        self.trainer = theirs
        self._run(lambda step: step >= 1)
        changes = _changes(before, _weights(self.as_ours(theirs.model)))
        return Taken(theirs.losses[0], gradients, changes)

    def _hand_over_moments(self, trainer: Trainer, theirs: Any, folder: Path) -> None:
        """Give their optimizer the moments of ours, which are read as a network too."""
        for key in ("exp_avg", "exp_avg_sq"):
            model = copy.deepcopy(trainer.model)
            ours = dict(trainer.model.body.named_parameters())
            for name, parameter in model.body.named_parameters():
                parameter.data = trainer.optimizer.state[ours[name]][key].clone()
            model.save(folder / key)
            read = type(theirs.model).from_pretrained(folder / key)
            names = dict(theirs.model.named_parameters())
            for name, moment in read.named_parameters():
                state = theirs.optimizer.state[names[name]]
                state[key] = moment.detach().clone()
                state["step"] = torch.tensor(float(trainer.state.step))


def _weights(model: Model) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.body.named_parameters()}


def _changes(before: Tensors, after: Tensors) -> Tensors:
    return {name: after[name] - value for name, value in before.items()}


def _compare(step: int, pair: tuple[str, str], taken: Mapping[str, Taken]) -> Comparison:
    ours, theirs = (taken[name] for name in pair)
    if ours.gradients.keys() != theirs.gradients.keys():
        raise ValueError(f"gradients of {ours.gradients.keys() ^ theirs.gradients.keys()}")
    compared = [name for name in theirs.gradients if not name.endswith(_WITHOUT_GRADIENT)]
    each = {name: _distance(ours.gradients, theirs.gradients, [name]) for name in compared}
    worst = max(compared, key=lambda name: each[name])
    return Comparison(
        step=step,
        pair=" / ".join(pair),
        losses=(ours.loss, theirs.loss),
        gradient=_distance(ours.gradients, theirs.gradients, compared),
        worst=each[worst],
        worst_name=worst,
        change=_distance(ours.changes, theirs.changes, compared),
        norm=_length(theirs.gradients, compared),
    )


def _distance(ours: Tensors, theirs: Tensors, names: Sequence[str]) -> float:
    difference = {name: ours[name] - theirs[name] for name in names}
    return _length(difference, names) / max(_length(theirs, names), 1e-30)


def _length(values: Tensors, names: Sequence[str]) -> float:
    return float(torch.stack([values[name].double().square().sum() for name in names]).sum().sqrt())
