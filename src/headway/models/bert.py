"""BERT: an encoder whose every token sees all others, trained to fill in what was masked.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers" (arXiv 1810.04805).
Tokens, positions and segments are added up, pass through post-norm Transformer blocks, and come
out as one vector each; the first token's, through one more layer, stands for the whole text.

Differs from the paper:
* Attention weights are never dropped out, as that keeps fast kernels away; the published rate is
  kept for other readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from headway.models._config import TINY
from headway.models._encoder import PARTS, Encoder, EncoderConfig, make_heads, sizes
from headway.names import (
    Copy,
    Ignore,
    Layout,
    PublishedHead,
    Rename,
    published_fields,
    renames_below,
)

PUBLISHED = ("bert",)
SPECIALS = "bert"


@dataclass(frozen=True, kw_only=True)
class BertConfig(EncoderConfig):
    """Sizes and choices of a BERT: what all its relatives have, with the values of base."""


# Base and large: section 3 of the paper. The small ones: Turc et al. 2019 (arXiv 1908.08962).
PRESETS = MappingProxyType(
    {
        "tiny": sizes(128, 2),
        "mini": sizes(256, 4),
        "small": sizes(512, 4),
        "medium": sizes(512, 8),
        "base": sizes(768, 12),
        "large": sizes(1024, 24),
    }
)
VARIANTS = {
    "untied": {"tie_word_embeddings": False, "activation": "relu"},
    "one segment": {"type_vocab_size": 1, "activation": "gelu_new", "num_hidden_layers": 1},
}


class Bert(Encoder):
    """Read a text, every token in sight of all others; `_encoder.py` has the network.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: BertConfig, parts: tuple[str, ...] = PARTS) -> None:
        super().__init__(config, parts, width=config.hidden_size, guessed=config.activation)

    @staticmethod
    def tiny() -> BertConfig:
        """Give the smallest sensible config."""
        return BertConfig(**TINY, max_position_embeddings=64)


EMBEDDING_RENAMES = (
    Rename("embeddings.word_embeddings", "embeddings.token"),
    Rename("embeddings.position_embeddings", "embeddings.position"),
    Rename("embeddings.token_type_embeddings", "embeddings.token_type"),
    Rename("embeddings.LayerNorm", "embeddings.norm"),
    Ignore("embeddings.position_ids"),
    Ignore("embeddings.token_type_ids"),
)
_BLOCK = (
    ("attention.self.query", "attention.query"),
    ("attention.self.key", "attention.key"),
    ("attention.self.value", "attention.value"),
    ("attention.output.dense", "attention.output"),
    ("attention.output.LayerNorm", "after_attention.norm"),
    ("intermediate.dense", "feed_forward.up"),
    ("output.dense", "feed_forward.down"),
    ("output.LayerNorm", "after_feed_forward.norm"),
)
RENAMES = (
    *EMBEDDING_RENAMES,
    *renames_below("encoder.layer.{}", "encoder.layers.{}", _BLOCK),
    Rename("pooler.dense", "pooler.dense"),
)

_MASKED_LM = (
    Rename("cls.predictions.transform.dense", "masked_lm.dense"),
    Rename("cls.predictions.transform.LayerNorm", "masked_lm.norm"),
    Rename("cls.predictions.decoder", "masked_lm.output"),
    Copy("cls.predictions.bias", "masked_lm.output.bias"),
)
_PAIR = Rename("cls.seq_relationship", "head.output")
HEAD_DROPOUT = "classifier_dropout"

HEADS = make_heads(
    "Bert",
    _MASKED_LM,
    dropout=dict.fromkeys(("sequence", "token", "choice"), HEAD_DROPOUT),
    pretraining={
        "masked_lm_pair": PublishedHead("BertForPreTraining", PARTS, (*_MASKED_LM, _PAIR)),
        "pair": PublishedHead("BertForNextSentencePrediction", ("pooler",), (_PAIR,)),
    },
)

CONFIG_RENAMES = MappingProxyType(
    {
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "activation": "hidden_act",
        "layer_norm_epsilon": "layer_norm_eps",
    }
)
CONSTANTS = MappingProxyType(
    {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}
)

LAYOUTS = (
    Layout(
        model_type="bert",
        heads=HEADS,
        config=published_fields(BertConfig, CONFIG_RENAMES),
        constants=CONSTANTS,
        prefix="bert.",
        renames=RENAMES,
    ),
)
