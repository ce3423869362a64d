"""Recurrent decoders, against the papers' equations in plain loops over numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from headway.layers.decoders import (
    BahdanauDecoder,
    DecodingState,
    FixedContextDecoder,
    LuongDecoder,
)
from headway.layers.recurrent import RecurrentStack, RecurrentState
from headway.layers.scoring import (
    AdditiveScore,
    Attention,
    GeneralScore,
    GlobalWindow,
    LocalMonotonicWindow,
)
from headway.layers.side import Memory
from slopes import slopes

# Two sources of 4 and 2 real positions, padded to 4; targets of 3 tokens.
LENGTHS = [4, 2]
ROWS, SOURCE, NUM_STEPS = 2, 4, 3
EMBEDDING, HIDDEN, INNER, HALF_WIDTH = 2, 3, 2, 1

Arrays = dict[str, np.ndarray]
Decoder = FixedContextDecoder | BahdanauDecoder | LuongDecoder


@dataclass(frozen=True)
class Case:
    """One decoder: its wiring, how it attends (None: a fixed context), its cell and layers."""

    wiring: str
    attention: str | None
    cell: str
    num_layers: int

    def __str__(self) -> str:
        return f"{self.wiring}-{self.attention or 'fixed'}-{self.cell}-{self.num_layers}"


FORMS = ("initial", "input", "output")
WIRINGS = ("bahdanau", "luong fed", "luong unfed")
CASES = [
    *(Case(form, None, *cell) for form in FORMS for cell in (("gru", 2), ("lstm", 2))),
    *(Case(wiring, "concat", "gru", 1) for wiring in WIRINGS),
    *(Case(wiring, "concat", "lstm", 2) for wiring in WIRINGS),
    # The window moves with the steps: their count matters.
    *(Case(wiring, "general local-m", "gru", 2) for wiring in WIRINGS),
    *(Case(wiring, "general local-m", "lstm", 1) for wiring in WIRINGS),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def build(case: Case) -> Decoder:
    torch.manual_seed(0)
    stack = RecurrentStack(
        EMBEDDING, HIDDEN, num_layers=case.num_layers, cell=case.cell, dropout=0.0
    )
    if case.attention is None:
        return FixedContextDecoder(stack, readout_size=EMBEDDING, form=case.wiring).double()
    if case.attention == "concat":
        attention = Attention(AdditiveScore(HIDDEN, HIDDEN, inner_size=INNER), GlobalWindow())
    else:
        attention = Attention(GeneralScore(HIDDEN, HIDDEN), LocalMonotonicWindow(HALF_WIDTH))
    if case.wiring == "bahdanau":
        return BahdanauDecoder(stack, attention, readout_size=EMBEDDING).double()
    feeding = case.wiring == "luong fed"
    return LuongDecoder(stack, attention, readout_size=EMBEDDING, input_feeding=feeding).double()


def draw(module: Decoder, case: Case) -> Arrays:
    """Give tokens, memory, first states and the module's parameters as arrays."""
    source = np.random.default_rng(1)
    arrays = {
        "embedded": source.normal(size=(ROWS, NUM_STEPS, EMBEDDING)),
        "memory": source.normal(size=(ROWS, SOURCE, HIDDEN)),
        "summary": source.normal(size=(2, ROWS, HIDDEN)),
        "hidden": source.normal(size=(case.num_layers, ROWS, HIDDEN)),
        "cell": source.normal(size=(case.num_layers, ROWS, HIDDEN)),
    }
    for name, parameter in module.named_parameters():
        arrays[name] = parameter.detach().numpy().copy()
    return arrays


def begin(
    module: Decoder, case: Case, tensors: dict[str, Tensor], *, num_beams: int = 1
) -> DecodingState:
    def beams(states: Tensor) -> tuple[Tensor, ...]:
        return tuple(state[:, None].expand(-1, num_beams, -1) for state in states)

    memory = Memory(
        hidden=tensors["memory"],
        documents=(torch.arange(SOURCE) < torch.tensor(LENGTHS)[:, None]).long(),
        lengths=torch.tensor(LENGTHS),
        summary=tensors["summary"],
    )
    cell = beams(tensors["cell"]) if case.cell == "lstm" else None
    return module.start(memory, RecurrentState(beams(tensors["hidden"]), cell))


def run(module: Decoder, case: Case, tensors: dict[str, Tensor]) -> Tensor:
    return module.unroll(tensors["embedded"], begin(module, case, tensors))


