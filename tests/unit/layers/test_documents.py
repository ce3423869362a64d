"""Packed rows, taken apart and put together again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headway.layers.documents import Unpacked, unpack
from headway.layers.side import Side

# The lengths of the documents of each row; an example may have nothing on this side.
PACKED = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=4).filter(
    lambda rows: any(any(row[1:]) for row in rows)
)
SINGLE = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def pack_side(rows: list[list[int]], *, extra: int = 0) -> Side:
    """Lay documents of these lengths one after the other; each token has an id of its own."""
    width = max(map(sum, rows)) + extra
    ids, documents, positions = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for number, row in enumerate(rows):
        place = 0
        for document, length in enumerate(row, 1):
            for position in range(length):
                ids[number, place] = 100 * number + place + 1
                documents[number, place] = document
                positions[number, place] = position
                place += 1
    return Side(input_ids=ids, documents=documents, positions=positions)


def documents_of(side: Side) -> list[list[int]]:
    """Read the ids of each document, row by row and number by number."""
    found = []
    for ids, documents in zip(side.ids.tolist(), side.documents.tolist(), strict=True):
        for number in sorted(set(documents) - {0}):
            pairs = zip(ids, documents, strict=True)
            found.append([token for token, document in pairs if document == number])
    return found


def take_apart(side: Side) -> Unpacked:
    unpacked = unpack(side)
    assert unpacked is not None
    return unpacked


def carry(unpacked: Unpacked, packed: Tensor) -> Tensor:
    """Move what stands in packed cells, (B, T, D), to the cells of the unpacked rows, by their ids.

    Ids are 1 + 100 row + place, see `pack_side`.
    """
    ids = unpacked.side.ids
    moved = torch.full((*ids.shape, packed.shape[-1]), torch.nan, dtype=packed.dtype)
    for row, line in enumerate(ids.tolist()):
        for place, token in enumerate(line):
            if token:
                moved[row, place] = packed[(token - 1) // 100, (token - 1) % 100]
    return moved


@given(PACKED, st.integers(0, 2))
def test_taking_apart_and_packing_again_changes_no_real_cell(rows, extra):
    side = pack_side(rows, extra=extra)
    unpacked = take_apart(side)
    hidden = torch.randn(*side.ids.shape, 2)
    packed = unpacked.pack(carry(unpacked, hidden))
    real = side.attention_mask
    assert packed.shape == hidden.shape
    assert torch.equal(packed[real], hidden[real])
    assert not packed[~real].any(), "padding of the unpacked rows, here NaN, does not get in"


@given(PACKED)
def test_each_document_gets_a_padded_row_in_the_order_of_row_and_number(rows):
    side = pack_side(rows)
    unpacked = take_apart(side)
    expected = Side.padded(documents_of(side))
    assert torch.equal(unpacked.side.ids, expected.ids)
    assert torch.equal(unpacked.side.documents, expected.documents)
    assert torch.equal(unpacked.side.positions, expected.positions)


@given(SINGLE, st.integers(1, 2))
def test_rows_of_one_document_are_left_as_they_are(lengths, extra):
    assert unpack(pack_side([[length] for length in lengths], extra=extra)) is None


@pytest.mark.parametrize("rows", [[[3, 2]], [[1], [1, 1]], [[0, 2], [1]]])
def test_a_second_document_in_any_row_is_something_to_do(rows):
    assert unpack(pack_side(rows)) is not None


def test_the_two_rows_of_an_example_by_hand():
    unpacked = take_apart(pack_side([[2, 1], [3]]))
    assert unpacked.side.ids.tolist() == [[1, 2, 0], [3, 0, 0], [101, 102, 103]]
    assert unpacked.side.documents.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    hidden = torch.tensor([[10.0, 20.0, -1.0], [30.0, -1.0, -1.0], [40.0, 50.0, 60.0]])
    assert unpacked.pack(hidden[:, :, None]).tolist() == [
        [[10.0], [20.0], [30.0]],
        [[40.0], [50.0], [60.0]],
    ]


def test_the_gradient_of_packing_reaches_real_cells_only():
    unpacked = take_apart(pack_side([[2, 1], [3]]))
    hidden = torch.randn(3, 3, 2, requires_grad=True)
    weights = torch.randn(2, 3, 2)
    (unpacked.pack(hidden) * weights).sum().backward()
    assert hidden.grad is not None
    assert torch.equal(unpacked.pack(hidden.grad), weights)
    assert not hidden.grad[~unpacked.side.attention_mask].any()
