"""Recurrent decoders: what they know of the source, and when they look at it.

All of them move step by step with `advance`, for R beams of each row, and through known targets
with `unroll`; training and search run the same step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headway.layers.recurrent import RecurrentStack, RecurrentState
from headway.layers.scoring import Attention
from headway.layers.side import Memory


@dataclass(kw_only=True)
class DecodingState:
    """What a decoder remembers between steps; changed in place.

    Args:
        recurrent: States of the layers, (B, R, D) float each.
        key: (B, S, F) float. The memory, projected once; a fixed context is one position, S = 1.
        value: (B, S, D) float.
        lengths: (B) int64. Real source positions.
        fed: (B, R, E) float. Attentional state of the step before, where it is fed.
        step: Steps done.
    """

    recurrent: RecurrentState
    key: Tensor
    value: Tensor
    lengths: Tensor
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
        for name in ("key", "value", "lengths", "fed"):
            value = vars(self)[name]
            if value is not None:
                vars(self)[name] = value.index_select(0, rows)

    @property
    def steps(self) -> Tensor:
        """Give the number of the running step, (B, 1) int64."""
        return torch.full_like(self.lengths, self.step)[:, None]


class RecurrentDecoder(nn.Module):
    """What the decoders below share: a memory projected once, known targets step by step.

    Args:
        stack: Moves the states.
        attention: Score and window; None where there is none.
    """

    def __init__(self, stack: RecurrentStack, attention: Attention | None = None) -> None:
        super().__init__()
        self.stack = stack
        if attention is not None:
            self.attention = attention

    def start(self, memory: Memory, recurrent: RecurrentState) -> DecodingState:
        """Project the memory once."""
        key, value = self.attention.score.prepare(memory.hidden)
        return DecodingState(recurrent=recurrent, key=key, value=value, lengths=memory.lengths)

    def unroll(self, embedded: Tensor, state: DecodingState) -> Tensor:
        """Write known targets: (B, T, E) float -> (B, T, E) float."""
        # unbind, not slices: the gradient of a slice is as large as the whole.
        steps = self.stack.project(embedded).unbind(1)
        features = [self.advance(gates[:, None], state) for gates in steps]
        return self.read_out(torch.cat(features, dim=1), embedded)


class FixedContextDecoder(RecurrentDecoder):
    """Write from one vector for the whole source.

    Args:
        stack: Moves the states.
        readout_size: Width E of embeddings and of what the output layer scores.
        form: "initial" (the vector starts the decoder), "input" (and is part of every input), or
            "output" (and of the readout: g(y, q, c)).
    Paper: Sutskever et al. 2014 (arXiv 1409.3215); Cho et al. 2014 (arXiv 1406.1078), section 2.2.
    """

    def __init__(self, stack: RecurrentStack, *, readout_size: int, form: str) -> None:
        super().__init__(stack)
        self.form = form
        width = stack.hidden_size
        if form != "initial":
            self.context_input = nn.Linear(width, stack.gates_size, bias=False)
        extra = width + readout_size if form == "output" else 0
        self.readout = nn.Linear(width + extra, readout_size)

    def start(self, memory: Memory, recurrent: RecurrentState) -> DecodingState:
        """Take the top layer's last encoder state as the context."""
        if memory.summary is None:
            raise TypeError("a fixed context is the encoder's last state")
        context = memory.summary[-1][:, None]  # (B, D) -> (B, 1, D)
        return DecodingState(
            recurrent=recurrent, key=context, value=context, lengths=memory.lengths
        )

    def advance(self, gates: Tensor, state: DecodingState) -> Tensor:
        """Move one step: (B, R, G) float -> features (B, R, D) or (B, R, 2D) float."""
        context = state.value
        if self.form != "initial":
            gates = gates + self.context_input(context)
        state.recurrent = self.stack(gates, state.recurrent)
        state.step += 1
        hidden = state.recurrent.hidden[-1]
        if self.form != "output":
            return hidden
        return torch.cat([hidden, context.expand_as(hidden)], dim=-1)

    def read_out(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Join state, context and last token as the form says: g(q), or g(y, q, c)."""
        if self.form == "output":
            features = torch.cat([features, embedded], dim=-1)
        return torch.tanh(self.readout(features))


class BahdanauDecoder(RecurrentDecoder):
    """Attend with the previous state, feed the context into the cell.

    c_t = attend(s_{t-1});  s_t = cell([e_t; c_t], s_{t-1});  readout tanh(W [s_t; c_t; e_t])

    Args:
        stack: Moves the states.
        attention: Score and window.
        readout_size: Width E of embeddings and of what the output layer scores.
    Paper: Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473), section 3.1 and appendix A.2.
    """

    def __init__(self, stack: RecurrentStack, attention: Attention, *, readout_size: int) -> None:
        super().__init__(stack, attention)
        width = stack.hidden_size
        self.context_input = nn.Linear(width, stack.gates_size, bias=False)
        self.readout = nn.Linear(2 * width + readout_size, readout_size)

    def advance(self, gates: Tensor, state: DecodingState) -> Tensor:
        """Move one step: (B, R, G) float -> features (B, R, 2D) float."""
        query = state.recurrent.hidden[-1]
        context, _ = self.attention(query, state.key, state.value, state.lengths, state.steps)
        state.recurrent = self.stack(gates + self.context_input(context), state.recurrent)
        state.step += 1
        return torch.cat([state.recurrent.hidden[-1], context], dim=-1)

    def read_out(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Join state, context and last token."""
        return torch.tanh(self.readout(torch.cat([features, embedded], dim=-1)))


class LuongDecoder(RecurrentDecoder):
    """Attend with the current state; answer from the attentional state.

    s_t = cell([e_t; a_{t-1}], s_{t-1});  c_t = attend(s_t);  a_t = tanh(W [c_t; s_t])

    a_{t-1} is in the cell's input only with input feeding. Without it nothing that attention
    gives goes back into the cell, so all positions attend at once.

    Args:
        stack: Moves the states.
        attention: Score and window.
        readout_size: Width E of embeddings and of what the output layer scores.
        input_feeding: Feed the attentional state into the next step.
    Paper: Luong, Pham, Manning 2015 (arXiv 1508.04025), sections 3 and 3.3.
    """

    def __init__(
        self,
        stack: RecurrentStack,
        attention: Attention,
        *,
        readout_size: int,
        input_feeding: bool,
    ) -> None:
        super().__init__(stack, attention)
        self.is_feeding = input_feeding
        self.readout_size = readout_size
        if input_feeding:
            self.fed_input = nn.Linear(readout_size, stack.gates_size, bias=False)
        self.readout = nn.Linear(2 * stack.hidden_size, readout_size)

    def start(self, memory: Memory, recurrent: RecurrentState) -> DecodingState:
        """Project the memory once; nothing was fed before the first step."""
        state = super().start(memory, recurrent)
        if self.is_feeding:
            rows, beams, _ = recurrent.hidden[0].shape
            state.fed = memory.hidden.new_zeros(rows, beams, self.readout_size)
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
        if self.is_feeding:
            return super().unroll(embedded, state)
        hidden = []
        for gates in self.stack.project(embedded).unbind(1):
            state.recurrent = self.stack(gates[:, None], state.recurrent)
            hidden.append(state.recurrent.hidden[-1])
        steps = torch.arange(len(hidden), device=embedded.device)[None]
        return self._attend(torch.cat(hidden, dim=1), state, steps.expand(len(embedded), -1))

    def read_out(self, features: Tensor, embedded: Tensor) -> Tensor:
        """Give the attentional state as it is."""
        return features
