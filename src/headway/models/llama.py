"""LLaMA and Mistral: decoders with root-mean-square norms, turned positions and gated layers.

Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models" (arXiv 2302.13971) and
"Llama 2" (arXiv 2307.09288); Jiang et al. 2023, "Mistral 7B" (arXiv 2310.06825). Queries and keys
are turned by their places, several queries share a key (grouped-query attention), feed-forward
layers are SwiGLU, and nothing has a bias. Mistral looks back over a sliding window.

Differs from the papers:
* Of the ways to stretch turned positions over longer texts (`rope_scaling`) there is none here: a
  file that asks for one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from headway.layers.attention import SelfAttention
from headway.layers.blocks import Block, GatedFeedForward, Residual, RmsNorm
from headway.layers.embeddings import TokenEmbeddings
from headway.layers.positions import Rotation
from headway.layers.sight import Sight
from headway.layers.stacks import Layers
from headway.models._config import TINY
from headway.models._decoder import (
    PARTS,
    Decoder,
    DecoderConfig,
    check_decoder,
    make_heads,
    sizes,
)
from headway.names import Ignore, Layout, Rename, published_fields, renames_below

PUBLISHED = ("llama", "mistral")
SPECIALS = "llama"


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """Sizes and choices of a LLaMA or a Mistral."""

    vocab_size: int = 32000
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 4096
    """Width of hidden states and embeddings."""
    num_hidden_layers: int = 32
    """Blocks."""
    num_attention_heads: int = 32
    """Heads of each attention layer."""
    num_key_value_heads: int = 0
    """Keys and values that the heads share, a divisor of their number; 0: each has its own."""
    head_size: int = 0
    """Width of a head, even; 0: hidden_size divided by the heads."""
    intermediate_size: int = 11008
    """Inner width of the feed-forward layers."""
    max_position_embeddings: int = 2048
    """Longest text, in tokens."""
    sliding_window: int = 0
    """Tokens that each layer can look back on; 0: all."""
    rotary_base: float = 10000.0
    """Ratio of the slowest to the fastest turn."""
    dropout: float = 0.0
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    activation: str = "silu"
    """gelu, gelu_new, relu or silu, on the gates."""
    layer_norm_epsilon: float = 1e-6
    """Added to the mean square in every norm."""
    tie_word_embeddings: bool = False
    """Let the output layer share the embeddings' matrix."""
    bos_token_id: int = 1
    """Id of <s>, which begins a text; recipes take the tokenizer's."""
    eos_token_id: int = 2
    """Id of </s>, which ends a text; recipes take the tokenizer's."""
    family: str = "llama"
    """llama or mistral: how the files are written."""

    def __post_init__(self) -> None:
        heads = max(1, self.num_attention_heads)
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", heads)
        if not self.head_size:
            object.__setattr__(self, "head_size", self.hidden_size // heads)

    @property
    def is_unbounded(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Say whether texts can be longer than those it was trained on."""
        return self.sliding_window > 0

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = super().check()
        if self.sliding_window < 0:
            problems.append(f"sliding_window is {self.sliding_window}, but must be from 0 up")
        shared = self.num_key_value_heads
        if shared < 1 or self.num_attention_heads % shared:
            problems.append(
                f"num_key_value_heads is {shared}, but must divide num_attention_heads "
                f"({self.num_attention_heads})"
            )
        if self.head_size < 2 or self.head_size % 2:
            problems.append(f"head_size is {self.head_size}, but an even number is needed")
        if not self.rotary_base > 1:
            problems.append(f"rotary_base is {self.rotary_base}, but must be above 1")
        if self.family not in PUBLISHED:
            problems.append(f"family is {self.family!r}, but must be llama or mistral")
        return problems


PRESETS = MappingProxyType(
    {
        "mini": sizes(256, 6, 4) | {"intermediate_size": 688, "tie_word_embeddings": True},
        # Table 2 of the first paper.
        "7b": sizes(4096, 32, 32),
        # Table 1 of Llama 2.
        "llama-2-13b": sizes(5120, 40, 40)
        | {"intermediate_size": 13824, "max_position_embeddings": 4096},
        "llama-2-70b": sizes(8192, 80, 64)
        | {"num_key_value_heads": 8, "intermediate_size": 28672, "max_position_embeddings": 4096},
        # Table 1 of Mistral 7B.
        "mistral-7b": sizes(4096, 32, 32)
        | {
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "max_position_embeddings": 32768,
            "sliding_window": 4096,
            "layer_norm_epsilon": 1e-5,
            "family": "mistral",
        },
    }
)
VARIANTS = {
    "mistral": {"family": "mistral", "sliding_window": 3, "tie_word_embeddings": True},
    "wide heads": {"head_size": 12, "num_key_value_heads": 4, "rotary_base": 500.0},
}


class Llama(Decoder):
    """Read a text from left to right.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "output".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: LlamaConfig, parts: tuple[str, ...] = PARTS) -> None:
        check_decoder(config, parts)
        super().__init__(
            config,
            parts,
            embeddings=TokenEmbeddings(
                config.vocab_size, config.hidden_size, dropout=config.dropout
            ),
            decoder=Layers(
                (_block(config) for _ in range(config.num_hidden_layers)), _norm(config)
            ),
            see=partial(_see, config=config),
            scales_residuals=False,
        )

    @staticmethod
    def tiny() -> LlamaConfig:
        """Give the smallest sensible config."""
        small = {**TINY, "num_attention_heads": 4}
        return LlamaConfig(**small, num_key_value_heads=2, max_position_embeddings=64)


def _see(
    query_positions: Tensor, key_positions: Tensor, allowed: Tensor | None, *, config: LlamaConfig
) -> Sight:
    return Sight(
        query_positions=query_positions,
        key_positions=key_positions,
        allowed=allowed,
        rotation=Rotation.of(query_positions, config.head_size, base=config.rotary_base),
    )


def _norm(config: LlamaConfig) -> RmsNorm:
    return RmsNorm(config.hidden_size, eps=config.layer_norm_epsilon)


def _block(config: LlamaConfig) -> Block:
    width, shared = config.hidden_size, config.num_key_value_heads * config.head_size
    joint = config.num_attention_heads * config.head_size
    attention = SelfAttention(
        nn.Linear(width, joint, bias=False),
        nn.Linear(width, shared, bias=False),
        nn.Linear(width, shared, bias=False),
        nn.Linear(joint, width, bias=False),
        head_size=config.head_size,
        window=config.sliding_window,
    )
    return Block(
        attention,
        GatedFeedForward(width, config.intermediate_size, config.activation),
        *(Residual(_norm(config), dropout=config.dropout, pre_norm=True) for _ in range(2)),
    )


_BLOCK = (
    ("self_attn.q_proj", "attention.query"),
    ("self_attn.k_proj", "attention.key"),
    ("self_attn.v_proj", "attention.value"),
    ("self_attn.o_proj", "attention.output"),
    ("input_layernorm", "after_attention.norm"),
    ("post_attention_layernorm", "after_feed_forward.norm"),
    ("mlp.gate_proj", "feed_forward.gate"),
    ("mlp.up_proj", "feed_forward.up"),
    ("mlp.down_proj", "feed_forward.down"),
)
_CONFIG = published_fields(
    LlamaConfig,
    {
        "head_size": "head_dim",
        "rotary_base": ("rope_theta", "rope_parameters.rope_theta"),
        "dropout": "headway_dropout",
        "activation": "hidden_act",
        "layer_norm_epsilon": "rms_norm_eps",
        # Mistral's alone.
        "sliding_window": (),
        "family": (),
    },
)
_CONSTANTS = {"rope_parameters.rope_type": "default", "rope_scaling": None}
_RENAMES = (
    Rename("embed_tokens", "embeddings.token"),
    *renames_below("layers.{}", "decoder.layers.{}", _BLOCK),
    Rename("norm", "decoder.norm"),
    Ignore("layers.{}.self_attn.rotary_emb.inv_freq"),
)


def _window(config: LlamaConfig) -> dict[str, Any]:
    return {"sliding_window": config.sliding_window or None}


LAYOUTS = (
    Layout(
        model_type="llama",
        heads=make_heads("Llama"),
        when={"family": "llama"},
        config=_CONFIG,
        constants={**_CONSTANTS, "attention_bias": False, "mlp_bias": False},
        prefix="model.",
        renames=_RENAMES,
    ),
    Layout(
        model_type="mistral",
        heads=make_heads("Mistral"),
        when={"family": "mistral"},
        config={**_CONFIG, "sliding_window": ("sliding_window",)},
        constants=_CONSTANTS,
        derived=_window,
        prefix="model.",
        renames=_RENAMES,
    ),
)
