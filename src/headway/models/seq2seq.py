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
maxout), so that the output layer can share the embeddings; Sutskever's reversed source is left to
the data; every layer of the decoder starts from a bridge tanh(W h) of the encoder's last state.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.errors import ConfigError
from headway.layers.documents import unpack
from headway.layers.dropout import Dropout
from headway.layers.recurrent import RecurrentEncoder, RecurrentStack, RecurrentState
from headway.layers.scoring import (
    AdditiveScore,
    Attention,
    DotScore,
    GeneralScore,
    GlobalWindow,
    KeyQueryValueScore,
    LocalMonotonicWindow,
    LocalPredictiveWindow,
)
from headway.layers.side import Memory, Side
from headway.names import Layout

PUBLISHED = ("headway-seq2seq",)

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

    def check(self) -> list[str]:
        """Return every problem of these values, in the recipe's words."""
        problems = []
        for name in (
            "vocab_size",
            "embedding_size",
            "hidden_size",
            "num_encoder_layers",
            "num_decoder_layers",
            "attention_size",
            "half_width",
        ):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}, but at least 1 is needed")
        if self.bidirectional and self.hidden_size % 2:
            problems.append(f"hidden_size is {self.hidden_size}, but two directions need it even")
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout is {self.dropout}, but must be from 0 to below 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                problems.append(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(allowed)}"
                )
        return problems


