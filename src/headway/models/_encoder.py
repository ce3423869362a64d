"""What BERT and its relatives share: the network around their layers, and checks of sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.attention import MultiHeadAttention
from headway.layers.blocks import ACTIVATIONS, EncoderBlock, FeedForward
from headway.layers.embeddings import InputEmbeddings
from headway.layers.heads import MaskedLmHead
from headway.layers.masks import document_mask
from headway.layers.pooling import FirstTokenPooler
from headway.layers.side import Memory, Side, Start

# Optional parts of an encoder; which of them a published class has is in its layout.
PARTS = ("pooler", "masked_lm")


def encoder_problems(config: Any) -> list[str]:
    """Return every problem of an encoder's sizes, in the recipe's words."""
    problems = []
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"):
        if getattr(config, name) < 1:
            problems.append(f"{name} is {getattr(config, name)}, but at least 1 is needed")
    if config.num_attention_heads < 1 or config.hidden_size % max(1, config.num_attention_heads):
        problems.append(
            f"num_attention_heads is {config.num_attention_heads}, but hidden_size "
            f"{config.hidden_size} is not divisible by it"
        )
    if not 0 <= config.dropout < 1:
        problems.append(f"dropout is {config.dropout}, but must be from 0 to below 1")
    for name in ("initializer_range", "layer_norm_epsilon"):
        if not 0 <= getattr(config, name) < 1:
            problems.append(f"{name} is {getattr(config, name)}, but must be from 0 to below 1")
    if config.activation not in ACTIVATIONS:
        problems.append(
            f"activation is {config.activation!r}, but must be one of {', '.join(ACTIVATIONS)}"
        )
    return problems


def check_encoder(config: Any, parts: Sequence[str]) -> None:
    """Raise a ConfigError for sizes that do not fit or parts that nobody has."""
    problems = config.check()
    problems += [f"an encoder has no part {part!r}" for part in parts if part not in PARTS]
    if problems:
        raise ConfigError("model: " + "; ".join(problems))


def make_block(config: Any) -> EncoderBlock:
    """Build one block as BERT has it: post-norm, with the config's sizes."""
    return EncoderBlock(
        MultiHeadAttention(config.hidden_size, config.num_attention_heads),
        FeedForward(config.hidden_size, config.intermediate_size, config.activation),
        dropout=config.dropout,
        pre_norm=False,
        epsilon=config.layer_norm_epsilon,
    )


class Encoder(nn.Module):
    """What BERT and its relatives have in common: embeddings, layers, and parts on top.

    The families differ in what they build and in what they are called, not in what is done with it;
    each file builds its embeddings and layers and hands them over.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
        embeddings: What enters.
        encoder: Gives its states one after the other.
        width: Width E of the embeddings, to which the masked-LM head goes back.
        pooled: Activation of the pooler.
        guessed: Name of the masked-LM head's activation.
    """

    kind = "encoder"
    # Whether positions are counted from the row after <pad>'s.
    counts_from_pad = False
    # Parts that training can freeze or slow down by themselves, from the input up.
    stages = ("embeddings", "encoder.layers.{}")

    def __init__(
        self,
        config: Any,
        parts: Sequence[str],
        *,
        embeddings: InputEmbeddings,
        encoder: nn.Module,
        width: int,
        pooled: Callable[[Tensor], Tensor] = torch.tanh,
        guessed: str,
    ) -> None:
        super().__init__()
        self.config, self.parts = config, tuple(parts)
        self.embeddings, self.encoder = embeddings, encoder
        self.pooler = FirstTokenPooler(config.hidden_size, pooled) if "pooler" in parts else None
        self.masked_lm = None
        if "masked_lm" in parts:
            self.masked_lm = MaskedLmHead(
                config.hidden_size,
                width,
                config.vocab_size,
                activation=ACTIVATIONS[guessed],
                epsilon=config.layer_norm_epsilon,
            )
        self.init_weights()
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the masked-LM output share the embeddings' matrix, unless the config says no."""
        if self.masked_lm is not None and self.config.tie_word_embeddings:
            self.masked_lm.output.weight = self.embeddings.token.weight

    def init_weights(self, part: str = "") -> None:
        """Draw all weights, or those of one part, anew, as BERT's authors did.

        | parameter | distribution |
        |---|---|
        | matrices and tables | normal, deviation `initializer_range` |
        | row of <pad> | 0 |
        | biases | 0 |
        | norms | 1 and 0 |
        """
        config = self.config
        if self.embeddings.token.weight.is_meta and not part:
            # Built without memory, as for a file's tensors: there is nothing to draw.
            return
        for layer in self.get_submodule(part).modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=config.initializer_range)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
            if isinstance(layer, nn.LayerNorm):
                layer.reset_parameters()
            if isinstance(layer, InputEmbeddings):
                with torch.no_grad():
                    layer.token.weight[config.pad_token_id].zero_()

    def hidden_states(self, source: Side) -> Iterator[Tensor]:
        """Give what enters the blocks, (B, T, D) float, and then what leaves each of them.

        Where the side brings hidden states along, those and what leaves the blocks above them.
        """
        mask = document_mask(source.documents, source.documents)[:, None]
        start = source.start or Start(self.embeddings(source), 0)
        return self.encoder.states(start.hidden, mask, first=start.depth)  # pyright: ignore

    def encode(self, source: Side) -> Memory:
        """Read a text.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float.
        """
        return Memory.from_states(self.hidden_states(source), source)

    def depth_of(self, num_stages: int) -> int | None:
        """Say which hidden state the lowest stages complete; None where it is none."""
        return num_stages - 1 if num_stages else None
