"""DistilBERT: BERT at half the depth, taught by BERT.

Sanh et al. 2019, "DistilBERT, a distilled version of BERT" (arXiv 1910.01108). BERT's blocks, every
second of them; no segments, and no pooler in the body: the classifying heads bring a layer with a
ReLU for the first token.

Differs from the paper:
* Attention weights are never dropped out, as in `bert.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch

from headway.models._config import TINY, stack_problems, too_small
from headway.models._encoder import (
    CLASSIFIER,
    PARTS,
    Encoder,
    EncoderConfig,
    make_heads,
)
from headway.names import Ignore, Layout, PublishedHead, Rename, published_fields, renames_below

PUBLISHED = ("distilbert",)
SPECIALS = "bert"


@dataclass(frozen=True, kw_only=True)
class DistilbertConfig(EncoderConfig):
    """Sizes and choices of a DistilBERT: where base differs from BERT's."""

    num_hidden_layers: int = 6
    """Blocks."""
    # No choices here: there are no segments, and the published code fixes the other.
    type_vocab_size: ClassVar[int] = 0
    layer_norm_epsilon: ClassVar[float] = 1e-12

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        return stack_problems(self) + too_small(self, "max_position_embeddings")


PRESETS = MappingProxyType({"base": {}})
VARIANTS = {"untied": {"tie_word_embeddings": False, "activation": "relu"}}


class Distilbert(Encoder):
    """Read a text, every token in sight of all others.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: DistilbertConfig, parts: tuple[str, ...] = PARTS) -> None:
        super().__init__(
            config,
            parts,
            width=config.hidden_size,
            # The classifying heads' own layer.
            pooled=torch.relu,
            guessed=config.activation,
        )

    @staticmethod
    def tiny() -> DistilbertConfig:
        """Give the smallest sensible config."""
        return DistilbertConfig(**TINY, max_position_embeddings=64)


_BLOCK = (
    ("attention.q_lin", "attention.query"),
    ("attention.k_lin", "attention.key"),
    ("attention.v_lin", "attention.value"),
    ("attention.out_lin", "attention.output"),
    ("sa_layer_norm", "after_attention.norm"),
    ("ffn.lin1", "feed_forward.up"),
    ("ffn.lin2", "feed_forward.down"),
    ("output_layer_norm", "after_feed_forward.norm"),
)
_MASKED_LM = (
    Rename("vocab_transform", "masked_lm.dense"),
    Rename("vocab_layer_norm", "masked_lm.norm"),
    Rename("vocab_projector", "masked_lm.output"),
)
# The classifying heads own the pooling layer.
_POOLED = (Rename("pre_classifier", "pooler.dense"), *CLASSIFIER)
_DROPOUT = "seq_classif_dropout"

HEADS = {
    **make_heads(
        "DistilBert",
        _MASKED_LM,
        dropout={"sequence": _DROPOUT, "choice": _DROPOUT, "span": "qa_dropout"},
        sequence=_POOLED,
        choice=_POOLED,
    ),
    "body": PublishedHead("DistilBertModel", (), is_body=True),
}
CONFIG_RENAMES = MappingProxyType(
    {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
)

LAYOUTS = (
    Layout(
        model_type="distilbert",
        heads=HEADS,
        config=published_fields(DistilbertConfig, CONFIG_RENAMES),
        prefix="distilbert.",
        renames=(
            Rename("embeddings.word_embeddings", "embeddings.token"),
            Rename("embeddings.position_embeddings", "embeddings.position"),
            Rename("embeddings.LayerNorm", "embeddings.norm"),
            Ignore("embeddings.position_ids"),
            *renames_below("transformer.layer.{}", "encoder.layers.{}", _BLOCK),
        ),
    ),
)