def as_tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: torch.tensor(array) for name, array in arrays.items()}


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def move_gru(arrays: Arrays, name: str, given: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """r, z = sigmoid(given + U h + b);  n = tanh(given + r (U h + b));  h' = (1 - z) n + z h.

    `given` is the input's part of each gate, W x + b.
    """
    weight, bias = arrays[f"{name}.recurrent.weight"], arrays[f"{name}.recurrent.bias"]
    moved = np.zeros(HIDDEN)
    for unit in range(HIDDEN):
        reset, update, new = unit, HIDDEN + unit, 2 * HIDDEN + unit
        r = sigmoid(given[reset] + weight[reset] @ hidden + bias[reset])
        z = sigmoid(given[update] + weight[update] @ hidden + bias[update])
        n = np.tanh(given[new] + r * (weight[new] @ hidden + bias[new]))
        moved[unit] = (1 - z) * n + z * hidden[unit]
    return moved


def move_lstm(
    arrays: Arrays, name: str, given: np.ndarray, hidden: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """i, f, o = sigmoid(.), g = tanh(.) of given + U h + b;  c' = f c + i g;  h' = o tanh(c')."""
    gates = given + arrays[f"{name}.recurrent.weight"] @ hidden + arrays[f"{name}.recurrent.bias"]
    moved, kept = np.zeros(HIDDEN), np.zeros(HIDDEN)
    for unit in range(HIDDEN):
        i, f, g, o = (gates[gate * HIDDEN + unit] for gate in range(4))
        kept[unit] = sigmoid(f) * cell[unit] + sigmoid(i) * np.tanh(g)
        moved[unit] = sigmoid(o) * np.tanh(kept[unit])
    return moved, kept


class Stack:
    """The layers of one row, moved by the formulas."""

    def __init__(self, arrays: Arrays, case: Case, row: int) -> None:
        self.arrays, self.case = arrays, case
        self.hidden = [state[row] for state in arrays["hidden"]]
        self.cell = [state[row] for state in arrays["cell"]]

    @property
    def top(self) -> np.ndarray:
        return self.hidden[-1]

    def move(self, token: np.ndarray, more: np.ndarray | float = 0.0) -> None:
        """Move all layers; `more` is what else goes into the first one's gates."""
        below = token
        for number in range(self.case.num_layers):
            name = f"stack.layers.{number}"
            given = self.arrays[f"{name}.input.weight"] @ below
            given = given + self.arrays[f"{name}.input.bias"]
            if number == 0:
                given = given + more
            before = self.hidden[number]
            if self.case.cell == "gru":
                below = move_gru(self.arrays, name, given, before)
            else:
                below, self.cell[number] = move_lstm(
                    self.arrays, name, given, before, self.cell[number]
                )
            self.hidden[number] = below


def attend(arrays: Arrays, case: Case, query: np.ndarray, row: int, step: int) -> np.ndarray:
    """Give the context: a mean of the real positions in reach, weighted by softmax."""
    memory, length = arrays["memory"][row], LENGTHS[row]
    inside = list(range(length))
    if case.attention != "concat":
        center = min(step, length - 1)
        inside = [s for s in inside if center - HALF_WIDTH <= s <= center + HALF_WIDTH]
    energies = []
    for s in inside:
        key = arrays["attention.score.key.weight"] @ memory[s]
        if case.attention == "concat":
            inner = np.tanh(arrays["attention.score.query.weight"] @ query + key)
            energies.append(float(arrays["attention.score.score.weight"][0] @ inner))
        else:
            energies.append(float(query @ key))
    total = sum(math.exp(energy) for energy in energies)
    context = np.zeros(HIDDEN)
    for s, energy in zip(inside, energies, strict=True):
        context += math.exp(energy) / total * memory[s]
    return context


def read(arrays: Arrays, *parts: np.ndarray) -> np.ndarray:
    """tanh(W [parts] + b)."""
    return np.tanh(arrays["readout.weight"] @ np.concatenate(parts) + arrays["readout.bias"])


def write_fixed(arrays: Arrays, case: Case, row: int, tokens: np.ndarray) -> Iterator[np.ndarray]:
    """s_t = cell(e_t or [e_t; c], s_{t-1});  answer g(s_t) or g(s_t, c, e_t); c = top summary."""
    stack, context = Stack(arrays, case, row), arrays["summary"][-1, row]
    for token in tokens:
        if case.wiring == "initial":
            stack.move(token)
        else:
            stack.move(token, arrays["context_input.weight"] @ context)
        parts = (stack.top, context, token) if case.wiring == "output" else (stack.top,)
        yield read(arrays, *parts)


def write_bahdanau(
    arrays: Arrays, case: Case, row: int, tokens: np.ndarray
) -> Iterator[np.ndarray]:
    """c_t = attend(s_{t-1});  s_t = cell([e_t; c_t], s_{t-1});  answer g(s_t, c_t, e_t)."""
    stack = Stack(arrays, case, row)
    for step, token in enumerate(tokens):
        context = attend(arrays, case, stack.top, row, step)
        stack.move(token, arrays["context_input.weight"] @ context)
        yield read(arrays, stack.top, context, token)


def write_luong(arrays: Arrays, case: Case, row: int, tokens: np.ndarray) -> Iterator[np.ndarray]:
    """s_t = cell(e_t or [e_t; a_{t-1}], s_{t-1});  answer a_t = tanh(W [attend(s_t); s_t])."""
    stack, fed = Stack(arrays, case, row), np.zeros(EMBEDDING)
    for step, token in enumerate(tokens):
        if case.wiring == "luong fed":
            stack.move(token, arrays["fed_input.weight"] @ fed)
        else:
            stack.move(token)
        fed = read(arrays, attend(arrays, case, stack.top, row, step), stack.top)
        yield fed


def write(arrays: Arrays, case: Case, row: int, tokens: np.ndarray) -> np.ndarray:
    """Give the answers to the tokens of one row, one below the other."""
    if case.attention is None:
        return np.stack(list(write_fixed(arrays, case, row, tokens)))
    if case.wiring == "bahdanau":
        return np.stack(list(write_bahdanau(arrays, case, row, tokens)))
    return np.stack(list(write_luong(arrays, case, row, tokens)))


def reference(arrays: Arrays, case: Case) -> np.ndarray:
    return np.stack([write(arrays, case, row, arrays["embedded"][row]) for row in range(ROWS)])


@each_case
def test_answers_are_those_of_the_formula(case):
    module = build(case)
    arrays = draw(module, case)
    found = run(module, case, as_tensors(arrays)).detach().numpy()
    np.testing.assert_allclose(found, reference(arrays, case), rtol=0, atol=1e-9)


@each_case
def test_gradients_are_the_slopes_of_the_formula(case):
    module = build(case)
    arrays = draw(module, case)
    mix = np.random.default_rng(2).normal(size=(ROWS, NUM_STEPS, EMBEDDING))
    given = {name: value.requires_grad_() for name, value in as_tensors(arrays).items()}
    (run(module, case, given) * torch.tensor(mix)).sum().backward()

    leaves = {**given, **dict(module.named_parameters())}
    assert set(leaves) == set(arrays)
    for name, array in arrays.items():
        expected = slopes(lambda: float((reference(arrays, case) * mix).sum()), array)
        grad = leaves[name].grad
        found = np.zeros_like(array) if grad is None else grad.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8, err_msg=name)


def move_beams(module: Decoder, tokens: Tensor, state: DecodingState) -> np.ndarray:
    """Move one step: (B, R, E) -> (B, R, E)."""
    features = module.advance(module.stack.project(tokens), state)
    return module.read_out(features, tokens).detach().numpy()


@each_case
def test_beams_that_change_places_go_on_from_what_their_parents_wrote(case):
    module = build(case)
    arrays = draw(module, case)
    num_beams = 3
    tokens = np.random.default_rng(3).normal(size=(NUM_STEPS, ROWS, num_beams, EMBEDDING))
    parents = [[2, 0, 2], [1, 1, 0]]
    state = begin(module, case, as_tensors(arrays), num_beams=num_beams)
    for now in tokens[:-1]:
        move_beams(module, torch.tensor(now), state)
    state.reorder(torch.tensor(parents))
    found = move_beams(module, torch.tensor(tokens[-1]), state)
    for row in range(ROWS):
        for beam, parent in enumerate(parents[row]):
            written = [*tokens[:-1, row, parent], tokens[-1, row, beam]]
            expected = write(arrays, case, row, np.stack(written))[-1]
            np.testing.assert_allclose(found[row, beam], expected, rtol=0, atol=1e-9)


@each_case
def test_rows_that_are_kept_go_on_with_their_own_source(case):
    module = build(case)
    arrays = draw(module, case)
    tokens = torch.tensor(arrays["embedded"])
    state = begin(module, case, as_tensors(arrays))
    for step in range(NUM_STEPS - 1):
        move_beams(module, tokens[:, step : step + 1], state)
    rows = [1, 0, 1]
    state.keep(torch.tensor(rows))
    found = move_beams(module, tokens[rows, -1:], state)
    expected = reference(arrays, case)[rows, -1:]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_fixed_context_needs_the_encoders_last_state():
    case = CASES[0]
    module = build(case)
    tensors = as_tensors(draw(module, case))
    memory = Memory(
        hidden=tensors["memory"],
        documents=torch.ones(ROWS, SOURCE, dtype=torch.long),
        lengths=torch.tensor(LENGTHS),
    )
    with pytest.raises(TypeError, match="the encoder's last state"):
        module.start(memory, RecurrentState(tuple(tensors["hidden"][:, :, None])))
