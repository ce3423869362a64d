"""The training loop: one optimizer update at a time, in an order that depends on integers only.

    trainer = Trainer(model, examples, options)
    while trainer.state.step < trainer.total_steps:
        update = trainer.take_step()

`train/run.py` adds evaluation, checkpoints and a run directory around it.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headway.data.batch import Batch, pack_rows, pad_rows
from headway.data.order import generator, plan_epoch, split_micro_batches
from headway.errors import DataError, TrainError
from headway.layers.packed import has_fast_bf16
from headway.sections import PLAIN, Playbook, Training
from headway.tasks._model import Model
from headway.tasks._task import Draw, Encoded
from headway.train.average import WeightAverage
from headway.train.features import Features
from headway.train.freezing import Freezer, Phase, freeze_by_name, plan_phases
from headway.train.groups import clip_in_step, make_groups, make_optimizer
from headway.train.guard import Interrupted
from headway.train.schedules import learning_rate
from headway.train.state import TrainState, load_checkpoint, read_average, save_checkpoint


@dataclass(frozen=True)
class Update:
    """What one optimizer update did.

    Args:
        losses: Name -> mean over the targets of the step.
        num_tokens: Real tokens seen.
        seconds: Time it took.
        learning_rate: Rate used.
        grad_norm: Length of the gradient before clipping.
    """

    losses: dict[str, float]
    num_tokens: int
    seconds: float
    learning_rate: float
    grad_norm: float


class StepDropped(Exception):
    """A signal came so long ago that the running step is given up; nothing was changed."""


def modules_of(model: Model) -> nn.ModuleDict:
    """Give body and head as one module, with the names that checkpoints have."""
    modules = nn.ModuleDict({"body": model.body})
    if model.head is not None:
        modules["head"] = model.head
    return modules


def resolve_precision(precision: str, device: torch.device) -> str:
    """Spell "auto" out: bf16 where the hardware multiplies it."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" or has_fast_bf16() else "fp32"


