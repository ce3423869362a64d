"""Blocks one on the other, and what step-by-step decoding remembers between steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headway.layers.blocks import Block, CrossBlock
from headway.layers.cache import Ancestry, KeyValueCache, step_type
from headway.layers.side import Memory
from headway.layers.sight import Sight


class Layers(nn.Module):
    """Blocks one on the other.

    Args:
        blocks: From the bottom up.
        norm: After the last, where blocks have theirs before.
        positions: Table that the model adds to its embeddings, where each stack has its own.
    """

    def __init__(
        self,
        blocks: Iterable[Block],
        norm: nn.Module | None,
        positions: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.positions = positions
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


class CrossLayers(nn.Module):
    """Blocks one on the other, whole sequences at once or step by step.

    Args:
        blocks: From the bottom up.
        norm: After the last, where blocks have theirs before.
        positions: As `Layers` has it.
    """

    def __init__(
        self,
        blocks: Iterable[CrossBlock],
        norm: nn.Module | None,
        positions: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.positions = positions
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
        return hidden if self.norm is None else self.norm(hidden)

    def step(self, hidden: Tensor, sight: Sight, state: DecodingState) -> Tensor:
        """Map the newest token of each beam, (B, R, D) float, to (B, R, D) float."""
        for layer, cache, source in zip(self.layers, state.caches, state.memories, strict=True):
            hidden = layer(hidden, sight, source, state.bias, cache)
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
