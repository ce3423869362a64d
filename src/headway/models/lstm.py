"""A (bidirectional) LSTM or GRU that reads a text: the encoder from before attention was all.

Schuster and Paliwal 1997, "Bidirectional Recurrent Neural Networks"; Zhou et al. 2016,
"Attention-Based Bidirectional Long Short-Term Memory Networks for Relation Classification" (ACL
P16-2034), who pool its states by attention: that is `task.pooling = "attention"` here. Tokens are
embedded and read in both directions; a token's state is both directions' states beside each other.

Differs from the papers:
* The states of both directions are concatenated, where Zhou et al. add them up.
* The pooled vector of its own is the forward state of the last token beside the backward state of
  the first: what each direction says when it has read everything.
* Nobody publishes such models in one layout: files are in our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.blocks import ACTIVATIONS
from headway.layers.documents import unpack
from headway.layers.dropout import Dropout
from headway.layers.embeddings import TokenEmbeddings
from headway.layers.heads import MaskedLmHead
from headway.layers.pooling import EndsPooler
from headway.layers.recurrent import RecurrentEncoder, draw_weights
from headway.layers.side import Memory, Side
from headway.models._config import no_shares, too_small
from headway.names import Layout, PublishedHead, published_fields

PUBLISHED = ("headway-lstm",)
SPECIALS = "bert"

PARTS = ("pooler", "masked_lm")


@dataclass(frozen=True, kw_only=True)
class LstmConfig:
    """Sizes and choices of a recurrent encoder."""

    vocab_size: int = 8000
    """Entries of the vocabulary; recipes take the tokenizer's."""
    embedding_size: int = 300
    """Width of the embedded tokens."""
    hidden_size: int = 512
    """Width of a token's state, both directions together."""
    num_hidden_layers: int = 1
    """Recurrent layers."""
    cell: str = "lstm"
    """lstm or gru."""
    bidirectional: bool = True
    """Read backwards too."""
    dropout: float = 0.3
    """Rate on the embedded tokens, between layers and on the states."""
    max_position_embeddings: int = 512
    """Longest input, in tokens; the network itself has no other limit."""
    pad_token_id: int = 0
    """Id of [PAD]; recipes take the tokenizer's."""

    @property
    def max_tokens(self) -> int:
        """Longest input, in tokens."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = too_small(
            self,
            *("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers"),
            "max_position_embeddings",
        )
        if self.bidirectional and self.hidden_size % 2:
            problems.append(f"hidden_size is {self.hidden_size}, but two directions share it")
        if self.cell not in ("lstm", "gru"):
            problems.append(f"cell is {self.cell!r}, but must be lstm or gru")
        return problems + no_shares(self, "dropout")


PRESETS = MappingProxyType(
    {
        # Zhou et al. 2016, section 4.2: 100 wide in each direction, words of 100.
        "zhou": {"embedding_size": 100, "hidden_size": 200, "dropout": 0.3, "vocab_size": 20000},
    }
)
VARIANTS = {
    "gru": {"cell": "gru", "num_hidden_layers": 2},
    "forwards": {"bidirectional": False},
}


class Lstm(nn.Module):
    """Read a text in both directions.

    Args:
        config: Sizes and choices.
        parts: What to have beside the layers: "pooler", "masked_lm".
    Raises:
        ConfigError: if the sizes do not fit each other.
    """

    kind = "encoder"
    stages = ("embeddings", "encoder.rnn.*_l{}*")

    def __init__(self, config: LstmConfig, parts: tuple[str, ...] = PARTS) -> None:
        super().__init__()
        if problems := config.check():
            raise ConfigError("model: " + "; ".join(problems))
        self.config, self.parts = config, tuple(parts)
        width, directions = config.hidden_size, 2 if config.bidirectional else 1
        self.embeddings = TokenEmbeddings(
            config.vocab_size, config.embedding_size, dropout=config.dropout
        )
        self.dropout = Dropout(config.dropout)
        self.encoder = RecurrentEncoder(
            config.embedding_size,
            width // directions,
            num_layers=config.num_hidden_layers,
            cell=config.cell,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.pooler = EndsPooler(directions) if "pooler" in parts else None
        self.masked_lm = None
        if "masked_lm" in parts:
            self.masked_lm = MaskedLmHead(
                width,
                config.embedding_size,
                config.vocab_size,
                activation=ACTIVATIONS["gelu"],
                epsilon=1e-12,
            )
        self.init_weights()
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the masked-LM output share the embeddings' matrix."""
        if self.masked_lm is not None:
            self.masked_lm.output.weight = self.embeddings.token.weight

    def init_weights(self, part: str = "") -> None:
        """Draw all weights, or those of one part, anew.

        | parameter | distribution |
        |---|---|
        | matrices | Xavier uniform |
        | recurrent matrices | orthogonal, gate by gate |
        | embeddings | normal, deviation E^-1/2, row of [PAD] zero |
        | biases | 0 |
        | norms | 1 and 0 |
        """
        if self.embeddings.token.weight.is_meta and not part:
            # Built without memory, as for a file's tensors: there is nothing to draw.
            return
        module = self.get_submodule(part)
        draw_weights(module)
        for layer in module.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.reset_parameters()
        if not part:
            nn.init.normal_(self.embeddings.token.weight, std=self.config.embedding_size**-0.5)
            with torch.no_grad():
                self.embeddings.token.weight[self.config.pad_token_id].zero_()

    def hidden_states(self, source: Side) -> Iterator[Tensor]:
        """Give the states of the last layer, (B, T, D) float: what is below has other widths."""
        unpacked = unpack(source)
        side = source if unpacked is None else unpacked.side
        reading = self.encoder(self.embeddings(side), side.attention_mask.sum(1))
        hidden = self.dropout(reading.hidden)
        yield hidden if unpacked is None else unpacked.pack(hidden)

    def encode(self, source: Side) -> Memory:
        """Read a text.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float.
        """
        return Memory.from_states(self.hidden_states(source), source)

    @staticmethod
    def tiny() -> LstmConfig:
        """Give the smallest sensible config."""
        return LstmConfig(
            vocab_size=24,
            embedding_size=12,
            hidden_size=16,
            dropout=0.0,
            max_position_embeddings=64,
        )


_POOLED = ("pooler",)
LAYOUTS = (
    Layout(
        model_type="headway-lstm",
        heads=MappingProxyType(
            {
                "body": PublishedHead("HeadwayLstm", _POOLED),
                "masked_lm": PublishedHead("HeadwayLstmForMaskedLM", ("masked_lm",)),
                "sequence": PublishedHead("HeadwayLstmForSequenceClassification", _POOLED),
                "token": PublishedHead("HeadwayLstmForTokenClassification", ()),
                "span": PublishedHead("HeadwayLstmForQuestionAnswering", ()),
                "choice": PublishedHead("HeadwayLstmForMultipleChoice", _POOLED),
            }
        ),
        config=published_fields(LstmConfig),
    ),
)
