"""Recurrent encoder-decoders: a fixed context in its three forms, or attention in two wirings.

A (bidirectional) LSTM or GRU reads the source; another writes the target. What the writer knows
of the source is what the papers differ in:

* fixed context, `attention = "none"`: the encoder's last state starts the decoder and nothing
  else (Sutskever, Vinyals, Le 2014, arXiv 1409.3215: `context = "initial"`), is concatenated to
  every decoder input as well (`"input"`), and to the output layer too, g(y, q, c) (Cho et al.
  2014, arXiv 1406.1078: `"output"`);
* attention with the previous state, the context fed into the cell (Bahdanau, Cho, Bengio 2015,
  arXiv 1409.0473: `wiring = "bahdanau"`);
* attention with the current state and the attentional state tanh(W[c; q]), with or without input
  feeding (Luong, Pham, Manning 2015, arXiv 1508.04025: `wiring = "luong"`).

Differs from the papers: readouts are one tanh layer of the embeddings' width (Bahdanau's has a
maxout), so that the output layer can share the embeddings; reversing the source is left to the
data; each decoder layer starts from tanh(W h) of the encoder's last state, an LSTM from W' c too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers import decoders, scoring
from headway.layers.decoders import DecodingState, RecurrentDecoder
from headway.layers.documents import unpack
from headway.layers.dropout import Dropout
from headway.layers.embeddings import to_autocast
from headway.layers.recurrent import RecurrentEncoder, RecurrentStack, RecurrentState, draw_weights
from headway.layers.side import Memory, Side
from headway.models._config import no_shares, too_small, unknown_words
from headway.names import Layout, PublishedHead, published_fields

PUBLISHED = ("headway-seq2seq",)
SPECIALS = "translation"

_CHOICES = MappingProxyType(
    {
        "cell": ("gru", "lstm"),
        "attention": ("none", "dot", "general", "concat", "key-query-value"),
        "window": ("global", "local-m", "local-p"),
        "wiring": ("bahdanau", "luong"),
        "context": ("initial", "input", "output"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Seq2seqConfig:
    """Sizes and choices of a recurrent encoder-decoder."""

    vocab_size: int = 8000
    """Entries of the joint vocabulary; recipes take the tokenizer's."""
    embedding_size: int = 256
    """Width of embeddings and of the readout."""
    hidden_size: int = 512
    """Width of the decoder's states, and of the encoder's, both directions together."""
    num_encoder_layers: int = 1
    """Layers of the encoder."""
    num_decoder_layers: int = 1
    """Layers of the decoder."""
    cell: str = "gru"
    """gru or lstm."""
    bidirectional: bool = True
    """Read the source backwards too."""
    attention: str = "concat"
    """none (fixed context), dot, general, concat (additive) or key-query-value (scaled)."""
    attention_size: int = 256
    """Inner width of the scores concat and key-query-value."""
    window: str = "global"
    """global, local-m (monotonic) or local-p (predictive)."""
    half_width: int = 10
    """D of the local windows [p - D, p + D], in source tokens."""
    wiring: str = "bahdanau"
    """bahdanau (previous state, context into the cell) or luong (current state)."""
    input_feeding: bool = True
    """luong only: feed the attentional state into the next step."""
    context: str = "output"
    """Fixed context only: where it goes: initial, input (also), output (also)."""
    dropout: float = 0.3
    """Rate on embeddings, between layers and on the readout."""
    tie_word_embeddings: bool = True
    """Let the output layer share the embeddings."""
    max_position_embeddings: int = 1024
    """Longest source or target, in tokens; recurrent layers have no other limit."""
    pad_token_id: int = 0
    """Id of <pad>, which also starts decoding; recipes take the tokenizer's."""
    eos_token_id: int = 1
    """Id of </s>; recipes take the tokenizer's."""

    @property
    def max_tokens(self) -> int:
        """Longest source or target, in tokens."""
        return self.max_position_embeddings

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = too_small(
            self,
            *("vocab_size", "embedding_size", "hidden_size", "attention_size", "half_width"),
            *("num_encoder_layers", "num_decoder_layers", "max_position_embeddings"),
        )
        if self.bidirectional and self.hidden_size % 2:
            problems.append(f"hidden_size is {self.hidden_size}, but two directions need it even")
        if self.attention == "none" and self.window != "global":
            problems.append(f"window is {self.window}, but attention is none: there is no window")
        return problems + no_shares(self, "dropout") + unknown_words(self, _CHOICES)


