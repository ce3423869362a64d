"""Parameter groups and the optimizer: matrices decay, biases and norms do not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from headway.recipe import Training


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


def make_groups(modules: nn.Module, options: Training) -> list[Group]:
    """Divide the trained parameters into those that decay and those that do not."""
    trained = {name: value for name, value in modules.named_parameters() if value.requires_grad}
    matrices = tuple(name for name, value in trained.items() if value.dim() > 1)
    others = tuple(name for name, value in trained.items() if value.dim() <= 1)
    groups = [
        Group("matrices", matrices, options.weight_decay),
        Group("biases and norms", others, 0.0),
    ]
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
