"""Decoders that see only what came before: whole texts at once, a prompt, or one step at a time.

One code path serves all three. What a token may look at is a `Sight`, the same for all layers of a
model; a cache, where there is one, takes the new keys and values and gives all there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from headway.layers.attention import ScaledDotProduct, join_linears
from headway.layers.blocks import Residual
from headway.layers.cache import Ancestry, KeyValueCache
from headway.layers.positions import Rotation


@dataclass(frozen=True)
class Sight:
    """What each token may look at, and what its place does to that.

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


def look_back(
    attend: ScaledDotProduct,
    heads: Sequence[Tensor],
    sight: Sight,
    cache: KeyValueCache | None,
    *,
    window: int = 0,
) -> Tensor:
    """Let queries gather from the tokens so far.

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


class CausalAttention(nn.Module):
    """Let every token gather from itself and what came before it, in several subspaces.

    Args:
        query: Maps D to H * K.
        key: Maps D to as much, or to less where several queries share a key.
        value: Likewise.
        output: Maps H * K to D.
        head_size: Width K.
        scale: Factor of the scores; None: 1 / sqrt(K).
        window: Tokens that can be looked back on, itself counted; 0: all.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.3; Ainslie et al. 2023 (arXiv
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
        """Join the projections of query, key and value, where nothing is trained any more."""
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


class CausalBlock(nn.Module):
    """Self-attention, then feed-forward, each with a residual connection.

    Args:
        attention: Takes hidden states, a sight and a cache.
        feed_forward: Inner network.
        after_attention: Adds the attention's result.
        after_feed_forward: Adds the inner network's result.
    Paper: Radford et al. 2018; Radford et al. 2019, section 2.3, for norms before.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        after_attention: Residual,
        after_feed_forward: Residual,
    ) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.after_attention, self.after_feed_forward = after_attention, after_feed_forward

    def forward(self, hidden: Tensor, sight: Sight, cache: KeyValueCache | None = None) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float."""
        hidden = self.after_attention(hidden, lambda x: self.attention(x, sight, cache))
        return self.after_feed_forward(hidden, self.feed_forward)


class CausalLayers(nn.Module):
    """Blocks one on the other.

    Args:
        blocks: From the bottom up.
        norm: After the last, where blocks have theirs before.
    """

    def __init__(self, blocks: Iterable[CausalBlock], norm: nn.Module | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.norm = norm

    def states(
        self,
        hidden: Tensor,
        sight: Sight,
        caches: Sequence[KeyValueCache] = (),
        *,
        first: int = 0,
    ) -> Iterator[Tensor]:
        """Give what enters block `first`, (B, T, D) float, and then what leaves each from there.

        What leaves the last has passed the norm behind it.
        """
        yield hidden
        for number in range(first, len(self.layers)):
            cache = caches[number] if caches else None
            hidden = self.layers[number](hidden, sight, cache)
            if number == len(self.layers) - 1 and self.norm is not None:
                hidden = self.norm(hidden)
            yield hidden


@dataclass(kw_only=True)
class CausalState:
    """What step-by-step decoding remembers; changed in place by `step`, `reorder` and `keep`.

    Args:
        ancestry: Which tokens each beam descends from.
        caches: Keys and values of each layer.
    """

    ancestry: Ancestry
    caches: list[KeyValueCache]

    def reorder(self, parents: Tensor) -> None:
        """Let beam r continue what beam parents[:, r], (B, R) int64, was."""
        self.ancestry.reorder(parents)

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, (B) int64."""
        self.ancestry.keep(rows)
        for cache in self.caches:
            cache.keep(rows)
