"""BLOOM: a decoder without positions, whose attention falls off with distance.

Scao et al. 2022, "BLOOM: A 176B-Parameter Open-Access Multilingual Language Model" (arXiv
2211.05100). A penalty that grows with the distance (ALiBi) takes the place of positions, and the
embeddings pass through a norm before the first block.

Differs from the paper: nothing that is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.attention import ScaledDotProduct, look_back
from headway.layers.blocks import LayerNorm
from headway.layers.cache import KeyValueCache
from headway.layers.embeddings import to_autocast
from headway.layers.positions import alibi_slopes
from headway.layers.side import Side
from headway.layers.sight import Sight
from headway.models._config import TINY
from headway.models._decoder import (
    PARTS,
    Decoder,
    DecoderConfig,
    check_decoder,
    gpt_layers,
    make_heads,
    sizes,
)
from headway.names import Layout, Rename, published_fields, renames_below

PUBLISHED = ("bloom",)
SPECIALS = "llama"


@dataclass(frozen=True, kw_only=True)
class BloomConfig(DecoderConfig):
    """Sizes and choices of a BLOOM."""

    vocab_size: int = 250880
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 1024
    """Width of hidden states and embeddings."""
    num_hidden_layers: int = 24
    """Blocks."""
    num_attention_heads: int = 16
    """Heads of each attention layer; a divisor of hidden_size."""
    max_position_embeddings: int = 2048
    """Longest text that it is trained on, in tokens; it can read longer ones."""
    dropout: float = 0.0
    """Rate on each sublayer's result, 0 to below 1."""
    bos_token_id: int = 1
    """Id of <s>, which begins a text; recipes take the tokenizer's."""
    eos_token_id: int = 2
    """Id of </s>, which ends a text; recipes take the tokenizer's."""

    is_unbounded = True

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        return super().check() + self.fixed_problems()


# Table 3 of the paper.
PRESETS = MappingProxyType(
    {
        "560m": sizes(1024, 24, 16),
        "1b1": sizes(1536, 24, 16),
        "1b7": sizes(2048, 24, 16),
        "3b": sizes(2560, 30, 32),
        "7b1": sizes(4096, 30, 32),
        "176b": sizes(14336, 70, 112),
    }
)
VARIANTS = {
    "three heads": {
        "num_attention_heads": 3,
        "hidden_size": 12,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
    }
}


class NormedEmbeddings(nn.Module):
    """Look tokens up and normalize.

    Args:
        config: Sizes and choices.
    """

    def __init__(self, config: BloomConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)

    def forward(self, source: Side) -> Tensor:
        """Map a side, (B, T), to (B, T, E) float."""
        return to_autocast(self.norm(F.embedding(source.ids, self.token.weight)))


class JointAttention(nn.Module):
    """Causal attention whose query, key and value are one layer, head by head, as published.

    Args:
        config: Sizes and choices.
    """

    def __init__(self, config: BloomConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.attend = ScaledDotProduct()

    def forward(self, hidden: Tensor, sight: Sight, cache: KeyValueCache | None = None) -> Tensor:
        """Map (B, T, D) float to (B, T, D) float."""
        joint = self.query_key_value(hidden).unflatten(-1, (self.num_heads, 3, -1))
        heads = joint.transpose(1, 2).unbind(3)  # (B, T, H, 3, K) -> 3 x (B, H, T, K)
        return self.output(look_back(self.attend, heads, sight, cache))


class Bloom(Decoder):
    """Read a text from left to right.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "output".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: BloomConfig, parts: tuple[str, ...] = PARTS) -> None:
        check_decoder(config, parts)
        attentions = (JointAttention(config) for _ in range(config.num_hidden_layers))
        super().__init__(
            config,
            parts,
            embeddings=NormedEmbeddings(config),
            decoder=gpt_layers(config, attentions),
            see=partial(_see, num_heads=config.num_attention_heads),
            scales_residuals=False,
        )

    @staticmethod
    def tiny() -> BloomConfig:
        """Give the smallest sensible config."""
        small = {**TINY, "num_attention_heads": 4, "intermediate_size": 64}
        return BloomConfig(**small, max_position_embeddings=64)


def _see(
    query_positions: Tensor, key_positions: Tensor, allowed: Tensor | None, *, num_heads: int
) -> Sight:
    return Sight(
        query_positions=query_positions,
        key_positions=key_positions,
        allowed=allowed,
        slopes=alibi_slopes(num_heads).to(key_positions.device),
    )


_BLOCK = (
    ("input_layernorm", "after_attention.norm"),
    ("self_attention.query_key_value", "attention.query_key_value"),
    ("self_attention.dense", "attention.output"),
    ("post_attention_layernorm", "after_feed_forward.norm"),
    ("mlp.dense_h_to_4h", "feed_forward.up"),
    ("mlp.dense_4h_to_h", "feed_forward.down"),
)
LAYOUTS = (
    Layout(
        model_type="bloom",
        heads=make_heads("Bloom"),
        config=published_fields(
            BloomConfig,
            {
                "hidden_size": ("hidden_size", "n_embed"),
                "num_hidden_layers": ("n_layer", "num_hidden_layers"),
                "num_attention_heads": ("n_head", "num_attention_heads"),
                "intermediate_size": (),
                "activation": (),
                "max_position_embeddings": "seq_length",
                "dropout": "hidden_dropout",
            },
        ),
        constants={"apply_residual_connection_post_layernorm": False},
        prefix="transformer.",
        renames=(
            Rename("word_embeddings_layernorm", "embeddings.norm"),
            Rename("word_embeddings", "embeddings.token"),
            *renames_below("h.{}", "decoder.layers.{}", _BLOCK),
            Rename("ln_f", "decoder.norm"),
        ),
    ),
)
