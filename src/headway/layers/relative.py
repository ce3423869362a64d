"""How far a token is from another, as a number that attention adds to its scores."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.sight import Sight


def relative_buckets(
    distances: Tensor, *, num_buckets: int, max_distance: int, both_ways: bool
) -> Tensor:
    """Sort distances into buckets: near ones one by one, far ones by their logarithm.

    Args:
        distances: (B, T, S) int64. Place of the key less that of the query.
        num_buckets: How many there are.
        max_distance: From here on all share the last bucket.
        both_ways: Tell what comes before from what comes after; else what comes after is as near
            as can be.
    Returns:
        buckets: (B, T, S) int64. From 0 to num_buckets - 1.
    Paper: Raffel et al. 2020 (arXiv 1910.10683), section 2.1, and the authors' code.
    """
    after = torch.zeros_like(distances)
    if both_ways:
        num_buckets //= 2
        after = (distances > 0).long() * num_buckets
        distances = distances.abs()
    else:
        distances = (-distances).clamp(min=0)
    near = num_buckets // 2
    ratio = (distances.clamp(min=1).float() / near).log() / math.log(max_distance / near)
    far = (near + (ratio * (num_buckets - near)).long()).clamp(max=num_buckets - 1)
    return after + torch.where(distances < near, distances, far)


class RelativeBias(nn.Embedding):
    """Give every head a number for every distance, to be added to its scores.

    Args:
        num_heads: Heads H.
        num_buckets: Buckets that distances are sorted into.
        max_distance: From here on all share the last bucket.
        both_ways: Tell what comes before from what comes after.
    Paper: Raffel et al. 2020 (arXiv 1910.10683), section 2.1.
    """

    def __init__(
        self, num_heads: int, *, num_buckets: int, max_distance: int, both_ways: bool
    ) -> None:
        super().__init__(num_buckets, num_heads)
        self.sort = partial(
            relative_buckets,
            num_buckets=num_buckets,
            max_distance=max_distance,
            both_ways=both_ways,
        )

    def forward(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """Look up the numbers for all distances between two rows of places.

        Args:
            query_positions: (B, T) int64.
            key_positions: (B, S) int64.
        Returns:
            bias: (B, H, T, S) float.
        """
        distances = key_positions[:, None, :] - query_positions[:, :, None]  # (B, T, S)
        rows = len(distances)
        if rows > 1 and bool((distances == distances[:1]).all()):
            # Rows that are alike share one table.
            distances = distances[:1]
        bias = F.embedding(self.sort(distances), self.weight).permute(0, 3, 1, 2)
        return bias.expand(rows, -1, -1, -1)

    def see(self, query_positions: Tensor, key_positions: Tensor, allowed: Tensor | None) -> Sight:
        """Add the numbers to what is allowed.

        Args:
            query_positions: (B, T) int64.
            key_positions: (B, S) int64.
            allowed: As a `Sight` has it; bool where T and S are the same tokens.
        """
        bias = self(query_positions, key_positions)
        if allowed is not None and allowed.dtype == torch.bool:
            # Padding looks at itself: a softmax over nothing would look at everything.
            allowed = allowed | torch.eye(*allowed.shape[-2:], dtype=torch.bool, device=bias.device)
            bias = bias.masked_fill(~allowed, torch.finfo(bias.dtype).min)
        elif allowed is not None:
            bias = bias + allowed
        return Sight(query_positions, key_positions, bias)