PRESETS = MappingProxyType(
    {
        # The published networks, sizes as in the papers' sections on experiments.
        "sutskever": {
            "embedding_size": 1000,
            "hidden_size": 1000,
            "num_encoder_layers": 4,
            "num_decoder_layers": 4,
            "cell": "lstm",
            "bidirectional": False,
            "attention": "none",
            "context": "initial",
        },
        "rnnsearch": {
            "embedding_size": 620,
            "hidden_size": 1000,
            "attention_size": 1000,
            "cell": "gru",
            "attention": "concat",
            "wiring": "bahdanau",
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


class Seq2seq(nn.Module):
    """Read a source with a recurrent encoder, write a target with a recurrent decoder.

    Args:
        config: Sizes and choices.
    Raises:
        ConfigError: if they do not fit each other.
    """

    kind = "encoder_decoder"

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
        self.bridge = nn.ModuleList(
            nn.Linear(config.hidden_size, config.hidden_size)
            for _ in range(config.num_decoder_layers)
        )
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
        for name, parameter in self.named_parameters():
            if parameter.is_meta:
                return
            is_recurrent = "weight_hh" in name or ".recurrent.weight" in name
            if parameter.dim() < 2:
                nn.init.zeros_(parameter)
            elif is_recurrent:
                for gate in parameter.detach().split(parameter.shape[1]):
                    nn.init.orthogonal_(gate)
            else:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embeddings.weight, std=self.config.embedding_size**-0.5)
        with torch.no_grad():
            self.embeddings.weight[self.config.pad_token_id].zero_()
            self.output.bias[self.config.pad_token_id] = -10000.0

    def embed(self, ids: Tensor) -> Tensor:
        """Look up tokens, (B, T) int64 -> (B, T, E) float; <pad> is and stays zero."""
        embedded = F.embedding(ids, self.embeddings.weight, self.config.pad_token_id)
        if torch.is_autocast_enabled(embedded.device.type):
            embedded = embedded.to(torch.get_autocast_dtype(embedded.device.type))
        return self.dropout(embedded)

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
        embedded = self.embed(side.ids)
        # The recurrent kernels keep to one type; half precision is used where it is stored so.
        dtype = next(self.encoder.parameters()).dtype
        with torch.autocast(embedded.device.type, enabled=False):
            hidden, last = self.encoder(embedded.to(dtype), lengths)
        return Memory(
            hidden=hidden.to(embedded.dtype),
            documents=side.documents,
            lengths=lengths,
            summary=last.to(embedded.dtype),
        )

    def decode(self, target: Side, memory: Memory) -> Tensor:
        """Write the target, every position from those before it.

        Args:
            target: (B, T). Starts with <pad>.
            memory: (B, S, D) float.
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
        last = memory.summary
        hidden = tuple(
            torch.tanh(bridge(last[min(number, len(last) - 1)]))[:, None].expand(-1, num_beams, -1)
            for number, bridge in enumerate(self.bridge)
        )
        return self.decoder.start(memory, RecurrentState(hidden))

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


@dataclass(kw_only=True)
class DecodingState:
    """What a decoder remembers between steps; changed in place.

    Args:
        recurrent: States of the layers, (B, R, D) float each.
        key: (B, S, F) float. The memory, projected once.
        value: (B, S, D) float.
        lengths: (B) int64. Real source positions.
        context: (B, 1, D) float. The fixed context.
        fed: (B, R, E) float. Attentional state of the step before, where it is fed.
        step: Steps done.
    """

    recurrent: RecurrentState
    key: Tensor
    value: Tensor
    lengths: Tensor
    context: Tensor | None = None
    fed: Tensor | None = None
    step: int = 0

    def reorder(self, parents: Tensor) -> None:
        """Let beam r continue what beam parents[:, r], (B, R) int64, was."""
        self.recurrent = self.recurrent.reorder(parents)
        if self.fed is not None:
            self.fed = self.fed.gather(1, parents[:, :, None].expand_as(self.fed))

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, (B) int64."""
        self.recurrent = self.recurrent.keep(rows)
        for name in ("key", "value", "lengths", "context", "fed"):
            value = vars(self)[name]
            if value is not None:
                vars(self)[name] = value.index_select(0, rows)

    @property
    def steps(self) -> Tensor:
        """Give the number of the running step, (B, 1) int64."""
        return torch.full_like(self.lengths, self.step)[:, None]


def _make_stack(config: Seq2seqConfig) -> RecurrentStack:
    return RecurrentStack(
        config.embedding_size,
        config.hidden_size,
        num_layers=config.num_decoder_layers,
        cell=config.cell,
        dropout=config.dropout,
    )


def _make_attention(config: Seq2seqConfig) -> Attention:
    width = config.hidden_size
    score = {
        "dot": lambda: DotScore(width, width),
        "general": lambda: GeneralScore(width, width),
        "concat": lambda: AdditiveScore(width, width, inner_size=config.attention_size),
        "key-query-value": lambda: KeyQueryValueScore(
            width, width, inner_size=config.attention_size
        ),
    }[config.attention]()
    window = {
        "global": GlobalWindow,
        "local-m": lambda: LocalMonotonicWindow(config.half_width),
        "local-p": lambda: LocalPredictiveWindow(width, config.half_width),
    }[config.window]()
    return Attention(score, window)


def make_decoder(config: Seq2seqConfig) -> FixedContextDecoder | BahdanauDecoder | LuongDecoder:
    """Build the decoder that a config asks for."""
    if config.attention == "none":
        return FixedContextDecoder(config)
    return BahdanauDecoder(config) if config.wiring == "bahdanau" else LuongDecoder(config)


class FixedContextDecoder(nn.Module):
    """Write from one vector for the whole source.

    Paper: Sutskever et al. 2014 (arXiv 1409.3215); Cho et al. 2014 (arXiv 1406.1078), section 2.2.
    """

    def __init__(self, config: Seq2seqConfig) -> None:
        super().__init__()
        self.form = config.context
        self.stack = _make_stack(config)
        width = config.hidden_size
        if self.form != "initial":
            gates = self.stack.layers[0].num_gates * width
            self.context_input = nn.Linear(width, gates, bias=False)
        extra = width + config.embedding_size if self.form == "output" else 0
        self.readout = nn.Linear(width + extra, config.embedding_size)

    def start(self, memory: Memory, recurrent: RecurrentState) -> DecodingState:
        """Take the top layer's last encoder state as the context."""
        if memory.summary is None:
            raise TypeError("a fixed context is the encoder's last state")
        context = memory.summary[-1][:, None]  # (B, D) -> (B, 1, D)
        return DecodingState(
            recurrent=recurrent,
            key=memory.hidden,
            value=memory.hidden,
            lengths=memory.lengths,
            context=context,
        )

    def advance(self, gates: Tensor, state: DecodingState) -> Tensor:
        """Move one step: (B, R, G) float -> features (B, R, D) or (B, R, 2D) float."""
        context = state.context
        if context is None:
            raise TypeError("the state has no fixed context")
        if self.form != "initial":
            gates = gates + self.context_input(context)
        state.recurrent = self.stack(gates, state.recurrent)
        state.step += 1
        hidden = state.recurrent.hidden[-1]
        if self.form != "output":
            return hidden
        return torch.cat([hidden, context.expand_as(hidden)], dim=-1)

    def unroll(self, embedded: Tensor, state: DecodingState) -> Tensor:
        """Write known targets: (B, T, E) float -> (B, T, E) float."""
        features = _unroll(self, self.stack.project(embedded), state)
        return self.read_out(features, embedded)

    def read_out(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Join state, context and last token as the form says: g(q), or g(y, q, c)."""
        if self.form == "output":
            features = torch.cat([features, embedded], dim=-1)
        return torch.tanh(self.readout(features))


class BahdanauDecoder(nn.Module):
    """Attend with the previous state, feed the context into the cell.

    c_t = attend(s_{t-1});  s_t = cell([e_t; c_t], s_{t-1});  readout tanh(W [s_t; c_t; e_t])

    Paper: Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473), section 3.1 and appendix A.2.
    """

    def __init__(self, config: Seq2seqConfig) -> None:
        super().__init__()
        self.stack = _make_stack(config)
        width = config.hidden_size
        gates = self.stack.layers[0].num_gates * width
        self.attention = _make_attention(config)
        self.context_input = nn.Linear(width, gates, bias=False)
        self.readout = nn.Linear(2 * width + config.embedding_size, config.embedding_size)

    def start(self, memory: Memory, recurrent: RecurrentState) -> DecodingState:
        """Project the memory once."""
        key, value = self.attention.score.prepare(memory.hidden)
        return DecodingState(recurrent=recurrent, key=key, value=value, lengths=memory.lengths)

    def advance(self, gates: Tensor, state: DecodingState) -> Tensor:
        """Move one step: (B, R, G) float -> features (B, R, 2D) float."""
        query = state.recurrent.hidden[-1]
        context, _ = self.attention(query, state.key, state.value, state.lengths, state.steps)
        state.recurrent = self.stack(gates + self.context_input(context), state.recurrent)
        state.step += 1
        return torch.cat([state.recurrent.hidden[-1], context], dim=-1)

    def unroll(self, embedded: Tensor, state: DecodingState) -> Tensor:
        """Write known targets: (B, T, E) float -> (B, T, E) float."""
        features = _unroll(self, self.stack.project(embedded), state)
        return self.read_out(features, embedded)

    def read_out(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Join state, context and last token."""
        return torch.tanh(self.readout(torch.cat([features, embedded], dim=-1)))


class LuongDecoder(nn.Module):
    """Attend with the current state; answer from the attentional state.

    s_t = cell([e_t; a_{t-1}], s_{t-1});  c_t = attend(s_t);  a_t = tanh(W [c_t; s_t])

    a_{t-1} is in the cell's input only with input feeding. Without it nothing that attention
    gives goes back into the cell, so all positions attend at once.

    Paper: Luong, Pham, Manning 2015 (arXiv 1508.04025), sections 3 and 3.3.
    """

    def __init__(self, config: Seq2seqConfig) -> None:
        super().__init__()
        self.stack = _make_stack(config)
        width = config.hidden_size
        gates = self.stack.layers[0].num_gates * width
        self.attention = _make_attention(config)
        self.is_feeding = config.input_feeding
        if self.is_feeding:
            self.fed_input = nn.Linear(config.embedding_size, gates, bias=False)
        self.readout = nn.Linear(2 * width, config.embedding_size)

    def start(self, memory: Memory, recurrent: RecurrentState) -> DecodingState:
        """Project the memory once."""
        key, value = self.attention.score.prepare(memory.hidden)
        state = DecodingState(recurrent=recurrent, key=key, value=value, lengths=memory.lengths)
        if self.is_feeding:
            rows, beams, _ = recurrent.hidden[0].shape
            state.fed = memory.hidden.new_zeros(rows, beams, self.readout.out_features)
        return state

    def _attend(self, query: Tensor, state: DecodingState, steps: Tensor) -> Tensor:
        context, _ = self.attention(query, state.key, state.value, state.lengths, steps)
        return torch.tanh(self.readout(torch.cat([context, query], dim=-1)))

    def advance(self, gates: Tensor, state: DecodingState) -> Tensor:
        """Move one step: (B, R, G) float -> attentional state (B, R, E) float."""
        if state.fed is not None:
            gates = gates + self.fed_input(state.fed)
        state.recurrent = self.stack(gates, state.recurrent)
        attentional = self._attend(state.recurrent.hidden[-1], state, state.steps)
        state.step += 1
        if self.is_feeding:
            state.fed = attentional
        return attentional

    def unroll(self, embedded: Tensor, state: DecodingState) -> Tensor:
        """Write known targets: (B, T, E) float -> (B, T, E) float."""
        gates = self.stack.project(embedded)
        if self.is_feeding:
            return _unroll(self, gates, state)
        hidden = []
        for now in gates.unbind(1):
            state.recurrent = self.stack(now[:, None], state.recurrent)
            hidden.append(state.recurrent.hidden[-1])
        steps = torch.arange(gates.shape[1], device=gates.device)[None]
        return self._attend(torch.cat(hidden, dim=1), state, steps.expand(len(gates), -1))

    def read_out(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Give the attentional state as it is."""
        return features


def _unroll(
    decoder: FixedContextDecoder | BahdanauDecoder | LuongDecoder,
    gates: Tensor,
    state: DecodingState,
) -> Tensor:
    """Move through known inputs, (B, T, G) float -> features (B, T, .) float."""
    # unbind, not slices: the gradient of a slice is as large as the whole.
    features = [decoder.advance(now[:, None], state) for now in gates.unbind(1)]
    return torch.cat(features, dim=1)


LAYOUTS = (
    Layout(
        model_type="headway-seq2seq",
        architecture="HeadwaySeq2seq",
        config={item.name: (item.name,) for item in fields(Seq2seqConfig)},
    ),
)
HEADS = MappingProxyType({"translation": ()})
