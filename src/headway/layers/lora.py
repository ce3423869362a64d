"""Low-rank adapters: linear layers that learn a small matrix product beside a frozen matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoraLinear(nn.Linear):
    """Add a product of two thin matrices to a linear layer: W x + b + alpha / r * up down x.

    The layer's own matrix and bias stay as they are; `up` begins as zero, so that nothing changes
    before something is learned.

    Args:
        linear: The layer; its parameters are shared.
        rank: Width r of the product.
        alpha: Its scale is alpha / r.
    Paper: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685),
        section 4.1.
    """

    def __init__(self, linear: nn.Linear, *, rank: int, alpha: float) -> None:
        has_bias = linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, bias=has_bias, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        like = linear.weight
        self.lora_down = nn.Parameter(like.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(like.new_zeros(linear.out_features, rank))
        # The authors' code.
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., F) float."""
        change = F.linear(F.linear(hidden, self.lora_down), self.lora_up)
        return super().forward(hidden) + self.scale * change

    def merged(self) -> nn.Linear:
        """Give a plain layer that computes the same."""
        plain = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        with torch.no_grad():
            change = self.scale * (self.lora_up @ self.lora_down)
            plain.weight = nn.Parameter(self.weight + change, requires_grad=False)
        plain.bias = self.bias
        return plain


def replace_layer(body: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of one."""
    parent, _, leaf = name.rpartition(".")
    setattr(body.get_submodule(parent), leaf, layer)


def can_adapt(name: str, layer: nn.Module | None) -> bool:
    """Say whether a layer of a body can have an adapter: losses read output layers' own weights."""
    outside = name == "output" or name.startswith("masked_lm.")
    return isinstance(layer, nn.Linear) and not isinstance(layer, LoraLinear) and not outside


def add_lora(body: nn.Module, targets: Sequence[str], *, rank: int, alpha: float) -> list[str]:
    """Give adapters to the linear layers whose names end so, and freeze all else.

    Args:
        body: Changed in place.
        targets: Last words of names, such as "query" or "attention.output".
        rank: Width r of each product.
        alpha: Their scale is alpha / r.
    Returns:
        names: Of the layers.
    """
    body.requires_grad_(False)
    ends = tuple(f".{target}" for target in targets)
    names = [
        name
        for name, layer in body.named_modules()
        if can_adapt(name, layer) and f".{name}".endswith(ends)
    ]
    for name in names:
        linear = body.get_submodule(name)
        replace_layer(body, name, LoraLinear(linear, rank=rank, alpha=alpha))  # pyright: ignore
    return names


def merge_lora(body: nn.Module) -> None:
    """Make plain layers of all that have adapters, in place."""
    for name, layer in list(body.named_modules()):
        if isinstance(layer, LoraLinear):
            replace_layer(body, name, layer.merged())
