"""GPT: the first of them, a decoder that continues text, with its norms after each sublayer.

Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training". Tokens and
learned positions are added up, pass through post-norm blocks of causal attention and feed-forward,
and the matrix of the embeddings scores the next token. Tasks are learned by writing their inputs
as one text, with tokens that start, delimit and end it (section 3.3).

Differs from the paper:
* Attention weights are never dropped out, as that keeps fast kernels away; the published rate is
  kept for other readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from headway.layers.stacks import Layers
from headway.models._config import TINY
from headway.models._decoder import (
    PARTS,
    Decoder,
    DecoderConfig,
    check_decoder,
    gpt_block,
    make_heads,
    placed_embeddings,
    plain_attention,
    sizes,
)
from headway.models.gpt2 import CONV_CONFIG, conv_renames
from headway.names import Ignore, Layout, Rename, published_fields

PUBLISHED = ("openai-gpt",)
SPECIALS = "gpt"


@dataclass(frozen=True, kw_only=True)
class GptConfig(DecoderConfig):
    """Sizes and choices of a GPT."""

    vocab_size: int = 40478
    """Entries of the vocabulary; recipes take the tokenizer's."""
    max_position_embeddings: int = 512
    """Longest text, in tokens."""

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        return super().check() + self.fixed_problems()


# Section 4.1 of the paper.
PRESETS = MappingProxyType({"base": sizes(768, 12, 12)})
VARIANTS = {"untied": {"tie_word_embeddings": False, "num_hidden_layers": 1}}


class Gpt(Decoder):
    """Read a text from left to right.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "output".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: GptConfig, parts: tuple[str, ...] = PARTS) -> None:
        check_decoder(config, parts)
        blocks = (
            gpt_block(config, plain_attention(config), pre_norm=False)
            for _ in range(config.num_hidden_layers)
        )
        super().__init__(
            config,
            parts,
            embeddings=placed_embeddings(config),
            decoder=Layers(blocks, None),
            scales_residuals=False,
        )

    @staticmethod
    def tiny() -> GptConfig:
        """Give the smallest sensible config."""
        small = {**TINY, "intermediate_size": 64}
        return GptConfig(**small, max_position_embeddings=64)


LAYOUTS = (
    Layout(
        model_type="openai-gpt",
        heads=make_heads("OpenAIGPT", causal="LMHeadModel"),
        config=published_fields(
            GptConfig, {**CONV_CONFIG, "intermediate_size": (), "activation": ()}
        ),
        constants={"afn": "gelu"},
        prefix="transformer.",
        renames=(
            Rename("tokens_embed", "embeddings.token"),
            Rename("positions_embed", "embeddings.position"),
            *conv_renames("h.{}", ("after_attention", "after_feed_forward")),
            Ignore("position_ids"),
        ),
    ),
)
