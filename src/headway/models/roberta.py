"""RoBERTa: BERT trained longer, on masked words alone, over bytes.

Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (arXiv 1907.11692). The
network is BERT's; what changed is the training (masks drawn anew each pass, no pairs of
sentences, larger batches) and the vocabulary of byte-level pieces.

Differs from the paper:
* Positions are counted from the row after <pad>'s, as in the authors' code and every published
  checkpoint: a table of 514 rows serves 512 tokens.
* Attention weights are never dropped out, as in `bert.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from headway.models._config import TINY, stack_problems, too_small
from headway.models._encoder import (
    PARTS,
    Encoder,
    EncoderConfig,
    make_heads,
    sizes,
)
from headway.models.bert import CONFIG_RENAMES, CONSTANTS, HEAD_DROPOUT, RENAMES
from headway.names import Copy, Layout, Rename, published_fields

PUBLISHED = ("roberta",)
SPECIALS = "roberta"


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(EncoderConfig):
    """Sizes and choices of a RoBERTa: where base differs from BERT's."""

    vocab_size: int = 50265
    """Entries of the vocabulary; recipes take the tokenizer's."""
    max_position_embeddings: int = 514
    """Rows of the position table: the longest input, in tokens, and pad_token_id + 1 more."""
    type_vocab_size: int = 1
    """Segments that the model can tell apart."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in every norm."""
    pad_token_id: int = 1
    """Id of <pad>; recipes take the tokenizer's."""

    @property
    def max_tokens(self) -> int:
        """Longest input, in tokens."""
        return self.max_position_embeddings - self.pad_token_id - 1

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = stack_problems(self) + too_small(self, "type_vocab_size")
        if self.max_tokens < 1:
            problems.append(
                f"max_position_embeddings is {self.max_position_embeddings}, but positions begin "
                f"at pad_token_id + 1 = {self.pad_token_id + 1}"
            )
        return problems


# Section 2.1 and table 9 of the paper. The mini is BERT's, for small machines.
PRESETS = MappingProxyType({"mini": sizes(256, 4), "base": {}, "large": sizes(1024, 24)})
VARIANTS = {"untied": {"tie_word_embeddings": False}}


class Roberta(Encoder):
    """Read a text, every token in sight of all others.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    counts_from_pad = True

    def __init__(self, config: RobertaConfig, parts: tuple[str, ...] = PARTS) -> None:
        # Masked words are guessed with this activation, whatever the blocks have.
        super().__init__(config, parts, width=config.hidden_size, guessed="gelu")

    @staticmethod
    def tiny() -> RobertaConfig:
        """Give the smallest sensible config."""
        return RobertaConfig(**TINY, max_position_embeddings=66)


_MASKED_LM = (
    Rename("lm_head.dense", "masked_lm.dense"),
    Rename("lm_head.layer_norm", "masked_lm.norm"),
    Rename("lm_head.decoder", "masked_lm.output"),
    Copy("lm_head.bias", "masked_lm.output.bias"),
)
# This head keeps its pooling layer to itself.
_SEQUENCE = (
    Rename("classifier.dense", "pooler.dense"),
    Rename("classifier.out_proj", "head.output"),
)

HEADS = make_heads(
    "Roberta",
    _MASKED_LM,
    dropout=dict.fromkeys(("sequence", "token"), HEAD_DROPOUT),
    sequence=_SEQUENCE,
)

LAYOUTS = (
    Layout(
        model_type="roberta",
        heads=HEADS,
        config=published_fields(RobertaConfig, CONFIG_RENAMES),
        constants=CONSTANTS,
        prefix="roberta.",
        renames=RENAMES,
    ),
)
