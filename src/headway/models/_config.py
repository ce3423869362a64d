"""What the configs of several architectures share: sizes of a stack of blocks, and checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from headway.layers.blocks import ACTIVATIONS

# The smallest sensible sizes; positions are counted in the families' own ways.
TINY: Mapping[str, Any] = MappingProxyType(
    {
        "vocab_size": 24,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "dropout": 0.0,
    }
)


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Sizes and choices of a stack of blocks, whatever it is for; the values are BERT's."""

    vocab_size: int = 30522
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 768
    """Width of hidden states, and of embeddings where they have none of their own."""
    num_hidden_layers: int = 12
    """Blocks."""
    num_attention_heads: int = 12
    """Heads of each attention layer; a divisor of hidden_size."""
    intermediate_size: int = 3072
    """Inner width of the feed-forward layers."""
    max_position_embeddings: int = 512
    """Longest input, in tokens."""
    dropout: float = 0.1
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    attention_dropout: float = 0.0
    """Kept for other readers: attention weights are never dropped out here."""
    activation: str = "gelu"
    """gelu, gelu_new, relu or silu, between the feed-forward layers."""
    layer_norm_epsilon: float = 1e-12
    """Added to the variance in every norm."""
    initializer_range: float = 0.02
    """Deviation of fresh weights."""
    tie_word_embeddings: bool = True
    """Let the layer that scores words share the embeddings' matrix."""

    @property
    def max_tokens(self) -> int:
        """Longest input, in tokens."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        return stack_problems(self) + too_small(self, "max_position_embeddings")


def stack_problems(config: Any) -> list[str]:
    """Find what is wrong with the sizes of a stack, but for its positions."""
    return [
        *too_small(config, "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"),
        *uneven_heads(config),
        *no_shares(config, "dropout", "initializer_range", "layer_norm_epsilon"),
        *unknown_words(config, {"activation": ACTIVATIONS}),
    ]


def too_small(config: Any, *names: str) -> list[str]:
    """Find sizes and counts below 1."""
    return [
        f"{name} is {getattr(config, name)}, but at least 1 is needed"
        for name in names
        if getattr(config, name) < 1
    ]


def no_shares(config: Any, *names: str) -> list[str]:
    """Find rates that are not from 0 to below 1."""
    return [
        f"{name} is {getattr(config, name)}, but must be from 0 to below 1"
        for name in names
        if not 0 <= getattr(config, name) < 1
    ]


def unknown_words(config: Any, choices: Mapping[str, Iterable[str]]) -> list[str]:
    """Find choices that nobody knows: `choices` lists the words of each field."""
    return [
        f"{name} is {getattr(config, name)!r}, but must be one of {', '.join(allowed)}"
        for name, allowed in choices.items()
        if getattr(config, name) not in allowed
    ]


def uneven_heads(config: Any) -> list[str]:
    """Find a width that the heads cannot share."""
    if config.num_attention_heads >= 1 and config.hidden_size % config.num_attention_heads == 0:
        return []
    return [
        f"num_attention_heads is {config.num_attention_heads}, but hidden_size "
        f"{config.hidden_size} is not divisible by it"
    ]