PRESETS = MappingProxyType(
    {
        # Sizes as in the papers' sections on experiments. Bahdanau's encoder has 1,000 units in
        # each direction; here both directions share `hidden_size`.
        "sutskever": {
            "embedding_size": 1000,
            "hidden_size": 1000,
            "num_encoder_layers": 4,
            "num_decoder_layers": 4,
            "cell": "lstm",
            "bidirectional": False,
            "attention": "none",
            "context": "initial",
            "dropout": 0.0,
        },
        "rnnsearch": {
            "embedding_size": 620,
            "hidden_size": 1000,
            "attention_size": 1000,
            "cell": "gru",
            "attention": "concat",
            "wiring": "bahdanau",
            "dropout": 0.0,
        },
        "luong": {
            "embedding_size": 1000,
            "hidden_size": 1000,
            "num_encoder_layers": 4,
            "num_decoder_layers": 4,
            "cell": "lstm",
            "bidirectional": False,
            "attention": "general",
            "window": "local-p",
            "wiring": "luong",
            "dropout": 0.2,
        },
    }
)

# Forms that every contract tries beside tiny(), which is Bahdanau's: fields that differ from it.
_LSTM = {"cell": "lstm", "num_encoder_layers": 2, "num_decoder_layers": 2}
VARIANTS = {
    "sutskever": {**_LSTM, "attention": "none", "context": "initial", "bidirectional": False},
    "cho-input": {"attention": "none", "context": "input", "bidirectional": False},
    "cho-output": {"attention": "none", "context": "output"},
    "luong-dot": {"wiring": "luong", "attention": "dot"},
    "luong-general": {**_LSTM, "wiring": "luong", "attention": "general"},
    "luong-concat": {"wiring": "luong", "attention": "concat"},
    "unfed-dot": {"wiring": "luong", "attention": "dot", "input_feeding": False},
    "unfed-general": {**_LSTM, "wiring": "luong", "attention": "general", "input_feeding": False},
    "unfed-concat": {"wiring": "luong", "attention": "concat", "input_feeding": False},
    "local-m": {"wiring": "luong", "input_feeding": False, "window": "local-m", "half_width": 2},
    "local-p": {"wiring": "luong", "attention": "general", "window": "local-p", "half_width": 2},
    "bahdanau-local-m": {"attention": "dot", "window": "local-m", "half_width": 2},
    "key-query-value": {"attention": "key-query-value"},
    "lstm": _LSTM,
    "gru": {**_LSTM, "cell": "gru"},
    "untied": {"tie_word_embeddings": False},
    "deep-encoder": {"attention": "none", "context": "initial", "num_encoder_layers": 2},
    "one-direction": {"bidirectional": False},
}


