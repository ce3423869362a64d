"""T5: an encoder-decoder that turns every task into text to text.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer" (arXiv 1910.10683). A Transformer whose norms stand before each sublayer and only
scale, without any bias; a token's place acts on attention alone, as a number for each head and
bucket of distances. Version 1.1 (Shazeer 2020, arXiv 2002.05202) has gated feed-forward layers and
an output layer of its own.

Differs from the paper:
* Attention weights are never dropped out, nor are inner feed-forward layers, as elsewhere here.
* The fresh embeddings' deviation is 1, as in the authors' code, which the paper leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.attention import projections
from headway.layers.blocks import FeedForward, GatedFeedForward, RmsNorm
from headway.layers.dropout import Dropout
from headway.layers.embeddings import to_autocast
from headway.layers.masks import document_mask, side_mask
from headway.layers.relative import RelativeBias
from headway.layers.side import Memory, Side
from headway.layers.stacks import DecodingState
from headway.models._config import no_shares, too_small, unknown_words
from headway.models._encoder_decoder import BlockParts, EncoderDecoder
from headway.names import (
    Ignore,
    Layout,
    PublishedHead,
    Rename,
    Tie,
    published_fields,
    renames_below,
)

PUBLISHED = ("t5",)
SPECIALS = "t5"
_MOST_TOKENS = 8192


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Sizes and choices of a T5."""

    vocab_size: int = 32128
    """Entries of the joint vocabulary; recipes take the tokenizer's."""
    hidden_size: int = 512
    """Width of hidden states and embeddings."""
    num_encoder_layers: int = 6
    """Blocks in the encoder."""
    num_decoder_layers: int = 0
    """Blocks in the decoder; 0: as many as in the encoder."""
    num_attention_heads: int = 8
    """Heads of each attention layer."""
    head_size: int = 64
    """Width of a head; all together may be wider than hidden_size."""
    intermediate_size: int = 2048
    """Inner width of the feed-forward layers."""
    feed_forward: str = "relu"
    """relu, or gated-gelu as in version 1.1."""
    num_buckets: int = 32
    """Buckets of distances."""
    max_distance: int = 128
    """From this distance on all share a bucket."""
    dropout: float = 0.1
    """Rate on embeddings and on each sublayer's result, 0 to below 1."""
    layer_norm_epsilon: float = 1e-6
    """Added to the mean square in every norm."""
    tie_word_embeddings: bool = True
    """Let the output layer share the embeddings' matrix and scale what it reads; not in 1.1."""
    pad_token_id: int = 0
    """Id of <pad>, which also starts decoding; recipes take the tokenizer's."""
    eos_token_id: int = 1
    """Id of </s>, which ends a text; recipes take the tokenizer's."""

    def __post_init__(self) -> None:
        if not self.num_decoder_layers:
            object.__setattr__(self, "num_decoder_layers", self.num_encoder_layers)

    @property
    def max_tokens(self) -> int:
        """Longest source or target: the network has no bound, but memory has."""
        return _MOST_TOKENS

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = too_small(
            self,
            *("vocab_size", "hidden_size", "num_encoder_layers", "num_decoder_layers"),
            *("num_attention_heads", "head_size", "intermediate_size"),
        )
        problems += no_shares(self, "dropout", "layer_norm_epsilon")
        if self.num_buckets < 4 or self.num_buckets % 4:
            problems.append(f"num_buckets is {self.num_buckets}, but a multiple of 4 is needed")
        if self.max_distance <= self.num_buckets // 2:
            problems.append(
                f"max_distance is {self.max_distance}, but must be above half of num_buckets "
                f"({self.num_buckets})"
            )
        return problems + unknown_words(self, {"feed_forward": ("relu", "gated-gelu")})


