"""One side of a batch: how rows are laid out."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headway.layers.side import Side

ROWS = st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=4)


@given(ROWS)
def test_padded_rows_hold_their_tokens_then_padding(rows):
    side = Side.padded(rows, pad_id=7)
    width = max(len(row) for row in rows)
    assert side.ids.tolist() == [row + [7] * (width - len(row)) for row in rows]


@given(ROWS)
def test_each_padded_row_is_document_one_with_positions_from_zero(rows):
    side = Side.padded(rows)
    width = max(len(row) for row in rows)
    padding = [[0] * (width - len(row)) for row in rows]
    assert side.documents.tolist() == [
        [1] * len(row) + rest for row, rest in zip(rows, padding, strict=True)
    ]
    assert side.positions.tolist() == [
        [*range(len(row))] + rest for row, rest in zip(rows, padding, strict=True)
    ]


def test_the_attention_mask_is_true_on_real_tokens_of_any_document():
    documents = torch.tensor([[1, 1, 2, 0]])
    side = Side(documents=documents, positions=torch.tensor([[0, 1, 0, 0]]))
    assert side.attention_mask.tolist() == [[True, True, True, False]]


def test_features_take_the_place_of_tokens():
    features = torch.randn(2, 3, 4)
    side = Side.from_lengths(torch.tensor([3, 1]), features=features)
    assert side.documents.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert side.features is features
    with pytest.raises(TypeError, match="features, not token ids"):
        _ = side.ids


def test_a_side_of_nothing_is_refused():
    with pytest.raises(TypeError, match="input_ids or features"):
        Side.from_lengths(torch.tensor([1]))


def test_moving_a_side_moves_what_is_there_and_leaves_out_what_is_not():
    side = Side.padded([[1, 2], [3]])
    moved = side.to("meta")
    for field in fields(Side):
        before, after = getattr(side, field.name), getattr(moved, field.name)
        assert (before is None) == (after is None)
        if after is not None:
            assert after.device.type == "meta"
