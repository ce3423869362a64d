"""Parameter groups and the optimizer: which weights decay, and how fast each stage learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from headway.errors import ConfigError
from headway.names import part_of
from headway.sections import PLAIN, Playbook, Training


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate and a decay.

    Args:
        name: As `headway inspect` prints it.
        parameters: Names, in the order of the model.
        weight_decay: Decay of the group.
        lr_ratio: Share of the schedule's rate.
    """

    name: str
    parameters: tuple[str, ...]
    weight_decay: float
    lr_ratio: float = 1.0


@dataclass(frozen=True)
class Stage:
    """A part of a model that can be frozen or slowed down by itself.

    Args:
        name: "embeddings", "encoder.layers.3"; "top" for the head and all that no stage has.
        parameters: Names, in the order of the model.
    """

    name: str
    parameters: tuple[str, ...]


def own_name(name: str) -> str:
    """Give a parameter the name that users know: the body's parts are named without "body."."""
    return name.removeprefix("body.")


def find_stages(modules: nn.ModuleDict) -> list[Stage]:
    """List the stages of a model from the input up; the last one is the top.

    Args:
        modules: With "body", which lists its stages, and perhaps "head".
    """
    names = [name for name, _ in modules.named_parameters()]
    found: dict[str, list[str]] = {}
    for pattern in getattr(modules["body"], "stages", ()):
        for name in names:
            part = part_of(own_name(name), pattern)
            if part is not None and not name.startswith("head."):
                found.setdefault(part, []).append(name)
    covered = {name for part in found.values() for name in part}
    found["top"] = [name for name in names if name not in covered]
    return [Stage(name, tuple(parameters)) for name, parameters in found.items()]


def rate_ratios(stages: Sequence[Stage], playbook: Playbook) -> list[float]:
    """Give each stage's share of the learning rate, that of the top, which is 1, last.

    Papers: Howard and Ruder 2018 (arXiv 1801.06146), section 3.2; Clark et al. 2020
        (arXiv 2003.10555), appendix B, for one factor from the top down.
    """
    count, rates = len(stages) - 1, playbook.stage_rates
    if len(rates) > max(1, count):
        raise ConfigError(
            f"playbook.stage-rates has {len(rates)} numbers, but the model has {count} stages "
            f"below its head"
        )
    if rates:
        return [*(rates[number * len(rates) // count] for number in range(count)), 1.0]
    return [playbook.layer_decay ** (count - number) for number in range(count + 1)]


def make_groups(
    modules: nn.ModuleDict, options: Training, playbook: Playbook = PLAIN
) -> list[Group]:
    """Divide the trained parameters by their stage's rate, and by whether they decay.

    Matrices decay, biases and norms do not.
    """
    parameters = dict(modules.named_parameters())
    stages = find_stages(modules)
    ratios = rate_ratios(stages, playbook)
    if all(ratio == 1 for ratio in ratios):
        stages, ratios = [Stage("", tuple(parameters))], [1.0]
    groups = []
    for stage, ratio in zip(stages, ratios, strict=True):
        trained = [name for name in stage.parameters if parameters[name].requires_grad]
        prefix = f"{stage.name}: " if stage.name else ""
        matrices = tuple(name for name in trained if parameters[name].dim() > 1)
        others = tuple(name for name in trained if parameters[name].dim() <= 1)
        groups.append(Group(prefix + "matrices", matrices, options.weight_decay, ratio))
        groups.append(Group(prefix + "biases and norms", others, 0.0, ratio))
    return [group for group in groups if group.parameters]


def make_optimizer(
    modules: nn.Module, groups: list[Group], options: Training
) -> torch.optim.Optimizer:
    """Build Adam or AdamW over groups, fused into one pass over the weights."""
    parameters = dict(modules.named_parameters())
    settings = [
        {
            "params": [parameters[name] for name in group.parameters],
            "weight_decay": group.weight_decay,
            "lr_ratio": group.lr_ratio,
        }
        for group in groups
    ]
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    # The rate is set before every update.
    return kind(settings, lr=0.0, betas=options.betas, eps=options.epsilon, fused=True)


def clip_in_step(optimizer: torch.optim.Optimizer, norm: float, longest: float) -> None:
    """Let the next update shorten a gradient that is too long.

    The fused update divides gradients by its `grad_scale` as it reads them; multiplying them
    before would go over all of them once more (a fiftieth of a step of BERT-base).

    Args:
        optimizer: From `make_optimizer`.
        norm: Length of the whole gradient.
        longest: Longest that is let through; 0 lets everything through.
    """
    # As in torch.nn.utils.clip_grads_with_norm_.
    scale = (norm + 1e-6) / longest if longest else 1.0
    optimizer.grad_scale = torch.tensor(scale) if scale > 1 else None  # pyright: ignore
