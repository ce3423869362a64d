"""Multi-head scaled dot-product attention: to the own text, or to a source.

One code path serves whole texts, prompts and single steps. What a token may look at is a `Sight`;
a cache, where there is one, takes the new keys and values and gives all there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.cache import KeyValueCache
from headway.layers.sight import Sight

# Beyond this many keys the fused kernel's smaller memory counts for more than its slow gradient.
_LONGEST_FOR_PRODUCTS = 1024


def _prefers_products(query: Tensor, key: Tensor) -> bool:
    """Say whether plain products beat the fused kernel.

    On a CPU the fused kernel's gradient is slow: at 270 rows of 15 tokens in bfloat16 the plain
    products took 7 ms forward and backward, the fused kernel 50; at 16 rows of 256, 16 and 33.
    """
    if query.device.type != "cpu" or key.shape[-2] > _LONGEST_FOR_PRODUCTS:
        return False
    is_half = query.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    return is_half or query.requires_grad


class ScaledDotProduct(nn.Module):
    """Attend with softmax(query key^T / sqrt(K)) value, head by head.

    A module of its own so that a recorder can listen to it: it keeps nothing between calls.

    Args:
        query: (B, H, T, K) float.
        key: (B, H, S, K) float.
        value: (B, H, S, K) float.
        mask: (B, H, T, S) bool or float. True where allowed, or added to scores; an axis may be 1.
            None allows everything.
        scale: In place of 1 / sqrt(K).
    Returns:
        context: (B, H, T, K) float. All zero where a row allows nothing.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.1.
    """

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if _prefers_products(query, key):
            scores = query @ key.transpose(-1, -2) * (self.scale or query.shape[-1] ** -0.5)
            if mask is None:
                return scores.softmax(-1) @ value
            if mask.dtype != torch.bool:
                return (scores + mask).softmax(-1).to(value.dtype) @ value
            lowest = torch.finfo(scores.dtype).min
            weights = scores.masked_fill(~mask, lowest).softmax(-1)
            # A row that allows nothing came out even; padding is the one place that has such rows.
            return (weights @ value) * mask.any(-1, keepdim=True)
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=self.scale)

    def weights(self, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
        """Compute what `forward` never builds, for those who want to look at it.

        Args:
            query: (B, H, T, K) float.
            key: (B, H, S, K) float.
            mask: (B, H, T, S) bool or float. As for `forward`; an axis may be 1.
        Returns:
            weights: (B, H, T, S) float32. Sum to 1 over S; all zero where a row allows nothing.
        """
        scale = self.scale or 1 / math.sqrt(query.shape[-1])
        scores = query.float() @ key.float().transpose(-1, -2) * scale
        if mask is None:
            return scores.softmax(-1)
        if mask.dtype != torch.bool:
            return (scores + mask).softmax(-1)
        return scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)


def look_back(
    attend: ScaledDotProduct,
    heads: Sequence[Tensor],
    sight: Sight,
    cache: KeyValueCache | None,
    *,
    window: int = 0,
) -> Tensor:
    """Let queries gather from the tokens that they may look at.

    Args:
        attend: Weighs and sums.
        heads: Query (B, H, T, K), key and value, with fewer heads where several queries share one.
        sight: Says who may look where.
        cache: Takes the new keys and values, and gives those before them too.
        window: Tokens that can be looked back on, itself counted; 0: all.
    Returns:
        context: (B, T, D) float.
    """
    query, key, value = heads
    kind = query.dtype
    if sight.rotation is not None:
        query, key = sight.rotation.turn(query), sight.rotation.turn(key)
    if cache is not None:
        key, value = cache.append(key, value)
        query = query.to(key.dtype)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    context = attend(query, key, value, sight.mask(window))
    return context.transpose(1, 2).flatten(2).to(kind)  # (B, H, T, K) -> (B, T, D)


class SelfAttention(nn.Module):
    """Let every token gather from those of its text that it may look at, in several subspaces.

    Args:
        query: Maps D to H * K.
        key: Maps D to as much, or to less where several queries share a key.
        value: Likewise.
        output: Maps H * K to D.
        head_size: Width K.
        scale: Factor of the scores; None: 1 / sqrt(K).
        window: Tokens that can be looked back on, itself counted; 0: all.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2; Ainslie et al. 2023 (arXiv
        2305.13245) for shared keys; Child et al. 2019 (arXiv 1904.10509) for windows.
    """

    def __init__(
        self,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        output: nn.Linear,
        *,
        head_size: int,
        scale: float | None = None,
        window: int = 0,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = query, key, value, output
        self.head_size, self.window = head_size, window
        self.widths = [query.out_features, key.out_features, value.out_features]
        self.attend = ScaledDotProduct(scale)
        # All three projections as one, for inference; see `fuse`.
        self.fused: nn.Linear | None = None

    def fuse(self) -> None:
        """Join the projections of query, key and value, where nothing is trained any more.

        A step of few rows costs as much in calls as in arithmetic.
        """
        self.fused = join_linears(self.query, self.key, self.value)
        del self.query, self.key, self.value

    def project(self, hidden: Tensor) -> list[Tensor]:
        """Map (B, T, D) float to query, key and value, (B, H, T, K) float each."""
        if self.fused is None:
            parts = (self.query(hidden), self.key(hidden), self.value(hidden))
        else:
            parts = self.fused(hidden).split(self.widths, dim=-1)
        return [part.unflatten(-1, (-1, self.head_size)).transpose(1, 2) for part in parts]

    def forward(self, hidden: Tensor, sight: Sight, cache: KeyValueCache | None = None) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float."""
        heads = self.project(hidden)
        return self.output(look_back(self.attend, heads, sight, cache, window=self.window))


