"""LSTM and GRU: torch's own layers, step by step, and an encoder that padding cannot touch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headway.layers.dropout import Dropout
from headway.layers.recurrent import Gru, Lstm, RecurrentEncoder, RecurrentStack, RecurrentState

CELLS = ("gru", "lstm")
INPUT, WIDTH = 3, 4


def draw(*shape: int, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def stack_pair(cell: str, num_layers: int) -> tuple[RecurrentStack, nn.RNNBase]:
    """Our stack and torch's, in float64, with the same weights."""
    torch.manual_seed(0)
    ours = RecurrentStack(INPUT, WIDTH, num_layers=num_layers, cell=cell, dropout=0.0).double()
    kind = nn.GRU if cell == "gru" else nn.LSTM
    theirs = kind(INPUT, WIDTH, num_layers, batch_first=True).double()
    with torch.no_grad():
        for mine, other in parameter_pairs(ours, theirs):
            other.copy_(mine)
    return ours, theirs


def parameter_pairs(ours: RecurrentStack, theirs: nn.RNNBase) -> list[tuple[Tensor, Tensor]]:
    pairs = []
    for number, layer in enumerate(ours.layers):
        for part, side in ((layer.input, "ih"), (layer.recurrent, "hh")):
            pairs.append((part.weight, getattr(theirs, f"weight_{side}_l{number}")))
            pairs.append((part.bias, getattr(theirs, f"bias_{side}_l{number}")))
    return pairs


def start_state(cell: str, num_layers: int, rows: int, beams: int) -> RecurrentState:
    shape = (rows, beams, WIDTH)
    hidden = tuple(draw(*shape, seed=50 + n).requires_grad_() for n in range(num_layers))
    cells = tuple(draw(*shape, seed=60 + n).requires_grad_() for n in range(num_layers))
    return RecurrentState(hidden, cells if cell == "lstm" else None)


def tensors_of(state: RecurrentState) -> list[Tensor]:
    return [*state.hidden, *(state.cell or ())]


def run_ours(stack: RecurrentStack, inputs: Tensor, state: RecurrentState):
    """Move beams (B, R, T, E) through all steps; give the last layer's (B, R, T, D)."""
    results = []
    for step in range(inputs.shape[2]):
        state = stack(stack.project(inputs[:, :, step]), state)
        results.append(state.hidden[-1])
    return torch.stack(results, dim=2), state


