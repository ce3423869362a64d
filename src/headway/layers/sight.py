"""What tokens may look at, in whole texts or step by step, and what their places do to that."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from headway.layers.positions import Rotation


@dataclass(frozen=True)
class Sight:
    """What each token may look at, the same for all layers of a model.

    Args:
        query_positions: (B, T) int64. Place of each token in its document.
        key_positions: (B, S) int64. Likewise, of what it looks at.
        allowed: (B, 1, T, S) bool, True where attention is allowed; or float, 0 there and -inf
            elsewhere. None allows everything.
        rotation: Turns queries and keys, where the architecture does.
        slopes: (H) float32. How fast attention falls off with distance, where it does.
    """

    query_positions: Tensor
    key_positions: Tensor
    allowed: Tensor | None
    rotation: Rotation | None = None
    slopes: Tensor | None = None
    _masks: dict[int, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int) -> Tensor | None:
        """Give what `ScaledDotProduct` takes, for layers that look back `window` tokens; 0: all."""
        if window not in self._masks:
            self._masks[window] = self._add_slopes(self._narrow(window))
        return self._masks[window]

    def _narrow(self, window: int) -> Tensor | None:
        if not window:
            return self.allowed
        distance = self.query_positions[:, :, None] - self.key_positions[:, None, :]
        near = (distance < window)[:, None]  # (B, T, S) -> (B, 1, T, S)
        if self.allowed is None or self.allowed.dtype == torch.bool:
            return near if self.allowed is None else self.allowed & near
        return self.allowed.masked_fill(~near, -torch.inf)

    def _add_slopes(self, mask: Tensor | None) -> Tensor | None:
        if self.slopes is None:
            return mask
        # Softmax does not see what all keys of a query share: their own place will do.
        bias = self.slopes[:, None, None] * self.key_positions[:, None, None]  # (B, H, 1, S)
        if mask is None:
            return bias
        if mask.dtype == torch.bool:
            return bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
        return bias + mask