class Trainer:
    """Takes optimizer steps over encoded examples.

    Args:
        model: Trained in place.
        examples: From the model's task.
        options: The recipe's training section.
        playbook: The recipe's playbook section.
        work_dir: For large things that a run needs for a while; None: the system's folder.
        rates: Learning rate of each update, in place of the recipe's schedule.
        must_drop: Asked between micro-batches; True gives the step up.
    Raises:
        DataError: if there is nothing to train on.
        ConfigError: if the playbook does not fit the model or the length of the run.
    """

    def __init__(
        self,
        model: Model,
        examples: Encoded,
        options: Training,
        *,
        playbook: Playbook = PLAIN,
        work_dir: Path | None = None,
        rates: Callable[[int], float] | None = None,
        must_drop: Callable[[], bool] = lambda: False,
    ) -> None:
        if not examples.examples:
            raise DataError("there is no training example")
        self.model, self.options, self.playbook = model, options, playbook
        self.source, self.examples = examples, examples
        self.modules = modules_of(model)
        self.device = next(model.body.parameters()).device
        self.precision = resolve_precision(options.precision, self.device)
        freeze_by_name(self.modules, playbook.freeze)
        self.groups = make_groups(self.modules, options, playbook)
        self.optimizer = make_optimizer(self.modules, self.groups, options)
        self.state = TrainState()
        self._weights: dict[str, float] = {}
        self._must_drop, self._work_dir = must_drop, work_dir
        self._rate_at = rates or (
            lambda step: learning_rate(step, self.total_steps, options, playbook)
        )
        self._plan: list[np.ndarray] = []
        self._planned_epoch = -1
        self.total_steps = options.steps or self._count_steps(options.epochs)
        self.steps_per_epoch = len(self.plan_of(0))
        phases = plan_phases(
            self.modules,
            playbook,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
        )
        self.freezer = Freezer(self.modules, phases)
        self._features: Features | None = None
        self._depth = 0
        self.average = WeightAverage(self.modules, playbook, total_steps=self.total_steps)

    @property
    def epoch(self) -> float:
        """Passes over the examples so far."""
        state = self.state
        part = state.step_in_epoch / len(self.plan_of(state.epoch)) if state.step_in_epoch else 0
        return state.epoch + part

    def _count_steps(self, epochs: float) -> int:
        """Count the updates of so many passes; the first ones may be cut otherwise."""
        whole, last = int(epochs), self.source.alike_from
        sizes = {e: len(self.plan_of(e)) for e in range(min(whole, last) + 1)}
        count = sum(sizes[min(epoch, last)] for epoch in range(whole))
        return max(1, round(count + (epochs - whole) * sizes[min(whole, last)]))

    def plan_of(self, epoch: int) -> list[np.ndarray]:
        """Give the examples of every update of a pass, by their places in `examples`."""
        if epoch != self._planned_epoch:
            self.examples = self.source.at(epoch)
            self._plan = plan_epoch(
                self.examples.lengths,
                seed=self.options.seed,
                epoch=epoch,
                batch_tokens=self.options.batch_tokens,
                batch_rows=self.options.batch_rows,
                by_length=self.options.layout == "sorted",
            )
            self._planned_epoch = epoch
        return self._plan

    def micro_batches(self, indices: np.ndarray) -> list[Batch]:
        """Lay the examples of a step out in forward passes of bounded size."""
        budget, lengths = self.options.micro_batch_tokens, self.examples.lengths
        batches = []
        for part in split_micro_batches(indices, lengths, micro_batch_tokens=budget):
            chosen = [self.examples.examples[index] for index in part]
            if self.options.layout == "packed":
                rows = pack_rows(chosen, row_tokens=max(self.examples.limits.values()))
            else:
                rows = pad_rows(chosen)
            draw = Draw(self.options.seed, self.state.epoch)
            batch = self.model.task.collate(rows, self.model.setting, draw).to(self.device)
            if self._features is not None:
                batch = self._features.attach(batch, self._depth)
            batches.append(batch)
        return batches

    def take_step(self) -> Update:
        """Do the next update of the run.

        Raises:
            TrainError: for a loss or gradient that is not finite; nothing is changed then.
            StepDropped: if `must_drop` asked for it; nothing is changed then.
        """
        started = time.perf_counter()
        state, options = self.state, self.options
        plan = self.plan_of(state.epoch)
        indices = plan[state.step_in_epoch]
        if self.freezer.enter(state.step):
            self._keep_features()
        batches = self.micro_batches(indices)
        torch.manual_seed(int(generator(options.seed, state.step, 1).integers(1 << 62)))
        try:
            losses = self._accumulate(batches, indices)
            norm = self._gradient_norm(indices)
        except BaseException:
            self.optimizer.zero_grad()
            raise
        rate = self._rate_at(state.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_ratio"]
        clip_in_step(self.optimizer, norm, options.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        num_tokens = sum(batch.num_tokens for batch in batches)
        seconds = time.perf_counter() - started
        state.step += 1
        state.step_in_epoch += 1
        state.tokens += num_tokens
        state.seconds += seconds
        if state.step_in_epoch >= len(plan):
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
        self.average.update(state.step)
        state.averaged_weights = self.average.count
        state.averaged_from = self.average.first_step
        return Update(losses, num_tokens, seconds, rate, norm)

    @property
    def is_settled(self) -> bool:
        """Say whether all stages learn and the mean of the weights, if any, has begun."""
        has_mean = self.average.count > 0 or not self.average.is_wanted
        return has_mean and self.state.step > self.freezer.phases[-1].first_step

    def save(self, folder: Path) -> Path:
        """Write a checkpoint, as `save_checkpoint` does."""
        average = self.average.weights
        return save_checkpoint(folder, self.modules, self.optimizer, self.state, average=average)

    def total(self, losses: Mapping[str, float]) -> float:
        """Add up the mean losses of updates, each with its factor in the objective."""
        return sum(self._weights.get(name, 1.0) * value for name, value in losses.items())

    def restore(self, path: Path) -> bool:
        """Go on from a checkpoint; say whether its mean of the weights goes on too."""
        self.state = load_checkpoint(path, self.modules, self.optimizer)
        state, weights = self.state, read_average(path)
        return self.average.restore(weights, state.averaged_weights, state.averaged_from)

    def _keep_features(self) -> None:
        """Compute what frozen layers give, where it is the same in every pass and pays."""
        is_fixed = self.source.plan is None and not self.model.task.reads_corpus
        depths = [self._depth_of(phase) for phase in self.freezer.phases]
        self._depth = self._depth_of(self.freezer.phase_at(self.state.step))
        thaws = [phase.first_step for phase in self.freezer.phases if not self._depth_of(phase)]
        # One pass of frozen layers is what computing them for all examples costs.
        is_worth_it = min(thaws, default=self.total_steps) > self.steps_per_epoch
        if not (self._depth and is_fixed and is_worth_it and self.playbook.cache_megabytes):
            self._features, self._depth = None, 0
        elif self._features is not None:
            self._features.drop_above(self._depth)
        else:
            try:
                self._features = Features(
                    self.model,
                    self.source,
                    sorted({depth for depth in depths if 0 < depth <= self._depth}),
                    precision=self.precision,
                    budget_bytes=self.playbook.cache_megabytes * 1_000_000,
                    folder=self._work_dir,
                    stopping=self._must_drop,
                )
            except Interrupted:
                raise StepDropped from None
            self.freezer.restore_modes()

    def _depth_of(self, phase: Phase) -> int:
        """Say how many layers can be left out in a phase."""
        body = self.model.body
        if not hasattr(body, "depth_of"):
            return 0
        return body.depth_of(phase.num_frozen_stages) or 0

    def _accumulate(self, batches: Sequence[Batch], indices: np.ndarray) -> dict[str, float]:
        """Add up gradients; each loss is divided by its own count over the whole step."""
        counts: defaultdict[str, float] = defaultdict(float)
        for batch in batches:
            for name, count in self.model.task.counts(batch).items():
                counts[name] += count
        totals = dict.fromkeys(counts, 0.0)
        for batch in batches:
            if self._must_drop():
                raise StepDropped
            with torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16"):
                losses = self.model.task.losses(self.model.body, self.model.head, batch)
            terms = [loss.weight * loss.total / max(counts[loss.name], 1e-9) for loss in losses]
            objective = torch.stack(terms).sum()
            if not math.isfinite(objective.item()):
                raise self._not_finite("loss", objective.item(), batch.indices)
            objective.backward()
            for loss in losses:
                shown = loss.total if loss.reported is None else loss.reported
                totals[loss.name] += float(shown.detach())
                self._weights[loss.name] = loss.weight
        return {name: totals[name] / max(counts[name], 1e-9) for name in totals}

    def _gradient_norm(self, indices: np.ndarray) -> float:
        """Look at the gradient's length before it could spread one NaN to every weight."""
        gradients = [p.grad for p in self.modules.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            raise self._not_finite("gradient", norm, indices.tolist())
        return norm

    def _not_finite(self, what: str, value: float, indices: Sequence[int]) -> TrainError:
        rows = ", ".join(str(index + 1) for index in indices[:8])
        more = f" and {len(indices) - 8} more" if len(indices) > 8 else ""
        return TrainError(
            f"the {what} is {value} at step {self.state.step + 1}, examples {rows}{more}; nothing "
            "was updated or saved from this step",
            hint="lower training.peak-lr, or look at these rows",
        )