def run_theirs(stack: nn.RNNBase, inputs: Tensor, state: RecurrentState):
    """The same with each beam as a row of its own."""
    rows = inputs.shape[:2]

    def fold(states: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(states).flatten(1, 2)

    def unfold(states: Tensor) -> tuple[Tensor, ...]:
        return tuple(states.unflatten(1, rows))

    if state.cell is None:
        outputs, last = stack(inputs.flatten(0, 1), fold(state.hidden))
        return outputs.unflatten(0, rows), RecurrentState(unfold(last))
    first = (fold(state.hidden), fold(state.cell))
    outputs, (last, cell) = stack(inputs.flatten(0, 1), first)
    return outputs.unflatten(0, rows), RecurrentState(unfold(last), unfold(cell))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a_stack_moved_step_by_step_computes_what_torchs_layer_computes(cell, num_layers):
    ours, theirs = stack_pair(cell, num_layers)
    inputs, state = draw(2, 3, 5, INPUT), start_state(cell, num_layers, 2, 3)
    found, last = run_ours(ours, inputs, state)
    expected, expected_last = run_theirs(theirs, inputs, state)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (last.cell is None) == (cell == "gru")
    for mine, other in zip(tensors_of(last), tensors_of(expected_last), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_gradients_through_all_steps_are_torchs(cell, num_layers):
    ours, theirs = stack_pair(cell, num_layers)
    mix = draw(2, 3, 5, WIDTH, seed=7)
    collected = []
    for module, run in ((ours, run_ours), (theirs, run_theirs)):
        inputs = draw(2, 3, 5, INPUT).requires_grad_()
        state = start_state(cell, num_layers, 2, 3)
        (run(module, inputs, state)[0] * mix).sum().backward()
        collected.append([leaf.grad for leaf in (inputs, *tensors_of(state))])
    for mine, other in zip(*collected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-11)
    for mine, other in parameter_pairs(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=1e-11)


def test_one_step_of_a_gru_is_torchs_cell():
    torch.manual_seed(0)
    ours, theirs = Gru(INPUT, WIDTH).double(), nn.GRUCell(INPUT, WIDTH).double()
    theirs.load_state_dict(cell_weights(ours))
    inputs, hidden = draw(2, 1, INPUT), draw(2, 1, WIDTH, seed=2)
    found, cell = ours(ours.input(inputs), hidden, None)
    assert cell is None
    expected = theirs(inputs[:, 0], hidden[:, 0])
    torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-12)


def test_one_step_of_an_lstm_is_torchs_cell():
    torch.manual_seed(0)
    ours, theirs = Lstm(INPUT, WIDTH).double(), nn.LSTMCell(INPUT, WIDTH).double()
    theirs.load_state_dict(cell_weights(ours))
    inputs, hidden, cell = draw(2, 1, INPUT), draw(2, 1, WIDTH, seed=2), draw(2, 1, WIDTH, seed=3)
    found, found_cell = ours(ours.input(inputs), hidden, cell)
    expected, expected_cell = theirs(inputs[:, 0], (hidden[:, 0], cell[:, 0]))
    torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(found_cell[:, 0], expected_cell, rtol=0, atol=1e-12)


def cell_weights(layer: nn.Module) -> dict[str, Tensor]:
    return {
        "weight_ih": layer.input.weight,
        "weight_hh": layer.recurrent.weight,
        "bias_ih": layer.input.bias,
        "bias_hh": layer.recurrent.bias,
    }


def test_an_lstm_without_a_cell_starts_from_zeros():
    torch.manual_seed(0)
    layer = Lstm(INPUT, WIDTH).double()
    gates, hidden = layer.input(draw(2, 3, INPUT)), draw(2, 3, WIDTH, seed=2)
    found = layer(gates, hidden, None)
    expected = layer(gates, hidden, torch.zeros_like(hidden))
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("cell", CELLS)
def test_input_weights_applied_to_all_steps_at_once_are_those_of_each_step(cell):
    stack, _ = stack_pair(cell, 2)
    inputs = draw(2, 5, INPUT)
    gates = stack.project(inputs)
    assert gates.shape == (2, 5, (3 if cell == "gru" else 4) * WIDTH)
    for step in range(5):
        torch.testing.assert_close(gates[:, step], stack.project(inputs[:, step : step + 1])[:, 0])


def test_dropout_acts_between_the_layers_of_a_stack_and_not_on_its_result():
    torch.manual_seed(0)
    stack = RecurrentStack(INPUT, WIDTH, num_layers=2, cell="gru", dropout=0.5).double().train()
    state = start_state("gru", 2, 1, 9)
    gates = stack.project(draw(1, 9, INPUT))
    first, _ = stack.layers[0](gates, state.hidden[0], None)
    torch.manual_seed(4)
    second, _ = stack.layers[1](stack.layers[1].input(Dropout(0.5)(first)), state.hidden[1], None)
    torch.manual_seed(4)
    found = stack(gates, state)
    assert torch.equal(found.hidden[0], first)
    assert torch.equal(found.hidden[1], second)


@pytest.mark.parametrize("cell", CELLS)
def test_reordering_a_state_gives_each_beam_its_parents_memory(cell):
    state = start_state(cell, 2, 2, 3)
    parents = torch.tensor([[2, 2, 0], [1, 0, 1]])
    moved = state.reorder(parents)
    for before, after in zip(tensors_of(state), tensors_of(moved), strict=True):
        for row, beams in enumerate(parents.tolist()):
            assert torch.equal(after[row], before[row, beams])


@pytest.mark.parametrize("cell", CELLS)
def test_keeping_rows_of_a_state_keeps_their_memory(cell):
    state = start_state(cell, 2, 3, 2)
    kept = state.keep(torch.tensor([2, 0]))
    for before, after in zip(tensors_of(state), tensors_of(kept), strict=True):
        assert torch.equal(after, before[[2, 0]])


def encoder(cell: str, *, num_layers: int = 2, bidirectional: bool = True) -> RecurrentEncoder:
    torch.manual_seed(0)
    return RecurrentEncoder(
        INPUT, WIDTH, num_layers=num_layers, cell=cell, bidirectional=bidirectional, dropout=0.0
    ).double()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_encoder_reads_each_row_as_torch_reads_it_without_padding(cell, bidirectional):
    module = encoder(cell, bidirectional=bidirectional)
    lengths = [2, 6, 1, 4]
    embedded = draw(4, 6, INPUT)
    reading = module(embedded, torch.tensor(lengths))
    assert (reading.cells is None) == (cell == "gru")
    directions = 2 if bidirectional else 1
    for row, length in enumerate(lengths):
        expected, state = module.rnn(embedded[row, :length])
        torch.testing.assert_close(reading.hidden[row, :length], expected, rtol=0, atol=1e-12)
        ends = zip(
            (reading.last, reading.cells), state if cell == "lstm" else [state], strict=False
        )
        for found, wanted in ends:
            for layer in range(2):
                sides = wanted[layer * directions : (layer + 1) * directions]
                joined = torch.cat(list(sides))
                torch.testing.assert_close(found[layer, row], joined, rtol=0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    extra=st.integers(0, 3),
)
def test_padding_changes_nothing_and_stays_zero(cell, lengths, extra):
    module = encoder(cell)
    width = max(lengths)
    embedded = draw(len(lengths), width + extra, INPUT)
    other = embedded.clone()
    real = torch.arange(width + extra) < torch.tensor(lengths)[:, None]
    other[~real] = 1000.0
    reading = module(embedded, torch.tensor(lengths))
    same = module(other, torch.tensor(lengths))
    assert reading.hidden.shape == (len(lengths), width + extra, 2 * WIDTH)
    assert torch.equal(reading.hidden, same.hidden)
    assert torch.equal(reading.last, same.last)
    assert not reading.hidden[~real].any()


@pytest.mark.parametrize("cell", CELLS)
def test_padding_gets_no_gradient(cell):
    embedded = draw(2, 5, INPUT).requires_grad_()
    reading = encoder(cell)(embedded, torch.tensor([5, 2]))
    (reading.hidden.sum() + reading.last.sum()).backward()
    assert embedded.grad is not None
    assert embedded.grad[0].all()
    assert not embedded.grad[1, 2:].any()


@pytest.mark.parametrize("cell", CELLS)
def test_the_last_state_is_the_end_of_one_direction_beside_the_start_of_the_other(cell):
    lengths = [5, 2, 3]
    reading = encoder(cell)(draw(3, 5, INPUT), torch.tensor(lengths))
    hidden, last = reading.hidden, reading.last
    assert last.shape == (2, 3, 2 * WIDTH)
    for row, length in enumerate(lengths):
        assert torch.equal(last[-1, row, :WIDTH], hidden[row, length - 1, :WIDTH])
        assert torch.equal(last[-1, row, WIDTH:], hidden[row, 0, WIDTH:])


def test_an_encoder_of_one_layer_takes_a_dropout_rate_without_complaint(recwarn):
    RecurrentEncoder(INPUT, WIDTH, num_layers=1, cell="gru", bidirectional=True, dropout=0.3)
    assert not recwarn.list
