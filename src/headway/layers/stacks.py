"""Stacks of Transformer blocks, and what a decoder stack remembers between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headway.layers.blocks import EncoderBlock
from headway.layers.cache import Ancestry, KeyValueCache, step_type
from headway.layers.causal import CausalState
from headway.layers.positions import Positions
from headway.layers.side import Memory


class EncoderLayers(nn.Module):
    """Encoder blocks one on the other, and nothing else.

    Args:
        blocks: From the bottom up.
    """

    def __init__(self, blocks: Iterable[EncoderBlock]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def states(self, hidden: Tensor, mask: Tensor | None, *, first: int = 0) -> Iterator[Tensor]:
        """Give what enters block `first`, (B, T, D) float, and then what leaves each from there."""
        yield hidden
        for layer in self.layers[first:]:
            hidden = layer(hidden, mask)
            yield hidden


class BlockStack(nn.Module):
    """Blocks one on the other, with a table of positions: what both stacks of a Transformer hold.

    Args:
        positions: Table that the model adds to its embeddings.
        blocks: From the bottom up.
        norm: Last norm, where the blocks are pre-norm.
    """

    def __init__(
        self, positions: Positions, blocks: Iterable[nn.Module], norm: nn.LayerNorm | None
    ) -> None:
        super().__init__()
        self.positions = positions
        self.layers = nn.ModuleList(blocks)
        self.norm = norm


class EncoderStack(BlockStack):
    """Encoder blocks one on the other."""

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, S, D) float to (B, S, D) float under a (B, 1, S, S) bool mask."""
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden if self.norm is None else self.norm(hidden)


class DecoderStack(BlockStack):
    """Decoder blocks one on the other, whole sequences at once or step by step."""

    def forward(
        self, hidden: Tensor, memory: Tensor, mask: Tensor | None, memory_mask: Tensor | None
    ) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float with a memory (B, S, D) float."""
        for layer in self.layers:
            hidden = layer(hidden, memory, mask, memory_mask)
        return hidden if self.norm is None else self.norm(hidden)

    def start(self, memory: Memory, *, num_beams: int, max_steps: int) -> DecodingState:
        """Project the memory for every layer and make room for the tokens to come."""
        return start_decoding(self.layers, memory, num_beams=num_beams, max_steps=max_steps)

    def step(self, hidden: Tensor, state: DecodingState) -> Tensor:
        """Map the newest token of each beam, (B, R, D) float, to (B, R, D) float."""
        state.ancestry.advance()
        for layer, cache, (key, value) in zip(
            self.layers, state.caches, state.memories, strict=True
        ):
            hidden = layer.step(hidden, cache, key, value, state.bias)
        return hidden if self.norm is None else self.norm(hidden)


@dataclass(kw_only=True)
class DecodingState(CausalState):
    """What step-by-step decoding remembers, where there is a source to look at.

    Args:
        memories: Keys and values of each layer's attention to the source, (B, H, S, K) float.
        bias: (B, 1, 1, S) float. 0 on real source positions, -inf elsewhere.
    """

    memories: list[tuple[Tensor, Tensor]]
    bias: Tensor

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, (B) int64."""
        super().keep(rows)
        self.memories = [
            (key.index_select(0, rows), value.index_select(0, rows)) for key, value in self.memories
        ]
        self.bias = self.bias.index_select(0, rows)


def start_decoding(
    layers: nn.ModuleList, memory: Memory, *, num_beams: int, max_steps: int
) -> DecodingState:
    """Project the memory for every layer, by its `memorize`, and make room for the tokens to come.

    Args:
        layers: Decoder blocks.
        memory: (B, S, D) float. One document in a row.
        num_beams: Beams R of each row.
        max_steps: Steps there shall be room for.
    """
    nothing = memory.documents[:, :0].bool()
    ancestry = Ancestry(nothing, num_beams=num_beams, max_steps=max_steps, like=memory.hidden)
    bias = torch.zeros_like(memory.documents, dtype=step_type(memory.hidden))
    return DecodingState(
        ancestry=ancestry,
        caches=[KeyValueCache(ancestry) for _ in layers],
        memories=[layer.memorize(memory.hidden) for layer in layers],  # pyright: ignore
        bias=bias.masked_fill(memory.documents == 0, -torch.inf)[:, None, None],
    )