class Seq2seq(nn.Module):
    """Read a source with a recurrent encoder, write a target with a recurrent decoder.

    Args:
        config: Sizes and choices.
    Raises:
        ConfigError: if they do not fit each other.
    """

    kind = "encoder_decoder"
    stages = ("embeddings", "encoder.rnn.*_l{}*", "*bridge", "decoder")

    def __init__(self, config: Seq2seqConfig) -> None:
        super().__init__()
        if problems := config.check():
            raise ConfigError("model: " + "; ".join(problems))
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.dropout = Dropout(config.dropout)
        self.encoder = RecurrentEncoder(
            config.embedding_size,
            config.hidden_size // (2 if config.bidirectional else 1),
            num_layers=config.num_encoder_layers,
            cell=config.cell,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
        self.bridge = _make_bridge(config)
        self.cell_bridge = _make_bridge(config) if config.cell == "lstm" else None
        self.decoder = make_decoder(config)
        self.output = nn.Linear(config.embedding_size, config.vocab_size)
        self.tie_weights()
        self.init_weights()

    def tie_weights(self) -> None:
        """Let the output layer share the embeddings' matrix (Press and Wolf 2017, 1608.05859)."""
        if self.config.tie_word_embeddings:
            self.output.weight = self.embeddings.weight

    def init_weights(self) -> None:
        """Draw all weights anew.

        | parameter | distribution |
        |---|---|
        | matrices | Xavier uniform |
        | recurrent matrices | orthogonal, gate by gate |
        | biases | 0, that of <pad> in the output -10000 |
        | embeddings | normal, deviation E^-1/2, row of <pad> zero |
        """
        if self.embeddings.weight.is_meta:
            return
        draw_weights(self)
        nn.init.normal_(self.embeddings.weight, std=self.config.embedding_size**-0.5)
        with torch.no_grad():
            self.embeddings.weight[self.config.pad_token_id].zero_()
            self.output.bias[self.config.pad_token_id] = -10000.0

    def embed(self, ids: Tensor) -> Tensor:
        """Look up tokens, (B, T) int64 -> (B, T, E) float; <pad> is and stays zero."""
        embedded = F.embedding(ids, self.embeddings.weight, self.config.pad_token_id)
        return self.dropout(to_autocast(embedded))

    def encode(self, source: Side) -> Memory:
        """Read the source.

        Args:
            source: (B, S).
        Returns:
            memory: (B, S, D) float. One document in a row, also where the source is packed.
        """
        unpacked = unpack(source)
        side = source if unpacked is None else unpacked.side
        lengths = side.attention_mask.sum(1)
        reading = self.encoder(self.embed(side.ids), lengths)
        return Memory(
            hidden=reading.hidden,
            documents=side.documents,
            lengths=lengths,
            summary=reading.last,
            cells=reading.cells,
        )

    def decode(self, target: Side, memory: Memory) -> Tensor:
        """Write the target, every position from those before it.

        Args:
            target: (B, T). Starts with <pad>.
            memory: From `encode`: one document in a row.
        Returns:
            hidden: (B, T, E) float. What `logits` scores.
        """
        unpacked = unpack(target)
        side = target if unpacked is None else unpacked.side
        state = self.start(memory, num_beams=1, max_steps=side.ids.shape[1])
        embedded = self.embed(side.ids)
        hidden = self.dropout(self.decoder.unroll(embedded, state))
        return hidden if unpacked is None else unpacked.pack(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the next token.

        Args:
            hidden: (B, T, E) float.
        Returns:
            logits: (B, T, V) float.
        """
        return self.output(hidden)

    def start(self, memory: Memory, *, num_beams: int, max_steps: int) -> DecodingState:
        """Prepare step-by-step decoding.

        Args:
            memory: (B, S, D) float. One document in a row.
            num_beams: Beams R of each row.
            max_steps: Not needed: the state does not grow.
        """
        if memory.summary is None:
            raise TypeError("a recurrent decoder starts from the encoder's last state")
        hidden = tuple(map(torch.tanh, _cross(self.bridge, memory.summary, num_beams)))
        cells = None
        if self.cell_bridge is not None and memory.cells is not None:
            cells = tuple(_cross(self.cell_bridge, memory.cells, num_beams))
        return self.decoder.start(memory, RecurrentState(hidden, cells))

    def step(self, input_ids: Tensor, state: DecodingState) -> Tensor:
        """Advance every beam by one token.

        Args:
            input_ids: (B, R) int64. The newest token of each beam; <pad> to begin with.
            state: Changed in place.
        Returns:
            hidden: (B, R, E) float. What `logits` scores.
        """
        embedded = self.embed(input_ids)
        features = self.decoder.advance(self.decoder.stack.project(embedded), state)
        return self.decoder.read_out(features, embedded)

    @staticmethod
    def tiny() -> Seq2seqConfig:
        """Give the smallest sensible config."""
        return Seq2seqConfig(
            vocab_size=24,
            embedding_size=12,
            hidden_size=16,
            attention_size=8,
            max_position_embeddings=64,
            pad_token_id=23,
            dropout=0.0,
        )


def _make_bridge(config: Seq2seqConfig) -> nn.ModuleList:
    width = config.hidden_size
    return nn.ModuleList(nn.Linear(width, width) for _ in range(config.num_decoder_layers))


def _cross(bridge: nn.ModuleList, last: Tensor, num_beams: int) -> Iterator[Tensor]:
    """Map the encoder's layers, (L, B, D) float, to each of the decoder's, (B, R, D) float."""
    for number, layer in enumerate(bridge):
        # Aligned at the top: the encoder's last layer knows most, and nothing above is left out.
        state = layer(last[max(0, number + len(last) - len(bridge))])
        yield state[:, None].expand(-1, num_beams, -1)


def _make_attention(config: Seq2seqConfig) -> scoring.Attention:
    width = config.hidden_size
    score = {
        "dot": lambda: scoring.DotScore(width, width),
        "general": lambda: scoring.GeneralScore(width, width),
        "concat": lambda: scoring.AdditiveScore(width, width, inner_size=config.attention_size),
        "key-query-value": lambda: scoring.KeyQueryValueScore(
            width, width, inner_size=config.attention_size
        ),
    }[config.attention]()
    window = {
        "global": scoring.GlobalWindow,
        "local-m": lambda: scoring.LocalMonotonicWindow(config.half_width),
        "local-p": lambda: scoring.LocalPredictiveWindow(width, config.half_width),
    }[config.window]()
    return scoring.Attention(score, window)


def make_decoder(config: Seq2seqConfig) -> RecurrentDecoder:
    """Build the decoder that a config asks for."""
    stack = RecurrentStack(
        config.embedding_size,
        config.hidden_size,
        num_layers=config.num_decoder_layers,
        cell=config.cell,
        dropout=config.dropout,
    )
    width = config.embedding_size
    if config.attention == "none":
        return decoders.FixedContextDecoder(stack, readout_size=width, form=config.context)
    attention = _make_attention(config)
    if config.wiring == "bahdanau":
        return decoders.BahdanauDecoder(stack, attention, readout_size=width)
    return decoders.LuongDecoder(
        stack, attention, readout_size=width, input_feeding=config.input_feeding
    )


LAYOUTS = (
    Layout(
        model_type="headway-seq2seq",
        heads={"translation": PublishedHead("HeadwaySeq2seq")},
        config=published_fields(Seq2seqConfig),
    ),
)
