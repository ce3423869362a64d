"""Dropout whose masks cost little on a CPU."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _BytesDropout(torch.autograd.Function):
    """Zero elements by comparing random bytes with a threshold; saves one byte an element."""

    @staticmethod
    def forward(ctx, hidden: Tensor, cut: int) -> Tensor:
        # One draw from torch's generator seeds the mask, so torch.manual_seed governs it; the
        # bytes come from numpy, several times faster than torch's Bernoulli on a CPU.
        seed = int(torch.randint(1 << 62, ()))
        count = hidden.numel()
        noise = np.random.SFC64(seed).random_raw(-(-count // 8)).view(np.uint8)[:count]
        mask = torch.from_numpy(noise).view(hidden.shape).ge_(cut)
        ctx.save_for_backward(mask)
        ctx.scale = 256 / (256 - cut)
        return (hidden * mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        (mask,) = ctx.saved_tensors
        return (grad_outputs[0] * mask).mul_(ctx.scale), None


class Dropout(nn.Module):
    """Zero a share of the elements in training and scale up the rest.

    On a CPU the rate is rounded to 1/256, and the scale belongs to the rounded rate.

    Args:
        rate: Share, from 0 to below 1.
    Paper: Srivastava et al. 2014.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, hidden: Tensor) -> Tensor:
        """Map a float tensor of any shape to one of that shape."""
        if not self.training or self.rate == 0:
            return hidden
        if hidden.device.type != "cpu":
            return F.dropout(hidden, self.rate)
        cut = min(255, max(1, round(self.rate * 256)))
        return _BytesDropout.apply(hidden, cut)  # pyright: ignore[reportReturnType]
