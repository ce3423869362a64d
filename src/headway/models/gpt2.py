"""GPT-2: a decoder that continues text, with its norms before each sublayer.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Tokens and learned
positions are added up, pass through pre-norm blocks of causal attention and feed-forward, and the
matrix of the embeddings scores the next token.

Differs from the paper:
* Attention weights are never dropped out, as that keeps fast kernels away; the published rate is
  kept for other readers.
* Positions are drawn with the deviation of all other weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from headway.models._config import TINY
from headway.models._decoder import (
    PARTS,
    Decoder,
    DecoderConfig,
    check_decoder,
    gpt_layers,
    make_heads,
    placed_embeddings,
    plain_attention,
    sizes,
)
from headway.names import Ignore, Layout, Rename, Split, Transpose, published_fields

PUBLISHED = ("gpt2",)
SPECIALS = "gpt"


@dataclass(frozen=True, kw_only=True)
class Gpt2Config(DecoderConfig):
    """Sizes and choices of a GPT-2."""

    eos_token_id: int = 0
    """Id of <|endoftext|>, which ends a text; recipes take the tokenizer's."""


# Table 2 of the paper; heads as published. The character and mini sizes are nanoGPT's and ours.
PRESETS = MappingProxyType(
    {
        "characters": sizes(384, 6, 6) | {"max_position_embeddings": 256},
        "mini": sizes(256, 6, 4) | {"max_position_embeddings": 256},
        "small": sizes(768, 12, 12),
        "medium": sizes(1024, 24, 16),
        "large": sizes(1280, 36, 20),
        "xl": sizes(1600, 48, 25),
    }
)
VARIANTS = {
    "untied": {"tie_word_embeddings": False, "activation": "relu", "num_hidden_layers": 1},
}


class Gpt2(Decoder):
    """Read a text from left to right.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "output".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: Gpt2Config, parts: tuple[str, ...] = PARTS) -> None:
        check_decoder(config, parts)
        attentions = (plain_attention(config) for _ in range(config.num_hidden_layers))
        super().__init__(
            config,
            parts,
            embeddings=placed_embeddings(config),
            decoder=gpt_layers(config, attentions),
        )

    @staticmethod
    def tiny() -> Gpt2Config:
        """Give the smallest sensible config."""
        return Gpt2Config(**TINY, max_position_embeddings=64, eos_token_id=1)


def conv_renames(layer: str, norms: tuple[str, str]) -> tuple[Any, ...]:
    """Name the parameters of a block as GPT and GPT-2 publish them: matrices the other way round.

    Args:
        layer: Published name of a block.
        norms: Of our residual connections that have the norms 1 and 2.
    """
    ours = "decoder.layers.{}."
    parts = tuple(f"{ours}attention.{name}" for name in ("query", "key", "value"))
    return (
        Split(f"{layer}.attn.c_attn", parts, axis=1, transposed=True),
        Transpose(f"{layer}.attn.c_proj", f"{ours}attention.output"),
        Transpose(f"{layer}.mlp.c_fc", f"{ours}feed_forward.up"),
        Transpose(f"{layer}.mlp.c_proj", f"{ours}feed_forward.down"),
        *(Rename(f"{layer}.ln_{n}", f"{ours}{name}.norm") for n, name in enumerate(norms, 1)),
        Ignore(f"{layer}.attn.bias"),
        Ignore(f"{layer}.attn.masked_bias"),
    )


CONV_CONFIG = MappingProxyType(
    {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
        "dropout": ("resid_pdrop", "embd_pdrop"),
        "attention_dropout": "attn_pdrop",
    }
)
LAYOUTS = (
    Layout(
        model_type="gpt2",
        heads=make_heads("GPT2", causal="LMHeadModel"),
        config=published_fields(
            Gpt2Config,
            {
                **CONV_CONFIG,
                "intermediate_size": "n_inner",
                "activation": "activation_function",
                "eos_token_id": ("eos_token_id", "bos_token_id"),
            },
        ),
        constants={
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "reorder_and_upcast_attn": False,
            "add_cross_attention": False,
        },
        prefix="transformer.",
        renames=(
            Rename("wte", "embeddings.token"),
            Rename("wpe", "embeddings.position"),
            *conv_renames("h.{}", ("after_attention", "after_feed_forward")),
            Rename("ln_f", "decoder.norm"),
        ),
    ),
)
