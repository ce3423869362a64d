"""Multi-head scaled dot-product attention, whole sequences at once or one step at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.cache import KeyValueCache, step_type

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


class MultiHeadAttention(nn.Module):
    """Let every position gather from the positions of a memory, in several subspaces.

    Args:
        hidden_size: Width D of queries, memory and result.
        num_attention_heads: Number of heads H, a divisor of D.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2.
    Differs: projections have a bias, as in the authors' code and in every published checkpoint.
    """

    def __init__(self, hidden_size: int, num_attention_heads: int) -> None:
        super().__init__()
        self.num_attention_heads = num_attention_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.attend = ScaledDotProduct()
        # All three projections as one, for inference; see `fuse`.
        self.fused: nn.Linear | None = None

    def fuse(self) -> None:
        """Join the projections of query, key and value, where nothing is trained any more.

        A step of few rows costs as much in calls as in arithmetic.
        """
        self.fused = join_linears(self.query, self.key, self.value)

    def _project(self, hidden: Tensor) -> tuple[Tensor, ...]:
        """Give query, key and value of self-attention, (B, H, T, K) float each."""
        if self.fused is None:
            parts = (self.query(hidden), self.key(hidden), self.value(hidden))
        else:
            parts = self.fused(hidden).chunk(3, dim=-1)
        return tuple(map(self.split_heads, parts))

    def split_heads(self, hidden: Tensor) -> Tensor:
        """Cut the width into heads.

        Args:
            hidden: (B, T, D) float.
        Returns:
            heads: (B, H, T, K) float.
        """
        heads = hidden.unflatten(-1, (self.num_attention_heads, -1))
        return heads.transpose(1, 2)  # (B, T, H, K) -> (B, H, T, K)

    def forward(self, hidden: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from each position of `hidden` to the allowed positions of `memory`.

        Args:
            hidden: (B, T, D) float.
            memory: (B, S, D) float. The same tensor for self-attention.
            mask: (B, 1, T, S) bool. True where attention is allowed.
        Returns:
            context: (B, T, D) float.
        """
        query = self.split_heads(self.query(hidden))
        key, value = self.split_heads(self.key(memory)), self.split_heads(self.value(memory))
        context = self.attend(query, key, value, mask)
        return self.output(context.transpose(1, 2).flatten(2))  # (B, H, T, K) -> (B, T, D)

    def step(self, hidden: Tensor, cache: KeyValueCache) -> Tensor:
        """Attend from one new token of each beam to the tokens before it, and remember it.

        Args:
            hidden: (B, R, D) float. One token for each of R beams.
            cache: Keys and values so far; the new ones are written to it.
        Returns:
            context: (B, R, D) float.
        """
        query, key, value = self._project(hidden)  # (B, H, R, K)
        key, value = cache.append(key, value)
        context = attend_step(query, key, value, cache.bias)
        return self.output(context.transpose(1, 2).flatten(2))

    def memorize(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Project a memory once, for all the steps that will look at it.

        Args:
            memory: (B, S, D) float.
        Returns:
            key, value: (B, H, S, K) float. In the type that `attend_step` computes in.
        """
        heads = self.split_heads(self.key(memory)), self.split_heads(self.value(memory))
        return heads[0].to(step_type(memory)), heads[1].to(step_type(memory))

    def look_up(self, hidden: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attend from one token of each beam to a memory that all beams of a row share.

        Args:
            hidden: (B, R, D) float.
            key: (B, H, S, K) float.
            value: (B, H, S, K) float.
            bias: (B, 1, 1, S) float. 0 where attention is allowed, -inf elsewhere.
        Returns:
            context: (B, R, D) float.
        """
        query = self.split_heads(self.query(hidden))
        context = attend_step(query, key, value, bias)
        return self.output(context.transpose(1, 2).flatten(2))


def join_linears(*parts: nn.Linear) -> nn.Linear:
    """Build the layer whose result is those of several, one after the other."""
    has_bias = parts[0].bias is not None
    joint = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), bias=has_bias)
    with torch.no_grad():
        joint.weight.copy_(torch.cat([part.weight for part in parts]))
        if has_bias:
            joint.bias.copy_(torch.cat([part.bias for part in parts]))
    return joint


def attend_step(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attend with few queries, in single precision.

    Half precision saves nothing at this size: its products of tiny matrices took 57 microseconds
    where the fused kernel takes 9 in single precision (1 row, 5 beams, 16 keys, 2 cores).

    Args:
        query: (B, H, R, K) float.
        key: (B, H, S, K) float. In the type of `step_type`.
        value: (B, H, S, K) float. Likewise.
        bias: (B, 1, R, S) float. Likewise; added to the scores; an axis may be 1; None: nothing.
    Returns:
        context: (B, H, R, K) float. In the type of the query.
    """
    context = F.scaled_dot_product_attention(query.to(key.dtype), key, value, attn_mask=bias)
    return context.to(query.dtype)
