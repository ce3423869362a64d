"""Which parameters learn when: parts frozen by name, and stages thawed from the top down.

Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification" (arXiv
1801.06146), section 3.3: the top learns first, then one layer more at a time, the embeddings last.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import nn

from headway.errors import ConfigError, nearest
from headway.names import part_of
from headway.sections import Playbook
from headway.train.groups import find_stages, own_name


@dataclass(frozen=True)
class Phase:
    """A stretch of a run in which the same parameters learn.

    Args:
        first_step: Updates before it.
        frozen: Names of the parameters that do not learn.
        num_frozen_stages: Lowest stages of which nothing learns.
    """

    first_step: int
    frozen: frozenset[str]
    num_frozen_stages: int


def freeze_by_name(modules: nn.ModuleDict, patterns: tuple[str, ...]) -> None:
    """Freeze the parameters that playbook.freeze names, for the whole run.

    Raises:
        ConfigError: for a name that nothing has, or if nothing is left to learn.
    """
    parameters = {own_name(name): value for name, value in modules.named_parameters()}
    known = sorted({name.rsplit(".", count)[0] for name in parameters for count in range(4)})
    for pattern in patterns:
        chosen = [value for name, value in parameters.items() if part_of(name, pattern)]
        if not chosen:
            raise ConfigError(
                f"playbook.freeze: the model has no part {pattern!r}", hint=nearest(pattern, known)
            )
        for parameter in chosen:
            parameter.requires_grad_(False)
    if patterns and not any(value.requires_grad for value in parameters.values()):
        raise ConfigError("playbook.freeze leaves nothing to learn")


def plan_phases(
    modules: nn.ModuleDict, playbook: Playbook, *, steps_per_epoch: int, total_steps: int
) -> list[Phase]:
    """Divide a run into phases; without unfreezing it is one.

    Args:
        modules: Body and head, of which parts may be frozen for good.
        playbook: The recipe's section.
        steps_per_epoch: Updates of a pass.
        total_steps: Updates of the run.
    Raises:
        ConfigError: if the run ends before the last phase begins.
    """
    *stages, _ = find_stages(modules)
    trained = {name for name, value in modules.named_parameters() if value.requires_grad}

    def phase(first_step: int, frozen: set[str]) -> Phase:
        learning = trained - frozen
        below = itertools.takewhile(lambda stage: not learning & set(stage.parameters), stages)
        return Phase(first_step, frozenset(frozen), len(list(below)))

    passes = [max(1, round(epochs * steps_per_epoch)) for epochs in playbook.unfreeze_epochs]
    lengths = playbook.unfreeze_steps or passes
    if not lengths:
        return [phase(0, set())]
    waiting = [stage for stage in stages if trained & set(stage.parameters)]
    if not waiting:
        raise ConfigError("there is nothing to unfreeze: no stage below the head learns")
    phases, first_step = [], 0
    for number in range(math.ceil(len(waiting) / playbook.unfreeze_stages) + 1):
        still = waiting[: max(0, len(waiting) - number * playbook.unfreeze_stages)]
        frozen = {name for stage in still for name in stage.parameters} & trained
        if first_step >= total_steps:
            names = ", ".join(stage.name for stage in waiting[: playbook.unfreeze_stages])
            raise ConfigError(
                f"unfreezing is longer than the run: after its {total_steps} updates {names} "
                "would not have learned yet",
                hint="train longer, shorten playbook.unfreeze-epochs or unfreeze-steps, raise "
                "playbook.unfreeze-stages, or freeze parts for good with playbook.freeze",
            )
        if not trained - frozen:
            raise ConfigError(
                "unfreezing begins with a phase in which nothing learns: playbook.freeze holds all "
                "that is above the layers",
                hint="freeze less for good, or leave unfreezing out",
            )
        phases.append(phase(first_step, frozen))
        first_step += lengths[min(number, len(lengths) - 1)]
    return phases


class Freezer:
    """Lets the parameters of each phase learn, and no others.

    Frozen parts are left out of the backward pass and of dropout: they give the same every time.

    Args:
        modules: Changed in place.
        phases: In order.
    """

    def __init__(self, modules: nn.ModuleDict, phases: list[Phase]) -> None:
        self.modules, self.phases = modules, phases
        self._trained = [(n, p) for n, p in modules.named_parameters() if p.requires_grad]
        self._still: list[nn.Module] = []
        self._current: Phase | None = None
        self._probe: nn.Module = modules

    def phase_at(self, step: int) -> Phase:
        """Give the phase that an update belongs to."""
        return [phase for phase in self.phases if phase.first_step <= step][-1]

    def enter(self, step: int) -> bool:
        """Prepare for an update; say whether another phase begins with it."""
        phase = self.phase_at(step)
        is_new = phase is not self._current
        if is_new:
            self._current = phase
            for name, parameter in self._trained:
                parameter.requires_grad_(name not in phase.frozen)
            self._still = _find_still(self.modules)
            self._probe = next(filter(_learns_itself, self.modules.modules()))
        # Evaluations switch dropout off; otherwise all is as the update before left it.
        if is_new or not self._probe.training:
            self.restore_modes()
        return is_new

    def restore_modes(self) -> None:
        """Let what learns drop out, and nothing else."""
        self.modules.train()
        for module in self._still:
            module.eval()


def _learns_itself(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _find_still(modules: nn.ModuleDict) -> list[nn.Module]:
    """List the modules of stages in which nothing learns: they give the same every time.

    Within a stage of which something learns, such as adapters beside frozen layers, all drops out.
    """
    parameters = dict(modules.named_parameters())
    asleep: set[str] = set()
    for stage in find_stages(modules):
        if not any(parameters[name].requires_grad for name in stage.parameters):
            asleep |= set(stage.parameters)
    found = []
    for prefix, module in modules.named_modules():
        own = [name for name in parameters if name.startswith(f"{prefix}.")]
        if own and asleep.issuperset(own):
            found.append(module)
    return found
