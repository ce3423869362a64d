"""Packed rows taken apart into one document a row, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headway.layers.side import Side


@dataclass(frozen=True)
class Unpacked:
    """Documents in rows of their own, for layers that read a row from its beginning.

    Args:
        side: (B, T). One document in a row, in the order of (row, document number).
        places: (N) int64. For each real token of the packed rows, its cell in `side`.
        cells: (N) int64. Its cell in the packed rows.
        shape: Rows and length of the packed rows.
    """

    side: Side
    places: Tensor
    cells: Tensor
    shape: torch.Size

    def pack(self, hidden: Tensor) -> Tensor:
        """Lay results out as the packed rows were.

        Args:
            hidden: (B, T, D) float. One document in a row.
        Returns:
            packed: Rows and length of the packed side, D wide; zero on padding.
        """
        flat = hidden.flatten(0, 1).index_select(0, self.places)
        empty = flat.new_zeros(self.shape.numel(), hidden.shape[-1])
        return empty.index_copy(0, self.cells, flat).unflatten(0, self.shape)


def unpack(side: Side) -> Unpacked | None:
    """Take packed rows apart.

    Args:
        side: (B, T).
    Returns:
        unpacked: None where no row holds more than one document: there is nothing to do.
    """
    if int(side.documents.max()) <= 1:
        return None
    real = side.documents > 0
    rows = torch.arange(len(side.documents), device=real.device)[:, None]
    keys = (rows * (int(side.documents.max()) + 1) + side.documents)[real]
    _, numbers = keys.unique(return_inverse=True)
    positions = side.positions[real]
    count, width = int(numbers.max()) + 1, int(positions.max()) + 1
    lengths = numbers.bincount(minlength=count)
    ids = side.ids.new_zeros(count, width)
    ids[numbers, positions] = side.ids[real]
    cells = real.flatten().nonzero().squeeze(1)
    unpacked = Side.from_lengths(lengths, input_ids=ids)
    return Unpacked(unpacked, numbers * width + positions, cells, side.documents.shape)