class CrossAttention(nn.Module):
    """Let every token gather from a source, whose keys and values are computed once.

    Args:
        query: Maps D to H * K.
        key: Likewise, of the source.
        value: Likewise.
        output: Maps H * K to D.
        head_size: Width K.
        scale: Factor of the scores; None: 1 / sqrt(K).
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3.
    """

    def __init__(
        self,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        output: nn.Linear,
        *,
        head_size: int,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = query, key, value, output
        self.head_size = head_size
        self.attend = ScaledDotProduct(scale)

    def _split(self, hidden: Tensor) -> Tensor:
        return hidden.unflatten(-1, (-1, self.head_size)).transpose(1, 2)  # -> (B, H, T, K)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Map a source, (B, S, D) float, to its keys and values, (B, H, S, K) float each."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def forward(self, hidden: Tensor, source: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float under a mask as `ScaledDotProduct` takes it."""
        key, value = source
        query = self._split(self.query(hidden))
        context = self.attend(query.to(key.dtype), key, value, mask)
        # (B, H, T, K) -> (B, T, D)
        return self.output(context.transpose(1, 2).flatten(2).to(query.dtype))


def projections(
    hidden_size: int, joint_size: int, *, bias: bool = True, output_bias: bool = True
) -> list[nn.Linear]:
    """Build the four linear layers of an attention layer: query, key, value and output.

    Args:
        hidden_size: Width D of what goes in and comes out.
        joint_size: Width H * K of all heads together.
        bias: Of the first three.
        output_bias: Of the last.
    """
    inward = [nn.Linear(hidden_size, joint_size, bias=bias) for _ in range(3)]
    return [*inward, nn.Linear(joint_size, hidden_size, bias=output_bias)]


def join_linears(*parts: nn.Linear) -> nn.Linear:
    """Build the layer whose result is those of several, one after the other."""
    has_bias = parts[0].bias is not None
    joint = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), bias=has_bias)
    with torch.no_grad():
        joint.weight.copy_(torch.cat([part.weight for part in parts]))
        if has_bias:
            joint.bias.copy_(torch.cat([part.bias for part in parts]))
    return joint
