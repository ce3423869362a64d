"""ALBERT: BERT with small embeddings and one set of weights for all layers.

Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations"
(arXiv 1909.11942). Tokens are embedded in few dimensions and projected up to the hidden width;
the blocks of a group share their weights; pairs are told apart by their order.

Differs from the paper:
* Attention weights are never dropped out, as in `bert.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from headway.layers.sight import Sight
from headway.models._config import TINY, too_small
from headway.models._encoder import (
    PARTS,
    Encoder,
    EncoderConfig,
    make_block,
    make_heads,
    sizes,
)
from headway.models.bert import CONFIG_RENAMES, CONSTANTS, EMBEDDING_RENAMES
from headway.names import Copy, Layout, PublishedHead, Rename, published_fields, renames_below

PUBLISHED = ("albert",)
SPECIALS = "albert"


_MOST_BLOCKS = 1000


@dataclass(frozen=True, kw_only=True)
class AlbertConfig(EncoderConfig):
    """Sizes and choices of an ALBERT: where base differs from BERT's, and what BERT has not."""

    vocab_size: int = 30000
    """Entries of the vocabulary; recipes take the tokenizer's."""
    num_hidden_layers: int = 12
    """Times that a group of blocks is passed through."""
    dropout: float = 0.0
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    activation: str = "gelu_new"
    """gelu, gelu_new, relu or silu, between the feed-forward layers."""
    embedding_size: int = 128
    """Width of the embeddings."""
    num_hidden_groups: int = 1
    """Groups with weights of their own, each for as many layers in a row."""
    num_inner_layers: int = 1
    """Blocks in a group."""

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = super().check() + too_small(self, "embedding_size", "num_inner_layers")
        if not 1 <= self.num_hidden_groups <= max(1, self.num_hidden_layers):
            problems.append(
                f"num_hidden_groups is {self.num_hidden_groups}, but must be from 1 to "
                f"num_hidden_layers ({self.num_hidden_layers})"
            )
        if self.num_hidden_groups * self.num_inner_layers > _MOST_BLOCKS:
            problems.append(
                f"num_hidden_groups is {self.num_hidden_groups} and num_inner_layers "
                f"{self.num_inner_layers}, which together is beyond any model"
            )
        return problems


# Table 1 of the paper; heads as published. The mini is BERT's, for small machines.
PRESETS = MappingProxyType(
    {
        "mini": sizes(256, 4) | {"embedding_size": 128},
        "base": sizes(768, 12),
        "large": sizes(1024, 24),
        "xlarge": sizes(2048, 24) | {"num_attention_heads": 16},
        "xxlarge": sizes(4096, 12),
    }
)
VARIANTS = {
    "groups": {"num_hidden_groups": 2, "num_inner_layers": 2, "num_hidden_layers": 4},
    "untied": {"tie_word_embeddings": False, "activation": "gelu"},
}


class SharedLayers(nn.Module):
    """Groups of blocks, each passed through several times in a row.

    Args:
        config: Sizes and choices.
    Paper: Lan et al. 2020 (arXiv 1909.11942), section 3.1.
    """

    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.num_layers = config.num_hidden_layers
        self.layers_per_group = config.num_hidden_layers / config.num_hidden_groups
        self.project = nn.Linear(config.embedding_size, config.hidden_size)
        self.groups = nn.ModuleList(
            nn.ModuleList(make_block(config) for _ in range(config.num_inner_layers))
            for _ in range(config.num_hidden_groups)
        )

    def states(self, hidden: Tensor, sight: Sight, *, first: int = 0) -> Iterator[Tensor]:
        """Give the projected embeddings, (B, T, D) float, and then what leaves each layer.

        With `first`, `hidden` is what leaves so many layers, and what leaves the rest follows.
        """
        if not first:
            hidden = self.project(hidden)
        yield hidden
        for number in range(first, self.num_layers):
            # A fraction, rounded down, where they do not divide evenly: as the authors' code.
            group = self.groups[int(number / self.layers_per_group)]
            for block in group.children():
                hidden = block(hidden, sight)
            yield hidden


class Albert(Encoder):
    """Read a text, every token in sight of all others.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    # All layers share their weights.
    stages = ("embeddings", "encoder")

    def __init__(self, config: AlbertConfig, parts: tuple[str, ...] = PARTS) -> None:
        super().__init__(
            config,
            parts,
            width=config.embedding_size,
            layers=SharedLayers,
            guessed=config.activation,
        )

    def depth_of(self, num_stages: int) -> int | None:
        """Say which hidden state the lowest stages complete; None where it is none."""
        return self.config.num_hidden_layers if num_stages == len(self.stages) else None

    @staticmethod
    def tiny() -> AlbertConfig:
        """Give the smallest sensible config."""
        return AlbertConfig(**TINY, embedding_size=8, max_position_embeddings=64)


_BLOCK = (
    ("attention.query", "attention.query"),
    ("attention.key", "attention.key"),
    ("attention.value", "attention.value"),
    ("attention.dense", "attention.output"),
    ("attention.LayerNorm", "after_attention.norm"),
    ("ffn", "feed_forward.up"),
    ("ffn_output", "feed_forward.down"),
    ("full_layer_layer_norm", "after_feed_forward.norm"),
)
_MASKED_LM = (
    Rename("predictions.dense", "masked_lm.dense"),
    Rename("predictions.LayerNorm", "masked_lm.norm"),
    Rename("predictions.decoder", "masked_lm.output"),
    Copy("predictions.bias", "masked_lm.output.bias"),
)
_PAIR = Rename("sop_classifier.classifier", "head.output")

HEADS = make_heads(
    "Albert",
    _MASKED_LM,
    dropout=dict.fromkeys(("sequence", "token", "choice"), "classifier_dropout_prob"),
    pretraining={
        "masked_lm_pair": PublishedHead("AlbertForPreTraining", PARTS, (*_MASKED_LM, _PAIR))
    },
)

LAYOUTS = (
    Layout(
        model_type="albert",
        heads=HEADS,
        config=published_fields(
            AlbertConfig, {**CONFIG_RENAMES, "num_inner_layers": "inner_group_num"}
        ),
        constants=CONSTANTS,
        prefix="albert.",
        renames=(
            *EMBEDDING_RENAMES,
            Rename("encoder.embedding_hidden_mapping_in", "encoder.project"),
            *renames_below(
                "encoder.albert_layer_groups.{}.albert_layers.{}", "encoder.groups.{}.{}", _BLOCK
            ),
            Rename("pooler", "pooler.dense"),
        ),
    ),
)
