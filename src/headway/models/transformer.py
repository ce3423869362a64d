"""The Transformer: an encoder-decoder of attention and feed-forward layers.

Vaswani et al. 2017, "Attention Is All You Need" (arXiv 1706.03762). The encoder lets every source
token look at every other; the decoder lets a target token look at those before it and at the
whole source; one matrix embeds both languages and, transposed, scores the next token.

Differs from the paper:
* The sinusoid's columns are laid sines first, then cosines: a fixed permutation of the hidden
  width that published checkpoints share and that training cannot tell apart.
* Attention weights are never dropped out (dropout on them keeps the fused kernels away), nor is
  the inner feed-forward layer; the paper drops neither.
* `norm="pre"` moves each norm before its sublayer and adds one at the end of each stack.
* The logit of `<pad>` is -10000 and its embedding zero: decoding starts from it, as in Marian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.attention import projections
from headway.layers.blocks import ACTIVATIONS, FeedForward, LayerNorm
from headway.layers.dropout import Dropout
from headway.layers.embeddings import to_autocast
from headway.layers.masks import document_mask, side_mask
from headway.layers.positions import Positions, sines_first, sinusoid
from headway.layers.side import Memory, Side
from headway.layers.sight import Sight
from headway.layers.stacks import DecodingState
from headway.models._config import no_shares, too_small, uneven_heads, unknown_words
from headway.models._encoder_decoder import BlockParts, EncoderDecoder
from headway.names import Layout, OneRow, PublishedHead, Rename, Tie, renames_below

PUBLISHED = ("marian", "pegasus")
SPECIALS = "translation"

_CHOICES = MappingProxyType(
    {
        "norm": ("post", "pre"),
        "positions": ("sinusoidal", "learned"),
        "activation": tuple(ACTIVATIONS),
    }
)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes and choices of a Transformer encoder-decoder."""

    vocab_size: int = 8000
    """Entries of the joint vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 256
    """Width of hidden states and embeddings."""
    num_encoder_layers: int = 3
    """Blocks in the encoder."""
    num_decoder_layers: int = 3
    """Blocks in the decoder."""
    num_attention_heads: int = 4
    """Heads of each attention layer; a divisor of hidden_size."""
    intermediate_size: int = 1024
    """Inner width of the feed-forward layers."""
    max_position_embeddings: int = 512
    """Longest source or target, in tokens."""
    dropout: float = 0.1
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    activation: str = "relu"
    """relu, gelu or swish, between the feed-forward layers."""
    norm: str = "post"
    """post (as published) or pre (trains without warm-up)."""
    positions: str = "sinusoidal"
    """sinusoidal or learned."""
    position_base: float = 10000.0
    """Base n of the sinusoid's wavelengths."""
    pad_token_id: int = 0
    """Id of <pad>, which also starts decoding; recipes take the tokenizer's."""
    eos_token_id: int = 1
    """Id of </s>, which ends a sentence; recipes take the tokenizer's."""

    @property
    def max_tokens(self) -> int:
        """Longest source or target."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = too_small(
            self,
            *("vocab_size", "hidden_size", "num_encoder_layers", "num_decoder_layers"),
            *("intermediate_size", "max_position_embeddings"),
        )
        problems += uneven_heads(self)
        if self.positions == "sinusoidal" and self.hidden_size % 2:
            problems.append(f"hidden_size is {self.hidden_size}, but sinusoids need an even width")
        problems += no_shares(self, "dropout")
        if not self.position_base > 1:
            problems.append(f"position_base is {self.position_base}, but must be above 1")
        return problems + unknown_words(self, _CHOICES)


# Table 3 of the paper; its joint vocabulary is "about 37000" (section 5.1).
PRESETS = MappingProxyType(
    {
        "base": {
            "vocab_size": 37000,
            "hidden_size": 512,
            "num_encoder_layers": 6,
            "num_decoder_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
        },
        "big": {
            "vocab_size": 37000,
            "hidden_size": 1024,
            "num_encoder_layers": 6,
            "num_decoder_layers": 6,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "dropout": 0.3,
        },
    }
)
VARIANTS = {
    "learned": {"positions": "learned", "activation": "gelu"},
    "pre-norm": {"norm": "pre", "activation": "swish", "num_encoder_layers": 1},
    "pre-norm-learned": {"norm": "pre", "positions": "learned", "activation": "silu"},
}


class Transformer(EncoderDecoder):
    """Read a source with self-attention, write a target that attends to it.

    Args:
        config: Sizes and choices.
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if problems := config.check():
            raise ConfigError("model: " + "; ".join(problems))
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        width, inner = config.hidden_size, config.intermediate_size
        parts = BlockParts(
            partial(_attention, config),
            partial(FeedForward, width, inner, config.activation),
            partial(LayerNorm, width),
            dropout=config.dropout,
            pre_norm=config.norm == "pre",
        )
        self.encoder = parts.encoder(config.num_encoder_layers, _make_positions(config))
        self.decoder = parts.decoder(config.num_decoder_layers, _make_positions(config))
        self.output = nn.Linear(config.hidden_size, config.vocab_size)
        self.output.bias.requires_grad_(False)
        self.tie_weights()
        self.init_weights()

    def tie_weights(self) -> None:
        """Let the output layer share the embeddings' matrix (section 3.4 of the paper)."""
        self.output.weight = self.embeddings.weight

    def init_weights(self) -> None:
        """Draw all weights anew.

        | parameter | distribution |
        |---|---|
        | embeddings | normal, deviation D^-1/2, row of <pad> zero |
        | learned positions | normal, deviation 0.02 |
        | linear weights | Xavier uniform |
        | biases, output bias | 0, that of <pad> -10000 |
        | norms | 1 and 0 |
        """
        config = self.config
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, Positions):
                module.init_weights()
        # After the linear layers: the output layer shares this matrix.
        nn.init.normal_(self.embeddings.weight, std=config.hidden_size**-0.5)
        with torch.no_grad():
            self.embeddings.weight[config.pad_token_id].zero_()
            self.output.bias[config.pad_token_id] = -10000.0

    def fixed_parameters(self) -> dict[str, Tensor]:
        """Give the parameters that the config determines; published files may leave them out."""
        fixed = {"output.bias": torch.zeros(self.config.vocab_size)}
        fixed["output.bias"][self.config.pad_token_id] = -10000.0
        if self.config.positions == "sinusoidal":
            size = self.config.max_position_embeddings, self.config.hidden_size
            table = sines_first(sinusoid(*size, base=self.config.position_base))
            fixed |= {f"{stack}.positions.weight": table for stack in ("encoder", "decoder")}
        return fixed

    def embed(self, side: Side, positions: nn.Module | None) -> Tensor:
        """Look up tokens and add their positions.

        Args:
            side: (B, T).
            positions: Of the encoder or the decoder.
        Returns:
            hidden: (B, T, D) float.
        """
        # The row of <pad> gets no gradient: decoding starts from a zero vector.
        hidden = F.embedding(side.ids, self.embeddings.weight, self.config.pad_token_id)
        hidden = hidden * math.sqrt(self.config.hidden_size) + positions(side.positions)  # pyright: ignore
        return self.dropout(to_autocast(hidden))

    def encode(self, source: Side) -> Memory:
        """Read the source.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float.
        """
        sight = Sight(source.positions, source.positions, side_mask(source, is_causal=False))
        entered = self.embed(source, self.encoder.positions)
        return Memory.from_states(self.encoder.states(entered, sight), source)

    def decode(self, target: Side, memory: Memory) -> Tensor:
        """Write the target, every position at once.

        Args:
            target: (B, T). Starts with <pad>: position t sees what comes before it.
            memory: (B, S, D) float.
        Returns:
            hidden: (B, T, D) float.
        """
        sight = Sight(target.positions, target.positions, side_mask(target, is_causal=True))
        memory_mask = document_mask(target.documents, memory.documents)[:, None]
        hidden = self.embed(target, self.decoder.positions)
        return self.decoder(hidden, sight, memory.hidden, memory_mask)

    def step(self, input_ids: Tensor, state: DecodingState) -> Tensor:
        """Advance every beam by one token.

        Args:
            input_ids: (B, R) int64. The newest token of each beam; <pad> to begin with.
            state: Changed in place.
        Returns:
            hidden: (B, R, D) float. What `logits` scores.
        """
        ancestry = state.ancestry
        ancestry.advance()
        sight = Sight(ancestry.newest_positions, ancestry.positions, ancestry.bias)
        hidden = F.embedding(input_ids, self.embeddings.weight) * math.sqrt(self.config.hidden_size)
        hidden = hidden + self.decoder.positions(ancestry.newest_positions)  # pyright: ignore
        return self.decoder.step(hidden, sight, state)

    @staticmethod
    def tiny() -> TransformerConfig:
        """Give the smallest sensible config."""
        return TransformerConfig(
            vocab_size=24,
            hidden_size=16,
            num_encoder_layers=2,
            num_decoder_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            pad_token_id=23,
            eos_token_id=1,
            dropout=0.0,
        )


