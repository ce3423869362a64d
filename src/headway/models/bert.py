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

from headway.layers.embeddings import InputEmbeddings
from headway.layers.stacks import EncoderLayers
from headway.models._encoder import (
    PARTS,
    Encoder,
    check_encoder,
    encoder_problems,
    make_block,
)
from headway.names import Copy, Ignore, Layout, PublishedHead, Rename

PUBLISHED = ("bert",)
SPECIALS = "bert"


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Sizes and choices of a BERT."""

    vocab_size: int = 30522
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 768
    """Width of hidden states and embeddings."""
    num_hidden_layers: int = 12
    """Blocks."""
    num_attention_heads: int = 12
    """Heads of each attention layer; a divisor of hidden_size."""
    intermediate_size: int = 3072
    """Inner width of the feed-forward layers."""
    max_position_embeddings: int = 512
    """Longest input, in tokens."""
    type_vocab_size: int = 2
    """Segments that the model can tell apart."""
    dropout: float = 0.1
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    attention_dropout: float = 0.0
    """Kept for other readers: attention weights are never dropped out here."""
    activation: str = "gelu"
    """gelu, gelu_new, relu or silu, between the feed-forward layers."""
    layer_norm_epsilon: float = 1e-12
    """Added to the variance in every norm."""
    initializer_range: float = 0.02
    """Deviation of fresh weights."""
    tie_word_embeddings: bool = True
    """Let the masked-LM output share the embeddings' matrix."""
    pad_token_id: int = 0
    """Id of [PAD]; recipes take the tokenizer's."""

    @property
    def max_tokens(self) -> int:
        """Longest input, in tokens."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = encoder_problems(self)
        for name in ("max_position_embeddings", "type_vocab_size"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, but at least 1 is needed")
        return problems


def _sizes(width: int, layers: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }


# Base and large: section 3 of the paper. The small ones: Turc et al. 2019 (arXiv 1908.08962).
PRESETS = MappingProxyType(
    {
        "tiny": _sizes(128, 2),
        "mini": _sizes(256, 4),
        "small": _sizes(512, 4),
        "medium": _sizes(512, 8),
        "base": _sizes(768, 12),
        "large": _sizes(1024, 24),
    }
)
VARIANTS = {
    "untied": {"tie_word_embeddings": False, "activation": "relu"},
    "one segment": {"type_vocab_size": 1, "activation": "gelu_new", "num_hidden_layers": 1},
}


class Bert(Encoder):
    """Read a text, every token in sight of all others.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: BertConfig, parts: tuple[str, ...] = PARTS) -> None:
        check_encoder(config, parts)
        super().__init__(
            config,
            parts,
            embeddings=InputEmbeddings(
                config.vocab_size,
                config.hidden_size,
                num_positions=config.max_position_embeddings,
                num_types=config.type_vocab_size,
                epsilon=config.layer_norm_epsilon,
                dropout=config.dropout,
            ),
            encoder=EncoderLayers(make_block(config) for _ in range(config.num_hidden_layers)),
            width=config.hidden_size,
            guessed=config.activation,
        )

    @staticmethod
    def tiny() -> BertConfig:
        """Give the smallest sensible config."""
        return BertConfig(
            vocab_size=24,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            dropout=0.0,
        )


def block_renames(layer: str) -> tuple[Rename, ...]:
    """Name the parameters of a block as BERT and RoBERTa publish them."""
    pairs = (
        ("attention.self.query", "attention.query"),
        ("attention.self.key", "attention.key"),
        ("attention.self.value", "attention.value"),
        ("attention.output.dense", "attention.output"),
        ("attention.output.LayerNorm", "after_attention.norm"),
        ("intermediate.dense", "feed_forward.up"),
        ("output.dense", "feed_forward.down"),
        ("output.LayerNorm", "after_feed_forward.norm"),
    )
    return tuple(Rename(f"{layer}.{a}", f"encoder.layers.{{}}.{b}") for a, b in pairs)


EMBEDDING_RENAMES = (
    Rename("embeddings.word_embeddings", "embeddings.token"),
    Rename("embeddings.position_embeddings", "embeddings.position"),
    Rename("embeddings.token_type_embeddings", "embeddings.token_type"),
    Rename("embeddings.LayerNorm", "embeddings.norm"),
    Ignore("embeddings.position_ids"),
    Ignore("embeddings.token_type_ids"),
)

RENAMES = (
    *EMBEDDING_RENAMES,
    *block_renames("encoder.layer.{}"),
    Rename("pooler.dense", "pooler.dense"),
)

_MASKED_LM = (
    Rename("cls.predictions.transform.dense", "masked_lm.dense"),
    Rename("cls.predictions.transform.LayerNorm", "masked_lm.norm"),
    Rename("cls.predictions.decoder", "masked_lm.output"),
    Copy("cls.predictions.bias", "masked_lm.output.bias"),
)
_PAIR = Rename("cls.seq_relationship", "head.output")
_CLASSIFIER = Rename("classifier", "head.output")
HEAD_DROPOUT = "classifier_dropout"

HEADS = MappingProxyType(
    {
        "body": PublishedHead("BertModel", ("pooler",), is_body=True),
        "masked_lm": PublishedHead("BertForMaskedLM", ("masked_lm",), _MASKED_LM),
        "masked_lm_pair": PublishedHead("BertForPreTraining", PARTS, (*_MASKED_LM, _PAIR)),
        "pair": PublishedHead("BertForNextSentencePrediction", ("pooler",), (_PAIR,)),
        "sequence": PublishedHead(
            "BertForSequenceClassification", ("pooler",), (_CLASSIFIER,), dropout=HEAD_DROPOUT
        ),
        "token": PublishedHead(
            "BertForTokenClassification", (), (_CLASSIFIER,), dropout=HEAD_DROPOUT
        ),
        "span": PublishedHead(
            "BertForQuestionAnswering", (), (Rename("qa_outputs", "head.output"),)
        ),
        "choice": PublishedHead(
            "BertForMultipleChoice", ("pooler",), (_CLASSIFIER,), dropout=HEAD_DROPOUT
        ),
    }
)

CONFIG = MappingProxyType(
    {
        "vocab_size": ("vocab_size",),
        "hidden_size": ("hidden_size",),
        "num_hidden_layers": ("num_hidden_layers",),
        "num_attention_heads": ("num_attention_heads",),
        "intermediate_size": ("intermediate_size",),
        "max_position_embeddings": ("max_position_embeddings",),
        "type_vocab_size": ("type_vocab_size",),
        "dropout": ("hidden_dropout_prob",),
        "attention_dropout": ("attention_probs_dropout_prob",),
        "activation": ("hidden_act",),
        "layer_norm_epsilon": ("layer_norm_eps",),
        "initializer_range": ("initializer_range",),
        "tie_word_embeddings": ("tie_word_embeddings",),
        "pad_token_id": ("pad_token_id",),
    }
)
CONSTANTS = MappingProxyType(
    {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}
)

LAYOUTS = (
    Layout(
        model_type="bert",
        heads=HEADS,
        config=CONFIG,
        constants=CONSTANTS,
        prefix="bert.",
        renames=RENAMES,
    ),
)
