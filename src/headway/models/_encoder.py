"""What the encoders share without being each other: checks of sizes, and how weights are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from headway.errors import ConfigError
from headway.layers.attention import MultiHeadAttention
from headway.layers.blocks import ACTIVATIONS, EncoderBlock, FeedForward
from headway.layers.embeddings import InputEmbeddings

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


def init_encoder(module: nn.Module, config: Any) -> None:
    """Draw all weights of a network or a part of it, as BERT's authors did.

    | parameter | distribution |
    |---|---|
    | matrices and tables | normal, deviation `initializer_range` |
    | row of <pad> | 0 |
    | biases | 0 |
    | norms | 1 and 0 |
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=config.initializer_range)
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.LayerNorm):
            layer.reset_parameters()
        if isinstance(layer, InputEmbeddings):
            with torch.no_grad():
                layer.token.weight[config.pad_token_id].zero_()