def _size(width: int, layers: int, heads: int, inner: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_encoder_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


_V1_1: Mapping[str, Any] = {"feed_forward": "gated-gelu", "tie_word_embeddings": False}
# Section 2.3.1 of the paper ("base") and 3.7; 1.1 as its checkpoints are published.
PRESETS = MappingProxyType(
    {
        "mini": _size(256, 4, 4, 1024),
        "small": _size(512, 6, 8, 2048),
        "base": _size(768, 12, 12, 3072),
        "large": _size(1024, 24, 16, 4096),
        "3b": _size(1024, 24, 32, 16384) | {"head_size": 128},
        "11b": _size(1024, 24, 128, 65536) | {"head_size": 128},
        "v1.1-base": _size(768, 12, 12, 2048) | _V1_1,
        "v1.1-large": _size(1024, 24, 16, 2816) | _V1_1,
        "v1.1-xxl": _size(4096, 24, 64, 10240) | _V1_1,
    }
)
VARIANTS = {
    "v1.1": {**_V1_1, "num_decoder_layers": 1, "head_size": 12},
    "few buckets": {"num_buckets": 8, "max_distance": 6},
}


class T5(EncoderDecoder):
    """Read a source with self-attention, write a target that attends to it.

    Args:
        config: Sizes and choices.
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        if problems := config.check():
            raise ConfigError("model: " + "; ".join(problems))
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        # One table of distances for all layers of a stack.
        self.encoder_bias, self.decoder_bias = _biases(config)
        parts = BlockParts(
            partial(_attention, config),
            partial(_feed_forward, config),
            partial(RmsNorm, config.hidden_size, eps=config.layer_norm_epsilon),
            dropout=config.dropout,
            pre_norm=True,
        )
        self.encoder = parts.encoder(config.num_encoder_layers)
        self.decoder = parts.decoder(config.num_decoder_layers)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()
        self.init_weights()

    def tie_weights(self) -> None:
        """Let the output layer share the embeddings' matrix, unless the config says no."""
        if self.config.tie_word_embeddings:
            self.output.weight = self.embeddings.weight

    def init_weights(self) -> None:
        """Draw all weights anew, as the authors' code does: normal, with these deviations.

        | parameter | deviation |
        |---|---|
        | embeddings, output layer of its own | 1 |
        | query | (D K)^-1/2, as scores are not scaled |
        | key, value, relative bias, feed-forward's way up | D^-1/2 |
        | output of attention | (H K)^-1/2 |
        | feed-forward's way down | F^-1/2 |

        Norms begin as 1.
        """
        width, head_size = self.config.hidden_size, self.config.head_size
        for name, module in self.named_modules():
            if isinstance(module, nn.RMSNorm):
                module.reset_parameters()
            elif name in ("embeddings", "output"):
                nn.init.normal_(module.weight, std=1.0)  # pyright: ignore
            elif isinstance(module, nn.Linear | nn.Embedding):
                inputs = width if isinstance(module, nn.Embedding) else module.in_features
                inputs *= head_size if name.endswith("query") else 1
                nn.init.normal_(module.weight, std=inputs**-0.5)

    def embed(self, side: Side) -> Tensor:
        """Look up tokens, (B, T) -> (B, T, D) float; their places are attention's business."""
        return self.dropout(to_autocast(F.embedding(side.ids, self.embeddings.weight)))

    def encode(self, source: Side) -> Memory:
        """Read the source.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float.
        """
        places = _places(source)
        sight = self.encoder_bias.see(places, places, side_mask(source, is_causal=False))
        memory = Memory.from_states(self.encoder.states(self.embed(source), sight), source)
        return replace(memory, hidden=self.dropout(memory.hidden))

    def decode(self, target: Side, memory: Memory) -> Tensor:
        """Write the target, every position at once.

        Args:
            target: (B, T). Starts with <pad>: position t sees what comes before it.
            memory: (B, S, D) float.
        Returns:
            hidden: (B, T, D) float.
        """
        places = _places(target)
        sight = self.decoder_bias.see(places, places, side_mask(target, is_causal=True))
        memory_mask = document_mask(target.documents, memory.documents)[:, None]
        return self._finish(self.decoder(self.embed(target), sight, memory.hidden, memory_mask))

    def _finish(self, hidden: Tensor) -> Tensor:
        # The authors' code: a shared matrix has the deviation of embeddings.
        factor = self.config.hidden_size**-0.5 if self.config.tie_word_embeddings else 1.0
        return self.dropout(hidden) * factor

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
        positions = ancestry.newest_positions, ancestry.positions
        sight = self.decoder_bias.see(*positions, ancestry.bias)
        hidden = F.embedding(input_ids, self.embeddings.weight)
        return self._finish(self.decoder.step(hidden, sight, state))

    @staticmethod
    def tiny() -> T5Config:
        """Give the smallest sensible config."""
        return T5Config(
            vocab_size=24,
            hidden_size=16,
            num_encoder_layers=2,
            num_attention_heads=2,
            head_size=8,
            intermediate_size=32,
            dropout=0.0,
        )


def _places(side: Side) -> Tensor:
    """Give places, (B, T) int64; padding counts on, so that rows of one text are alike."""
    steps = torch.arange(side.positions.shape[1], device=side.positions.device)
    return torch.where(side.attention_mask, side.positions, steps)


def _biases(config: T5Config) -> tuple[RelativeBias, RelativeBias]:
    make = partial(
        RelativeBias,
        config.num_attention_heads,
        num_buckets=config.num_buckets,
        max_distance=config.max_distance,
    )
    return make(both_ways=True), make(both_ways=False)


def _feed_forward(config: T5Config) -> nn.Module:
    width, inner = config.hidden_size, config.intermediate_size
    if config.feed_forward == "relu":
        return FeedForward(width, inner, "relu", bias=False)
    return GatedFeedForward(width, inner, "gelu_new")


def _attention(config: T5Config, kind: type[Any]) -> Any:
    width, joint = config.hidden_size, config.num_attention_heads * config.head_size
    layers = projections(width, joint, bias=False, output_bias=False)
    return kind(*layers, head_size=config.head_size, scale=1.0)


def _attention_renames(theirs: str, ours: str) -> tuple[Rename, ...]:
    pairs = [("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")]
    return renames_below(theirs, ours, pairs)


def _stack_renames(stack: str, up: tuple[tuple[str, str], ...]) -> tuple[Any, ...]:
    theirs, ours = f"{stack}.block.{{}}.layer.", f"{stack}.layers.{{}}."
    last, cross = "1", ()
    if stack == "decoder":
        last = "2"
        cross = (
            *_attention_renames(f"{theirs}1.EncDecAttention", f"{ours}cross_attention"),
            Rename(f"{theirs}1.layer_norm", f"{ours}after_cross_attention.norm"),
            # In the first checkpoints, and never used.
            Ignore(f"{theirs}1.EncDecAttention.relative_attention_bias"),
        )
    dense = [*up, ("wo", "down")]
    return (
        Rename(
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias",
            f"{stack}_bias",
        ),
        *_attention_renames(f"{theirs}0.SelfAttention", f"{ours}attention"),
        Rename(f"{theirs}0.layer_norm", f"{ours}after_attention.norm"),
        *cross,
        *renames_below(f"{theirs}{last}.DenseReluDense", f"{ours}feed_forward", dense),
        Rename(f"{theirs}{last}.layer_norm", f"{ours}after_feed_forward.norm"),
        Rename(f"{stack}.final_layer_norm", f"{stack}.norm"),
    )


def _settle(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say by one key whether the output layer is shared and scaled.

    transformers 5 calls embeddings of 1.1 tied, and says by another key what it computes.
    """
    scaled = published.get("scale_decoder_outputs")
    return published if scaled is None else {**published, "tie_word_embeddings": scaled}


_CONFIG = published_fields(
    T5Config,
    {
        "hidden_size": "d_model",
        "num_encoder_layers": ("num_layers", "num_hidden_layers"),
        "num_attention_heads": "num_heads",
        "head_size": "d_kv",
        "intermediate_size": "d_ff",
        "feed_forward": "feed_forward_proj",
        "num_buckets": "relative_attention_num_buckets",
        "max_distance": "relative_attention_max_distance",
        "dropout": "dropout_rate",
        "tie_word_embeddings": ("tie_word_embeddings", "scale_decoder_outputs"),
        "pad_token_id": ("pad_token_id", "decoder_start_token_id"),
    },
)


def _layout(feed_forward: str, up: tuple[tuple[str, str], ...]) -> Layout:
    return Layout(
        model_type="t5",
        heads={"translation": PublishedHead("T5ForConditionalGeneration")},
        when={"feed_forward": feed_forward},
        config=_CONFIG,
        constants={"is_encoder_decoder": True},
        settle=_settle,
        renames=(
            Rename("shared", "embeddings"),
            Tie("encoder.embed_tokens", "embeddings"),
            Tie("decoder.embed_tokens", "embeddings"),
            Rename("lm_head", "output"),
            *_stack_renames("encoder", up),
            *_stack_renames("decoder", up),
        ),
    )


LAYOUTS = (
    _layout("relu", (("wi", "up"),)),
    _layout("gated-gelu", (("wi_0", "gate"), ("wi_1", "up"))),
)
