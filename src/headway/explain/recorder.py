"""Listen to the attention of a body while it runs, without changing what it computes.

    with record_attention(model.body) as record:
        memory = model.body.encode(batch.source)
        model.body.decode(batch.target, memory)
    record.maps_of(0).cross                             # (L, H, T, S)

A body that is not listened to carries no hook and does no extra work.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headway.layers.attention import ScaledDotProduct
from headway.layers.scoring import Attention


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMaps:
    """The weights of one row of a batch; None where the body has no attention of that kind.

    Args:
        encoder: (L, H, S, S) float32. Each source position over the source.
        decoder: (L, H, T, T) float32. Each target position over the target.
        cross: (L, H, T, S) float32. Each target position over the source.
    """

    encoder: np.ndarray | None = None
    decoder: np.ndarray | None = None
    cross: np.ndarray | None = None


@dataclass(frozen=True)
class AttentionRecord:
    """What was heard during one pass.

    Args:
        maps: Name of a module -> the weights of each of its calls: (B, H, T, S) float32 for
            multi-head attention, (B, T, S) float32 for the attention of a recurrent decoder.
    """

    maps: dict[str, list[Tensor]] = field(default_factory=dict)

    def maps_of(self, row: int) -> AttentionMaps:
        """Sort the weights of one row by what attends to what, layers in order.

        Args:
            row: Of the batch that went through the body, once.
        """
        kinds: dict[str, list[np.ndarray]] = {"encoder": [], "decoder": [], "cross": []}
        for name, calls in self.maps.items():
            kinds[_kind(name, calls[0])] += [heads.numpy() for heads in _layers(calls, row)]
        return AttentionMaps(**{kind: np.stack(maps) for kind, maps in kinds.items() if maps})


def _layers(calls: list[Tensor], row: int) -> list[Tensor]:
    """Give the (H, T, S) weights of each layer that a module stands for."""
    if calls[0].dim() == 3:
        # A recurrent decoder calls once for each step, or for all of them: the steps are rows.
        return [torch.cat([call[row] for call in calls])[None]]
    # A module that layers share is called once for each of them.
    return [call[row] for call in calls]


def _kind(name: str, weights: Tensor) -> str:
    """Tell from the canonical names of parameters what attends to what."""
    parts = name.split(".")
    if weights.dim() == 3 or "cross_attention" in parts:
        return "cross"
    return "decoder" if "decoder" in parts else "encoder"


def has_attention(body: nn.Module) -> bool:
    """Say whether a body has anything that can be recorded."""
    return any(isinstance(module, ScaledDotProduct | Attention) for module in body.modules())


@contextmanager
def record_attention(body: nn.Module) -> Iterator[AttentionRecord]:
    """Record the weights of every attention module of a body for as long as the block runs.

    Results, gradients and random numbers are those of a run without it; the hooks are gone when
    the block ends, also by an exception.

    Args:
        body: Any network, which reads whole texts: the steps of decoding are calls of their own,
            of other widths, which `maps_of` does not join.
    """
    record = AttentionRecord()

    def note(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        with torch.no_grad():
            weights = _weights(module, args, kwargs, output)
        record.maps.setdefault(name, []).append(weights.detach().float().cpu())

    with ExitStack() as hooks:
        for name, module in body.named_modules():
            if isinstance(module, ScaledDotProduct | Attention):
                hook = module.register_forward_hook(partial(note, name), with_kwargs=True)
                hooks.enter_context(hook)
        yield record


def _weights(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor:
    if not isinstance(module, ScaledDotProduct):
        return output[1]
    given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return module.weights(given["query"], given["key"], given["mask"])
