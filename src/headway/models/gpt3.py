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

from headway.models._config import TINY, too_small
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
from headway.names import Ignore, Layout, Rename, published_fields, renames_below

PUBLISHED = ("gpt_neo",)
SPECIALS = "gpt"


@dataclass(frozen=True, kw_only=True)
class Gpt3Config(DecoderConfig):
    """Sizes and choices of a GPT-3."""

    window: int = 256
    """Tokens that every second layer can look back on."""
    max_position_embeddings: int = 2048
    """Longest text, in tokens."""
    dropout: float = 0.0
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    eos_token_id: int = 0
    """Id of <|endoftext|>, which ends a text; recipes take the tokenizer's."""

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        return super().check() + too_small(self, "window")


# Table 2.1 of the paper; see above for 1.3B and 13B.
PRESETS = MappingProxyType(
    {
        "125m": sizes(768, 12, 12),
        "350m": sizes(1024, 24, 16),
        "760m": sizes(1536, 24, 16),
        "1.3b": sizes(2048, 24, 16),
        "2.7b": sizes(2560, 32, 32),
        "6.7b": sizes(4096, 32, 32),
        "13b": sizes(5120, 40, 40),
        "175b": sizes(12288, 96, 96),
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
        attentions = (
            plain_attention(config, bias=False, scale=1.0, window=window) for window in windows
        )
        super().__init__(
            config,
            parts,
            embeddings=placed_embeddings(config),
            decoder=gpt_layers(config, attentions),
        )

    @staticmethod
    def tiny() -> Gpt3Config:
        """Give the smallest sensible config."""
        return Gpt3Config(**TINY, window=4, max_position_embeddings=64, eos_token_id=1)


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
        config=published_fields(
            Gpt3Config,
            {
                "num_hidden_layers": "num_layers",
                "num_attention_heads": "num_heads",
                "window": "window_size",
                "dropout": ("resid_dropout", "embed_dropout"),
                "activation": "activation_function",
                "eos_token_id": ("eos_token_id", "bos_token_id"),
            },
        ),
        derived=_alternate,
        prefix="transformer.",
        renames=(
            Rename("wte", "embeddings.token"),
            Rename("wpe", "embeddings.position"),
            *renames_below("h.{}", "decoder.layers.{}", _BLOCK),
            Rename("ln_f", "decoder.norm"),
            Ignore("h.{}.attn.attention.bias"),
            Ignore("h.{}.attn.attention.masked_bias"),
        ),
    ),
)
