"""LSTM and GRU: a bidirectional encoder stack, and a decoder stack that moves step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from headway.layers.dropout import Dropout


def draw_weights(module: nn.Module) -> None:
    """Draw the weights of a recurrent network anew: Xavier uniform, biases 0.

    Matrices from state to state are orthogonal, gate by gate.
    """
    for name, parameter in module.named_parameters():
        if parameter.dim() < 2:
            nn.init.zeros_(parameter)
        elif "weight_hh" in name or ".recurrent.weight" in name:
            for gate in parameter.detach().split(parameter.shape[1]):
                nn.init.orthogonal_(gate)
        else:
            nn.init.xavier_uniform_(parameter)


@dataclass(frozen=True)
class RecurrentState:
    """What a decoder stack remembers, for R beams of each row; one tensor for each layer.

    Args:
        hidden: (B, R, D) float.
        cell: (B, R, D) float. LSTM only; None stands for zeros.
    """

    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...] | None = None

    def reorder(self, parents: Tensor) -> RecurrentState:
        """Let beam r continue what beam parents[:, r] was.

        Args:
            parents: (B, R) int64.
        """
        return self._map(lambda state: state.gather(1, parents[:, :, None].expand_as(state)))

    def keep(self, rows: Tensor) -> RecurrentState:
        """Keep these rows.

        Args:
            rows: (B,) int64.
        """
        return self._map(lambda state: state.index_select(0, rows))

    def _map(self, change: Callable[[Tensor], Tensor]) -> RecurrentState:
        cell = None if self.cell is None else tuple(map(change, self.cell))
        return RecurrentState(tuple(map(change, self.hidden)), cell)


@dataclass(frozen=True)
class Reading:
    """What a recurrent encoder made of its rows; D counts both directions, side by side.

    Args:
        hidden: (B, S, D) float. Zero on padding.
        last: (L, B, D) float. Last state of each layer.
        cells: (L, B, D) float. Last cell of each layer; LSTM only.
    """

    hidden: Tensor
    last: Tensor
    cells: Tensor | None = None


class RecurrentEncoder(nn.Module):
    """Read a sequence in both directions with a stack of LSTM or GRU layers.

    Args:
        input_size: Width E of the embedded tokens.
        hidden_size: Width of each direction.
        num_layers: Layers L.
        cell: "gru" or "lstm".
        bidirectional: Read backwards too; the two results are concatenated.
        dropout: Rate between layers.
    Paper: Schuster and Paliwal 1997; Cho et al. 2014 (arXiv 1406.1078) for the GRU.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int,
        cell: str,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        kind = nn.GRU if cell == "gru" else nn.LSTM
        self.rnn = kind(
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
        )

    def forward(self, embedded: Tensor, lengths: Tensor) -> Reading:
        """Encode rows of one document each.

        Args:
            embedded: (B, S, E) float.
            lengths: (B) int64. At least 1.
        """
        width = embedded.shape[1]
        # The recurrent kernels keep to one type; half precision is used where it is stored so.
        with torch.autocast(embedded.device.type, enabled=False):
            packed = pack_padded_sequence(
                embedded.to(next(self.rnn.parameters()).dtype),
                lengths.cpu(),
                batch_first=True,
                enforce_sorted=False,
            )
            packed_hidden, state = self.rnn(packed)
        hidden, _ = pad_packed_sequence(packed_hidden, batch_first=True, total_length=width)
        ends = state if isinstance(state, tuple) else (state,)
        results = (hidden, *map(self._join_directions, ends))
        return Reading(*(result.to(embedded.dtype) for result in results))

    def _join_directions(self, state: Tensor) -> Tensor:
        directions = 2 if self.rnn.bidirectional else 1
        apart = state.unflatten(0, (-1, directions)).transpose(1, 2)  # -> (L, B, 2, D/2)
        return apart.flatten(2)


class _Cell(nn.Module):
    """The weights of one layer that is moved one step at a time, all gates side by side."""

    num_gates: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input = nn.Linear(input_size, self.num_gates * hidden_size)
        self.recurrent = nn.Linear(hidden_size, self.num_gates * hidden_size)


class Gru(_Cell):
    """One GRU layer that is moved one step at a time.

    r, z = sigmoid(W x + U h);  n = tanh(W x + r * (U h));  h' = (1 - z) n + z h

    Paper: Cho et al. 2014 (arXiv 1406.1078), in the form of cuDNN and torch.nn.GRU (the reset
    gate acts after the product with U).
    """

    num_gates = 3

    def forward(
        self, gates: Tensor, hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Move one step.

        Args:
            gates: (B, R, 3D) float. `input` applied to this step's input.
            hidden: (B, R, D) float.
            cell: None.
        Returns:
            hidden: (B, R, D) float.
            cell: None.
        """
        size = hidden.shape[-1]
        recurrent = self.recurrent(hidden)
        reset, update = (
            (gates[..., : 2 * size] + recurrent[..., : 2 * size]).sigmoid().chunk(2, dim=-1)
        )
        new = torch.tanh(gates[..., 2 * size :] + reset * recurrent[..., 2 * size :])
        return new + update * (hidden - new), None


class Lstm(_Cell):
    """One LSTM layer that is moved one step at a time.

    i, f, o = sigmoid(W x + U h);  g = tanh(W x + U h);  c' = f c + i g;  h' = o tanh(c')

    Paper: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.
    """

    num_gates = 4

    def forward(
        self, gates: Tensor, hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Move one step.

        Args:
            gates: (B, R, 4D) float. `input` applied to this step's input; order i, f, g, o.
            hidden: (B, R, D) float.
            cell: (B, R, D) float. None stands for zeros.
        Returns:
            hidden: (B, R, D) float.
            cell: (B, R, D) float.
        """
        enter, forget, new, leave = (gates + self.recurrent(hidden)).chunk(4, dim=-1)
        fresh = enter.sigmoid() * new.tanh()
        now = fresh if cell is None else forget.sigmoid() * cell + fresh
        return leave.sigmoid() * now.tanh(), now


class RecurrentStack(nn.Module):
    """A stack of layers that is moved one step at a time, as decoders need it.

    Args:
        input_size: Width E of the first layer's input.
        hidden_size: Width D of every layer.
        num_layers: Layers L.
        cell: "gru" or "lstm".
        dropout: Rate between layers.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, num_layers: int, cell: str, dropout: float
    ) -> None:
        super().__init__()
        kind = Gru if cell == "gru" else Lstm
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(kind(size, hidden_size) for size in sizes)
        self.hidden_size = hidden_size
        self.gates_size = kind.num_gates * hidden_size
        self.dropout = Dropout(dropout)

    def project(self, inputs: Tensor) -> Tensor:
        """Apply the first layer's input weights, for as many steps as are known at once.

        Args:
            inputs: (B, T, E) float.
        Returns:
            gates: (B, T, G) float. G is the number of gates times D.
        """
        return self.layers[0].input(inputs)

    def forward(self, gates: Tensor, state: RecurrentState) -> RecurrentState:
        """Move all layers one step.

        Args:
            gates: (B, R, G) float. Of the first layer, from `project`.
            state: Of the step before.
        Returns:
            state: `hidden[-1]` is the stack's output, (B, R, D) float.
        """
        hidden_states: list[Tensor] = []
        cells: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                gates = layer.input(self.dropout(hidden_states[-1]))
            cell = None if state.cell is None else state.cell[number]
            hidden, cell = layer(gates, state.hidden[number], cell)
            hidden_states.append(hidden)
            if cell is not None:
                cells.append(cell)
        return RecurrentState(tuple(hidden_states), tuple(cells) or None)
