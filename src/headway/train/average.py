"""Averages of weights over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from headway.sections import Playbook
from headway.train.state import read_weights

# Weights that enter the mean of stochastic weight averaging, where no interval is given. The paper
# takes one an epoch; a fine-tuning has three.
_NUM_AVERAGED = 20


def average_checkpoints(paths: Sequence[Path], modules: nn.Module) -> None:
    """Put the mean of several checkpoints' weights into body and head.

    Args:
        paths: Checkpoint folders, at least one.
        modules: Body and head; changed in place.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 6.1.
    """
    sums: dict[str, Tensor] = {}
    for path in paths:
        for name, value in read_weights(path / "model.safetensors").items():
            sums[name] = sums[name] + value.double() if name in sums else value.double()
    means = {name: total / len(paths) for name, total in sums.items()}
    _copy(means, dict(modules.named_parameters()))


class WeightAverage:
    """A mean of the weights that goes along with training.

    Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407, algorithm 1): from a share
    of the run on, every so many updates, all weights count the same. Exponential averaging: after
    every update; in the beginning the mean keeps less, so that the first weights are soon gone.

    Args:
        modules: Body and head.
        playbook: The recipe's section; without swa_start and ema_decay there never is a mean.
        total_steps: Updates of the run.
    """

    def __init__(self, modules: nn.Module, playbook: Playbook, *, total_steps: int) -> None:
        self._modules, self._decay = modules, playbook.ema_decay
        self.is_wanted = playbook.swa_start is not None or self._decay is not None
        self.first_step = 0
        if self.is_wanted:
            self.first_step = max(1, round((playbook.swa_start or 0) * total_steps))
        self._every = playbook.swa_steps or max(1, (total_steps - self.first_step) // _NUM_AVERAGED)
        self._last = total_steps
        self.count = 0
        self.weights: dict[str, Tensor] = {}

    def update(self, step: int) -> None:
        """Take the weights in, if a mean is wanted and it is time.

        Args:
            step: Updates done.
        """
        if not self.is_wanted or (self._decay is None and not self._is_due(step)):
            return
        values = {name: value.detach() for name, value in self._modules.named_parameters()}
        share = 1 / (self.count + 1)
        if self._decay is not None:
            share = max(1 - self._decay, 9 / (10 + self.count))
        for name, value in values.items():
            if self.count:
                self.weights[name].lerp_(value, share)
            else:
                self.weights[name] = value.clone()
        self.count += 1

    def _is_due(self, step: int) -> bool:
        since = step - self.first_step
        return since > 0 and (since % self._every == 0 or step == self._last)

    def restore(self, weights: Mapping[str, Tensor], count: int, first_step: int) -> bool:
        """Go on from what a checkpoint kept.

        Args:
            weights: The mean.
            count: Weights in it.
            first_step: Step after which they entered it.
        Returns:
            is_kept: False where the run has become longer since, so that its mean begins later:
                then it begins anew.
        """
        if self._decay is None and count and first_step != self.first_step:
            return False
        self.weights, self.count = dict(weights), count
        return True

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean in place of the weights while the block runs, once there is one."""
        if not self.count:
            yield
            return
        parameters = dict(self._modules.named_parameters())
        before = {name: value.detach().clone() for name, value in parameters.items()}
        try:
            _copy(self.weights, parameters)
            yield
        finally:
            _copy(before, parameters)


def _copy(values: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
