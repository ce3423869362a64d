"""What BERT and its relatives share: the network around their layers, and checks of sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.attention import SelfAttention, projections
from headway.layers.blocks import ACTIVATIONS, Block, FeedForward, LayerNorm, Residual
from headway.layers.embeddings import InputEmbeddings
from headway.layers.heads import MaskedLmHead
from headway.layers.masks import side_mask
from headway.layers.pooling import FirstTokenPooler
from headway.layers.side import Memory, Side, Start
from headway.layers.sight import Sight
from headway.layers.stacks import Layers
from headway.models._config import StackConfig, too_small
from headway.names import Entry, PublishedHead, Rename

# Optional parts of an encoder; which of them a published class has is in its layout.
PARTS = ("pooler", "masked_lm")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(StackConfig):
    """Sizes and choices that BERT and its relatives share; the values are those of BERT's base."""

    type_vocab_size: int = 2
    """Segments that the model can tell apart."""
    pad_token_id: int = 0
    """Id of [PAD] or <pad>; recipes take the tokenizer's."""

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        return super().check() + too_small(self, "type_vocab_size")


def sizes(width: int, layers: int) -> dict[str, int]:
    """Give the sizes of a published encoder: heads 64 wide, four times the width inside."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }


def make_block(config: Any) -> Block:
    """Build one block as BERT has it: post-norm, with the config's sizes."""
    width = config.hidden_size
    norms = [LayerNorm(width, eps=config.layer_norm_epsilon) for _ in range(2)]
    return Block(
        SelfAttention(*projections(width, width), head_size=width // config.num_attention_heads),
        FeedForward(width, config.intermediate_size, config.activation),
        *(Residual(norm, dropout=config.dropout, pre_norm=False) for norm in norms),
    )


def make_layers(config: Any) -> Layers:
    """Build as many blocks, each with weights of its own."""
    return Layers((make_block(config) for _ in range(config.num_hidden_layers)), None)


class Encoder(nn.Module):
    """What BERT and its relatives have in common: embeddings, layers, and parts on top.

    The families differ in their layers and in what everything is called, not in what is done with
    it; each file says how it differs from BERT.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
        width: Width E of the embeddings, to which the masked-LM head goes back.
        layers: Builds what gives the hidden states one after the other; BERT's blocks unless said.
        pooled: Activation of the pooler.
        guessed: Name of the masked-LM head's activation.
    Raises:
        ConfigError: if the sizes do not fit each other, or nobody has such a part.
    """

    kind = "encoder"
    # Whether positions are counted from the row after <pad>'s.
    counts_from_pad = False
    # Parts that training can freeze or slow down by themselves, from the input up.
    stages = ("embeddings", "encoder.layers.{}")

    def __init__(
        self,
        config: Any,
        parts: Sequence[str],
        *,
        width: int,
        layers: Callable[[Any], nn.Module] = make_layers,
        pooled: Callable[[Tensor], Tensor] = torch.tanh,
        guessed: str,
    ) -> None:
        super().__init__()
        problems = config.check()
        problems += [f"an encoder has no part {part!r}" for part in parts if part not in PARTS]
        if problems:
            raise ConfigError("model: " + "; ".join(problems))
        self.config, self.parts = config, tuple(parts)
        self.embeddings = InputEmbeddings(
            config.vocab_size,
            width,
            num_positions=config.max_position_embeddings,
            num_types=config.type_vocab_size,
            first_position=config.pad_token_id + 1 if self.counts_from_pad else 0,
            epsilon=config.layer_norm_epsilon,
            dropout=config.dropout,
        )
        self.encoder = layers(config)
        self.pooler = FirstTokenPooler(config.hidden_size, pooled) if "pooler" in parts else None
        self.masked_lm = None
        if "masked_lm" in parts:
            self.masked_lm = MaskedLmHead(
                config.hidden_size,
                width,
                config.vocab_size,
                activation=ACTIVATIONS[guessed],
                epsilon=config.layer_norm_epsilon,
            )
        self.init_weights()
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the masked-LM output share the embeddings' matrix, unless the config says no."""
        if self.masked_lm is not None and self.config.tie_word_embeddings:
            self.masked_lm.output.weight = self.embeddings.token.weight

    def init_weights(self, part: str = "") -> None:
        """Draw all weights, or those of one part, anew, as BERT's authors did.

        | parameter | distribution |
        |---|---|
        | matrices and tables | normal, deviation `initializer_range` |
        | row of <pad> | 0 |
        | biases | 0 |
        | norms | 1 and 0 |
        """
        config = self.config
        if self.embeddings.token.weight.is_meta and not part:
            # Built without memory, as for a file's tensors: there is nothing to draw.
            return
        for layer in self.get_submodule(part).modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                nn.init.normal_(layer.weight, std=config.initializer_range)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
            if isinstance(layer, nn.LayerNorm):
                layer.reset_parameters()
            if isinstance(layer, InputEmbeddings):
                with torch.no_grad():
                    layer.token.weight[config.pad_token_id].zero_()

    def hidden_states(self, source: Side) -> Iterator[Tensor]:
        """Give what enters the blocks, (B, T, D) float, and then what leaves each of them.

        Where the side brings hidden states along, those and what leaves the blocks above them.
        """
        mask = side_mask(source, is_causal=False)
        sight = Sight(source.positions, source.positions, mask)
        start = source.start or Start(self.embeddings(source), 0)
        return self.encoder.states(start.hidden, sight, first=start.depth)  # pyright: ignore

    def encode(self, source: Side) -> Memory:
        """Read a text.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float.
        """
        return Memory.from_states(self.hidden_states(source), source)

    def depth_of(self, num_stages: int) -> int | None:
        """Say which hidden state the lowest stages complete; None where it is none."""
        return num_stages - 1 if num_stages else None


CLASSIFIER = (Rename("classifier", "head.output"),)


def make_heads(
    names: str,
    masked_lm: tuple[Entry, ...],
    *,
    dropout: Mapping[str, str],
    pretraining: Mapping[str, PublishedHead] = MappingProxyType({}),
    sequence: tuple[Entry, ...] = CLASSIFIER,
    choice: tuple[Entry, ...] = CLASSIFIER,
) -> dict[str, PublishedHead]:
    """List the published classes of a family.

    Args:
        names: What its classes begin with.
        masked_lm: What the parameters of the masked-LM head are called.
        dropout: Kind of head -> published key with its rate of dropout.
        pretraining: Classes of the family's own for its pretraining.
        sequence: What those of a classifier of texts are called.
        choice: What those of a multiple-choice head are called.
    """
    span = (Rename("qa_outputs", "head.output"),)
    heads = {
        "body": PublishedHead(f"{names}Model", ("pooler",), is_body=True),
        "masked_lm": PublishedHead(f"{names}ForMaskedLM", ("masked_lm",), masked_lm),
        **pretraining,
        "sequence": PublishedHead(f"{names}ForSequenceClassification", ("pooler",), sequence),
        "token": PublishedHead(f"{names}ForTokenClassification", (), CLASSIFIER),
        "span": PublishedHead(f"{names}ForQuestionAnswering", (), span),
        "choice": PublishedHead(f"{names}ForMultipleChoice", ("pooler",), choice),
    }
    return {kind: replace(head, dropout=dropout.get(kind, "")) for kind, head in heads.items()}
