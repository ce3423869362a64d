"""Decoder blocks that look at a source too, on the one path of `layers/causal.py`."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from headway.layers.attention import ScaledDotProduct
from headway.layers.blocks import Residual
from headway.layers.cache import KeyValueCache, step_type
from headway.layers.causal import Sight
from headway.layers.stacks import DecodingState


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


class CrossBlock(nn.Module):
    """Self-attention, attention to a source, feed-forward, each with a residual connection.

    Args:
        attention: Takes hidden states, a sight and a cache.
        cross_attention: Looks at the source.
        feed_forward: Inner network.
        after_attention: Adds the first one's result.
        after_cross_attention: Adds the second one's.
        after_feed_forward: Adds the third one's.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.1.
    """

    def __init__(
        self,
        attention: nn.Module,
        cross_attention: CrossAttention,
        feed_forward: nn.Module,
        after_attention: Residual,
        after_cross_attention: Residual,
        after_feed_forward: Residual,
    ) -> None:
        super().__init__()
        self.attention, self.cross_attention = attention, cross_attention
        self.feed_forward = feed_forward
        self.after_attention, self.after_feed_forward = after_attention, after_feed_forward
        self.after_cross_attention = after_cross_attention

    def memorize(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Map a source to keys and values as `project` does, in the type that steps attend in."""
        key, value = self.cross_attention.project(memory)
        return key.to(step_type(memory)), value.to(step_type(memory))

    def forward(
        self,
        hidden: Tensor,
        sight: Sight,
        source: tuple[Tensor, Tensor],
        mask: Tensor,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float; a source and a mask as `CrossAttention` has."""
        hidden = self.after_attention(hidden, lambda x: self.attention(x, sight, cache))
        hidden = self.after_cross_attention(hidden, lambda x: self.cross_attention(x, source, mask))
        return self.after_feed_forward(hidden, self.feed_forward)


class CrossLayers(nn.Module):
    """Blocks one on the other, whole sequences at once or step by step.

    Args:
        blocks: From the bottom up.
        norm: After the last.
    """

    def __init__(self, blocks: Iterable[CrossBlock], norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.norm = norm

    def forward(self, hidden: Tensor, sight: Sight, memory: Tensor, mask: Tensor) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float.

        Args:
            hidden: (B, T, D) float.
            sight: What each token may look at among those before it.
            memory: (B, S, D) float.
            mask: (B, 1, T, S) bool. What it may look at in the memory.
        """
        for layer in self.layers:
            source = layer.cross_attention.project(memory)  # pyright: ignore
            hidden = layer(hidden, sight, source, mask)
        return self.norm(hidden)

    def step(self, hidden: Tensor, sight: Sight, state: DecodingState) -> Tensor:
        """Map the newest token of each beam, (B, R, D) float, to (B, R, D) float."""
        for layer, cache, source in zip(self.layers, state.caches, state.memories, strict=True):
            hidden = layer(hidden, sight, source, state.bias, cache)
        return self.norm(hidden)
