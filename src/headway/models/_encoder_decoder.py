"""What encoder-decoders of attention share: blocks of both stacks, and how they go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from headway.layers.attention import CrossAttention, SelfAttention
from headway.layers.blocks import Block, CrossBlock, Residual
from headway.layers.side import Memory
from headway.layers.stacks import CrossLayers, DecodingState, Layers, start_decoding


@dataclass(frozen=True)
class BlockParts:
    """What the blocks of a family are made of; each call builds another one.

    Args:
        attention: Builds attention of the class it is given.
        feed_forward: Builds an inner network.
        norm: Builds a norm.
        dropout: Rate on the result of each sublayer.
        pre_norm: Norm before each sublayer, and one behind the last block; else after the addition.
    """

    attention: Callable[[Any], Any]
    feed_forward: Callable[[], nn.Module]
    norm: Callable[[], nn.Module]
    dropout: float
    pre_norm: bool

    def encoder(self, count: int, positions: nn.Module | None = None) -> Layers:
        """Build the blocks of an encoder: self-attention and feed-forward."""
        blocks = (
            Block(self.attention(SelfAttention), self.feed_forward(), *self._residuals(2))
            for _ in range(count)
        )
        return Layers(blocks, self.norm() if self.pre_norm else None, positions)

    def decoder(self, count: int, positions: nn.Module | None = None) -> CrossLayers:
        """Build the blocks of a decoder: self-attention, attention to the source, feed-forward."""
        blocks = (
            CrossBlock(
                self.attention(SelfAttention),
                self.attention(CrossAttention),
                self.feed_forward(),
                *self._residuals(3),
            )
            for _ in range(count)
        )
        return CrossLayers(blocks, self.norm() if self.pre_norm else None, positions)

    def _residuals(self, count: int) -> list[Residual]:
        return [
            Residual(self.norm(), dropout=self.dropout, pre_norm=self.pre_norm)
            for _ in range(count)
        ]


class EncoderDecoder(nn.Module):
    """What the Transformer and T5 have in common: how decoding begins, and scores of words."""

    kind = "encoder_decoder"
    # Parts that training can freeze or slow down by themselves, from the input up.
    stages = ("embeddings", "encoder.layers.{}", "decoder.layers.{}")
    decoder: CrossLayers
    output: nn.Linear

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the next token.

        Args:
            hidden: (B, T, D) float.
        Returns:
            logits: (B, T, V) float.
        """
        return self.output(hidden)

    def start(self, memory: Memory, *, num_beams: int, max_steps: int) -> DecodingState:
        """Prepare step-by-step decoding.

        Args:
            memory: (B, S, D) float. One document in a row.
            num_beams: Beams R of each row.
            max_steps: Steps there shall be room for.
        """
        layers = self.decoder.layers
        return start_decoding(layers, memory, num_beams=num_beams, max_steps=max_steps)
