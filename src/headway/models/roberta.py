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

from headway.layers.embeddings import InputEmbeddings
from headway.layers.stacks import EncoderLayers
from headway.models._encoder import (
    PARTS,
    Encoder,
    check_encoder,
    encoder_problems,
    make_block,
)
from headway.models.bert import CONFIG, CONSTANTS, HEAD_DROPOUT, RENAMES
from headway.names import Copy, Layout, PublishedHead, Rename

PUBLISHED = ("roberta",)
SPECIALS = "roberta"


@dataclass(frozen=True, kw_only=True)
class RobertaConfig:
    """Sizes and choices of a RoBERTa."""

    vocab_size: int = 50265
    """Entries of the vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 768
    """Width of hidden states and embeddings."""
    num_hidden_layers: int = 12
    """Blocks."""
    num_attention_heads: int = 12
    """Heads of each attention layer; a divisor of hidden_size."""
    intermediate_size: int = 3072
    """Inner width of the feed-forward layers."""
    max_position_embeddings: int = 514
    """Rows of the position table: the longest input, in tokens, and pad_token_id + 1 more."""
    type_vocab_size: int = 1
    """Segments that the model can tell apart."""
    dropout: float = 0.1
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    attention_dropout: float = 0.0
    """Kept for other readers: attention weights are never dropped out here."""
    activation: str = "gelu"
    """gelu, gelu_new, relu or silu, between the feed-forward layers."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance in every norm."""
    initializer_range: float = 0.02
    """Deviation of fresh weights."""
    tie_word_embeddings: bool = True
    """Let the masked-LM output share the embeddings' matrix."""
    pad_token_id: int = 1
    """Id of <pad>; recipes take the tokenizer's."""

    @property
    def max_tokens(self) -> int:
        """Longest input, in tokens."""
        return self.max_position_embeddings - self.pad_token_id - 1

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = encoder_problems(self)
        if self.type_vocab_size < 1:
            problems.append(f"type_vocab_size is {self.type_vocab_size}, but 1 is needed at least")
        if self.max_tokens < 1:
            problems.append(
                f"max_position_embeddings is {self.max_position_embeddings}, but positions begin "
                f"at pad_token_id + 1 = {self.pad_token_id + 1}"
            )
        return problems


# Section 2.1 and table 9 of the paper. The mini is BERT's, for small machines.
PRESETS = MappingProxyType(
    {
        "mini": {
            "hidden_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 1024,
        },
        "base": {},
        "large": {
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
        },
    }
)
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
        check_encoder(config, parts)
        super().__init__(
            config,
            parts,
            embeddings=InputEmbeddings(
                config.vocab_size,
                config.hidden_size,
                num_positions=config.max_position_embeddings,
                num_types=config.type_vocab_size,
                first_position=config.pad_token_id + 1,
                epsilon=config.layer_norm_epsilon,
                dropout=config.dropout,
            ),
            encoder=EncoderLayers(make_block(config) for _ in range(config.num_hidden_layers)),
            width=config.hidden_size,
            # Whatever the blocks have.
            guessed="gelu",
        )

    @staticmethod
    def tiny() -> RobertaConfig:
        """Give the smallest sensible config."""
        return RobertaConfig(
            vocab_size=24,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=66,
            dropout=0.0,
        )


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
_CLASSIFIER = (Rename("classifier", "head.output"),)
_SPAN = (Rename("qa_outputs", "head.output"),)

HEADS = MappingProxyType(
    {
        "body": PublishedHead("RobertaModel", ("pooler",), is_body=True),
        "masked_lm": PublishedHead("RobertaForMaskedLM", ("masked_lm",), _MASKED_LM),
        "sequence": PublishedHead(
            "RobertaForSequenceClassification", ("pooler",), _SEQUENCE, dropout=HEAD_DROPOUT
        ),
        "token": PublishedHead(
            "RobertaForTokenClassification", (), _CLASSIFIER, dropout=HEAD_DROPOUT
        ),
        "span": PublishedHead("RobertaForQuestionAnswering", (), _SPAN),
        "choice": PublishedHead("RobertaForMultipleChoice", ("pooler",), _CLASSIFIER),
    }
)

LAYOUTS = (
    Layout(
        model_type="roberta",
        heads=HEADS,
        config=CONFIG,
        constants=CONSTANTS,
        prefix="roberta.",
        renames=RENAMES,
    ),
)