def _make_positions(config: TransformerConfig) -> Positions:
    return Positions(
        config.max_position_embeddings,
        config.hidden_size,
        learned=config.positions == "learned",
        base=config.position_base,
    )


def _attention(config: TransformerConfig, kind: type[Any]) -> Any:
    width = config.hidden_size
    return kind(*projections(width, width), head_size=width // config.num_attention_heads)


def _stack_renames(stack: str) -> tuple[Rename, ...]:
    pairs = [
        ("self_attn.q_proj", "attention.query"),
        ("self_attn.k_proj", "attention.key"),
        ("self_attn.v_proj", "attention.value"),
        ("self_attn.out_proj", "attention.output"),
        ("self_attn_layer_norm", "after_attention.norm"),
        ("fc1", "feed_forward.up"),
        ("fc2", "feed_forward.down"),
        ("final_layer_norm", "after_feed_forward.norm"),
    ]
    if stack == "decoder":
        pairs += [
            ("encoder_attn.q_proj", "cross_attention.query"),
            ("encoder_attn.k_proj", "cross_attention.key"),
            ("encoder_attn.v_proj", "cross_attention.value"),
            ("encoder_attn.out_proj", "cross_attention.output"),
            ("encoder_attn_layer_norm", "after_cross_attention.norm"),
        ]
    return (
        *renames_below(f"model.{stack}.layers.{{}}", f"{stack}.layers.{{}}", pairs),
        Rename(f"model.{stack}.embed_positions", f"{stack}.positions"),
    )


_RENAMES = (
    Rename("model.shared", "embeddings"),
    Tie("model.encoder.embed_tokens", "embeddings"),
    Tie("model.decoder.embed_tokens", "embeddings"),
    Tie("lm_head", "embeddings"),
    OneRow("final_logits_bias", "output.bias"),
    *_stack_renames("encoder"),
    *_stack_renames("decoder"),
)

_CONFIG = MappingProxyType(
    {
        "vocab_size": ("vocab_size",),
        "hidden_size": ("d_model",),
        "num_encoder_layers": ("encoder_layers", "num_hidden_layers"),
        "num_decoder_layers": ("decoder_layers",),
        "num_attention_heads": ("encoder_attention_heads", "decoder_attention_heads"),
        "intermediate_size": ("encoder_ffn_dim", "decoder_ffn_dim"),
        "max_position_embeddings": ("max_position_embeddings",),
        "dropout": ("dropout",),
        "activation": ("activation_function",),
        "pad_token_id": ("pad_token_id", "decoder_start_token_id"),
        "eos_token_id": ("eos_token_id",),
        "positions": ("headway_positions",),
        "position_base": ("headway_position_base",),
    }
)
_CONSTANTS = MappingProxyType(
    {"scale_embedding": True, "is_encoder_decoder": True, "tie_word_embeddings": True}
)
_EXTRAS = MappingProxyType({"attention_dropout": 0.0, "activation_dropout": 0.0, "init_std": 0.02})

LAYOUTS = (
    Layout(
        model_type="marian",
        heads={"translation": PublishedHead("MarianMTModel")},
        when={"norm": "post"},
        config=_CONFIG,
        constants={**_CONSTANTS, "share_encoder_decoder_embeddings": True},
        extras={**_EXTRAS, "static_position_embeddings": True},
        renames=_RENAMES,
    ),
    Layout(
        model_type="pegasus",
        heads={"translation": PublishedHead("PegasusForConditionalGeneration")},
        when={"norm": "pre"},
        config=_CONFIG,
        constants=_CONSTANTS,
        # CTranslate2 asks for these two; transformers carries them along.
        extras={**_EXTRAS, "normalize_before": True, "normalize_embedding": False},
        renames=(
            *_RENAMES,
            Rename("model.encoder.layer_norm", "encoder.norm"),
            Rename("model.decoder.layer_norm", "decoder.norm"),
        ),
    ),
)
