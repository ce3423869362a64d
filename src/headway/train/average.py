"""Averages of weights over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from headway.train.state import read_weights


def average_checkpoints(paths: Sequence[Path], modules: nn.Module) -> None:
    """Put the mean of several checkpoints' weights into body and head.

    Args:
        paths: Checkpoint folders, at least one.
        modules: Body and head; changed in place.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 6.1.
    """
    sums: dict[str, torch.Tensor] = {}
    for path in paths:
        for name, value in read_weights(path / "model.safetensors").items():
            sums[name] = sums[name] + value.double() if name in sums else value.double()
    with torch.no_grad():
        for name, parameter in modules.named_parameters():
            parameter.copy_((sums[name] / len(paths)).to(parameter.dtype))
