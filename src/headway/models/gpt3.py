"""GPT-3: GPT-2 with every second layer looking back a short way only, up to 175 B parameters.

Brown et al. 2020, "Language Models are Few-Shot Learners" (arXiv 2005.14165). Layers with dense
attention alternate with layers of a band (section 2.1; Child et al. 2019). Its weights were never
published; files are in the layout of GPT-Neo, an open model of the same design.

Differs from the paper:
* The band is a plain window, as in GPT-Neo; the paper does not give its pattern. Queries, keys and
  values have no bias, and scores are not divided by sqrt(K): the layout has neither.
* Where table 2.1 contradicts itself (24 heads of 128 in a width of 2,048; a width of 5,140 with 40
  heads of 128) presets have 16 heads, and a width of 5,120.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from headway.layers.causal import CausalLayers
from headway.layers.embeddings import PlacedEmbeddings
from headway.models._decoder import (
    PARTS,
    Decoder,
    block_renames,
    check_decoder,
    gpt_block,
    make_heads,
    plain_attention,
)
from headway.models._encoder import encoder_problems
from headway.names import Ignore, Layout, Rename

PUBLISHED = ("gpt_neo",)
SPECIALS = "gpt"


@dataclass(frozen=True, kw_only=True)
class Gpt3Config:
    """Sizes and choices of a GPT-3."""

    vocab_size: int = 50257
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 768
    """Width of hidden states and embeddings."""
    num_hidden_layers: int = 12
    """Blocks, dense and banded by turns."""
    num_attention_heads: int = 12
    """Heads of each attention layer; a divisor of hidden_size."""
    intermediate_size: int = 0
    """Inner width of the feed-forward layers; 0: four times hidden_size."""
    window: int = 256
    """Tokens that every second layer can look back on."""
    max_position_embeddings: int = 2048
    """Longest text, in tokens."""
    dropout: float = 0.0
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    attention_dropout: float = 0.0
    """Kept for other readers: attention weights are never dropped out here."""
    activation: str = "gelu_new"
    """gelu, gelu_new, relu or silu, between the feed-forward layers."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in every norm."""
    initializer_range: float = 0.02
    """Deviation of fresh weights."""
    tie_word_embeddings: bool = True
    """Let the output layer share the embeddings' matrix."""
    eos_token_id: int = 50256
    """Id of <|endoftext|>, which ends a text; recipes take the tokenizer's."""

    def __post_init__(self) -> None:
        if not self.intermediate_size:
            object.__setattr__(self, "intermediate_size", 4 * self.hidden_size)

    @property
    def max_tokens(self) -> int:
        """Longest text, in tokens."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = encoder_problems(self)
        for name in ("window", "max_position_embeddings"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, but at least 1 is needed")
        return problems


def _sizes(width: int, layers: int, heads: int) -> dict[str, int]:
    return {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}


# Table 2.1 of the paper; see above for 1.3B and 13B.
PRESETS = MappingProxyType(
    {
        "125m": _sizes(768, 12, 12),
        "350m": _sizes(1024, 24, 16),
        "760m": _sizes(1536, 24, 16),
        "1.3b": _sizes(2048, 24, 16),
        "2.7b": _sizes(2560, 32, 32),
        "6.7b": _sizes(4096, 32, 32),
        "13b": _sizes(5120, 40, 40),
        "175b": _sizes(12288, 96, 96),
    }
)
VARIANTS = {"untied": {"tie_word_embeddings": False, "activation": "relu", "window": 3}}


class Gpt3(Decoder):
    """Read a text from left to right.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "output".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: Gpt3Config, parts: tuple[str, ...] = PARTS) -> None:
        check_decoder(config, parts)
        windows = [number % 2 * config.window for number in range(config.num_hidden_layers)]
        blocks = (
            gpt_block(config, plain_attention(config, bias=False, scale=1.0, window=window))
            for window in windows
        )
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        super().__init__(
            config,
            parts,
            embeddings=PlacedEmbeddings(
                config.vocab_size,
                config.hidden_size,
                config.max_position_embeddings,
                dropout=config.dropout,
            ),
            decoder=CausalLayers(blocks, norm),
        )

    @staticmethod
    def tiny() -> Gpt3Config:
        """Give the smallest sensible config."""
        return Gpt3Config(
            vocab_size=24,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            window=4,
            max_position_embeddings=64,
            eos_token_id=1,
        )


def _alternate(config: Gpt3Config) -> dict[str, Any]:
    """Give the keys that say which layers are banded: every second one."""
    count = config.num_hidden_layers
    kinds = ["global", "local"]
    # An odd number of layers is written as what it is: a list that is repeated once.
    types = [[kinds, count // 2]] if count % 2 == 0 else [[(kinds * count)[:count], 1]]
    return {"attention_types": types, "attention_layers": (kinds * count)[:count]}


_BLOCK = (
    ("attn.attention.q_proj", "attention.query"),
    ("attn.attention.k_proj", "attention.key"),
    ("attn.attention.v_proj", "attention.value"),
    ("attn.attention.out_proj", "attention.output"),
    ("ln_1", "after_attention.norm"),
    ("ln_2", "after_feed_forward.norm"),
    ("mlp.c_fc", "feed_forward.up"),
    ("mlp.c_proj", "feed_forward.down"),
)
LAYOUTS = (
    Layout(
        model_type="gpt_neo",
        heads=make_heads("GPTNeo"),
        config={
            "vocab_size": ("vocab_size",),
            "hidden_size": ("hidden_size",),
            "num_hidden_layers": ("num_layers",),
            "num_attention_heads": ("num_heads",),
            "intermediate_size": ("intermediate_size",),
            "window": ("window_size",),
            "max_position_embeddings": ("max_position_embeddings",),
            "dropout": ("resid_dropout", "embed_dropout"),
            "attention_dropout": ("attention_dropout",),
            "activation": ("activation_function",),
            "layer_norm_epsilon": ("layer_norm_epsilon",),
            "initializer_range": ("initializer_range",),
            "tie_word_embeddings": ("tie_word_embeddings",),
            "eos_token_id": ("eos_token_id", "bos_token_id"),
        },
        derived=_alternate,
        prefix="transformer.",
        renames=(
            Rename("wte", "embeddings.token"),
            Rename("wpe", "embeddings.position"),
            *block_renames("h.{}", _BLOCK),
            Rename("ln_f", "decoder.norm"),
            Ignore("h.{}.attn.attention.bias"),
            Ignore("h.{}.attn.attention.masked_bias"),
        ),
    ),
)
