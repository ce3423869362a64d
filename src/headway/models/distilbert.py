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

import torch

from headway.layers.embeddings import InputEmbeddings
from headway.layers.stacks import EncoderLayers
from headway.models._encoder import (
    PARTS,
    Encoder,
    check_encoder,
    encoder_problems,
    make_block,
)
from headway.names import Ignore, Layout, PublishedHead, Rename

PUBLISHED = ("distilbert",)
SPECIALS = "bert"


@dataclass(frozen=True, kw_only=True)
class DistilbertConfig:
    """Sizes and choices of a DistilBERT."""

    vocab_size: int = 30522
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 768
    """Width of hidden states and embeddings."""
    num_hidden_layers: int = 6
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
    initializer_range: float = 0.02
    """Deviation of fresh weights."""
    tie_word_embeddings: bool = True
    """Let the masked-LM output share the embeddings' matrix."""
    pad_token_id: int = 0
    """Id of [PAD]; recipes take the tokenizer's."""

    # Fixed in the published code.
    layer_norm_epsilon = 1e-12

    @property
    def max_tokens(self) -> int:
        """Longest input, in tokens."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = encoder_problems(self)
        if self.max_position_embeddings < 1:
            problems.append(
                f"max_position_embeddings is {self.max_position_embeddings}, but at least 1 is "
                "needed"
            )
        return problems


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
        check_encoder(config, parts)
        super().__init__(
            config,
            parts,
            embeddings=InputEmbeddings(
                config.vocab_size,
                config.hidden_size,
                num_positions=config.max_position_embeddings,
                num_types=0,
                epsilon=config.layer_norm_epsilon,
                dropout=config.dropout,
            ),
            encoder=EncoderLayers(make_block(config) for _ in range(config.num_hidden_layers)),
            width=config.hidden_size,
            # The classifying heads' own layer.
            pooled=torch.relu,
            guessed=config.activation,
        )

    @staticmethod
    def tiny() -> DistilbertConfig:
        """Give the smallest sensible config."""
        return DistilbertConfig(
            vocab_size=24,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            dropout=0.0,
        )


def _renames() -> tuple[Rename, ...]:
    pairs = (
        ("attention.q_lin", "attention.query"),
        ("attention.k_lin", "attention.key"),
        ("attention.v_lin", "attention.value"),
        ("attention.out_lin", "attention.output"),
        ("sa_layer_norm", "after_attention.norm"),
        ("ffn.lin1", "feed_forward.up"),
        ("ffn.lin2", "feed_forward.down"),
        ("output_layer_norm", "after_feed_forward.norm"),
    )
    return tuple(
        Rename(f"transformer.layer.{{}}.{a}", f"encoder.layers.{{}}.{b}") for a, b in pairs
    )


_MASKED_LM = (
    Rename("vocab_transform", "masked_lm.dense"),
    Rename("vocab_layer_norm", "masked_lm.norm"),
    Rename("vocab_projector", "masked_lm.output"),
)
_CLASSIFIER = Rename("classifier", "head.output")
# The classifying heads own the pooling layer.
_POOLED = (Rename("pre_classifier", "pooler.dense"), _CLASSIFIER)
_DROPOUT = "seq_classif_dropout"

HEADS = MappingProxyType(
    {
        "body": PublishedHead("DistilBertModel", (), is_body=True),
        "masked_lm": PublishedHead("DistilBertForMaskedLM", ("masked_lm",), _MASKED_LM),
        "sequence": PublishedHead(
            "DistilBertForSequenceClassification", ("pooler",), _POOLED, dropout=_DROPOUT
        ),
        "token": PublishedHead("DistilBertForTokenClassification", (), (_CLASSIFIER,)),
        "span": PublishedHead(
            "DistilBertForQuestionAnswering",
            (),
            (Rename("qa_outputs", "head.output"),),
            dropout="qa_dropout",
        ),
        "choice": PublishedHead(
            "DistilBertForMultipleChoice", ("pooler",), _POOLED, dropout=_DROPOUT
        ),
    }
)

LAYOUTS = (
    Layout(
        model_type="distilbert",
        heads=HEADS,
        config=MappingProxyType(
            {
                "vocab_size": ("vocab_size",),
                "hidden_size": ("dim",),
                "num_hidden_layers": ("n_layers",),
                "num_attention_heads": ("n_heads",),
                "intermediate_size": ("hidden_dim",),
                "max_position_embeddings": ("max_position_embeddings",),
                "dropout": ("dropout",),
                "attention_dropout": ("attention_dropout",),
                "activation": ("activation",),
                "initializer_range": ("initializer_range",),
                "tie_word_embeddings": ("tie_word_embeddings",),
                "pad_token_id": ("pad_token_id",),
            }
        ),
        prefix="distilbert.",
        renames=(
            Rename("embeddings.word_embeddings", "embeddings.token"),
            Rename("embeddings.position_embeddings", "embeddings.position"),
            Rename("embeddings.LayerNorm", "embeddings.norm"),
            Ignore("embeddings.position_ids"),
            *_renames(),
        ),
    ),
)
