"""Examples and batches: padding and packing are one layout with one or several documents a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from headway.layers.losses import IGNORE
from headway.layers.side import Side


@dataclass(frozen=True)
class Example:
    """A record as integers.

    Args:
        index: Row of the record; keys whatever is drawn at random for it.
        input_ids: Source (or only) token ids.
        target_ids: Target token ids, with </s>; None where there is no target side.
        second: First token of the second segment; None where there is one segment only.
        label: Class of the whole example; None where it has none.
        classes: Likewise, where it may have several.
        value: A number that stands for it, where that is learned.
        weight: What it counts in the loss of the whole example.
        token_labels: Class of each token, IGNORE where nothing is asked; None where none has one.
        token_values: Number of each token, nan where nothing is asked; None where none has one.
        parts: Documents that it is made of, such as the choices of a question; their tokens, one
            after the other, are `input_ids`. () where it is one document.
    """

    index: int
    input_ids: list[int]
    target_ids: list[int] | None = None
    second: int | None = None
    label: int | None = None
    classes: tuple[int, ...] = ()
    value: float = 0.0
    weight: float = 1.0
    token_labels: list[int] | None = None
    token_values: list[float] | None = None
    parts: tuple[Example, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Count the tokens of both sides."""
        return len(self.input_ids) + len(self.target_ids or ())


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples laid out in rows of tensors.

    Args:
        source: (B, S). Input side.
        target: (B, T). What the decoder is given; position t sees what comes before it.
        labels: (B, T) int64. What it shall say at each position; IGNORE where nothing is asked.
        token_values: (B, T) float. Number of each token; nan where nothing is asked.
        document_labels: What each document is labelled with, row by row: (N) int64, its class;
            (N, Y) float, 1 for each of its classes; or (N) float, its number.
        document_weights: (N) float. What each document counts; None: all the same.
        groups: (N) int64. Which example, counted in the batch, each document is a part of; None
            where each is one by itself.
        indices: Which examples are in the batch, row by row.
    """

    source: Side
    target: Side | None = None
    labels: Tensor | None = None
    token_values: Tensor | None = None
    document_labels: Tensor | None = None
    document_weights: Tensor | None = None
    groups: Tensor | None = None
    indices: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Count real tokens of both sides."""
        count = int((self.source.documents > 0).sum())
        return count + (int((self.target.documents > 0).sum()) if self.target is not None else 0)

    @property
    def num_rows(self) -> int:
        """Count rows, each of one or several documents."""
        return len(self.source.documents)

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to a device."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor | Side)
        }
        return replace(self, **moved)


def _lay_out(rows: Sequence[Sequence[Sequence[int]]], fill: int) -> tuple[np.ndarray, ...]:
    """Write documents one after the other into rows: ids, document numbers, positions."""
    widths = [sum(map(len, row)) for row in rows]
    shape = (len(rows), max(widths, default=0))
    ids = np.full(shape, fill, dtype=np.int64)
    documents = np.zeros(shape, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(rows):
        start = 0
        for document, content in enumerate(row, 1):
            end = start + len(content)
            ids[number, start:end] = content
            documents[number, start:end] = document
            positions[number, start:end] = np.arange(len(content))
            start = end
    return ids, documents, positions


def _side(rows: Sequence[Sequence[Sequence[int]]], fill: int) -> Side:
    ids, documents, positions = map(torch.from_numpy, _lay_out(rows, fill))
    return Side(input_ids=ids, documents=documents, positions=positions)


def _segments(example: Example) -> list[int]:
    length = len(example.input_ids)
    first = length if example.second is None else example.second
    return [0] * first + [1] * (length - first)


def lay_out(rows: Sequence[Sequence[Example]], *, pad_id: int, start_id: int) -> Batch:
    """Lay examples out in rows of tensors.

    Args:
        rows: The examples of each row: one for a padded batch, several for a packed one.
        pad_id: Id that fills the rest of a row.
        start_id: Id that a target starts from.
    Returns:
        batch: Both sides of an example have its row and its document number.
    """
    indices = tuple(example.index for row in rows for example in row)
    source = _side([[example.input_ids for example in row] for row in rows], pad_id)
    if any(example.second is not None for row in rows for example in row):
        types = _lay_out([[_segments(example) for example in row] for row in rows], 0)[0]
        source = replace(source, token_type_ids=torch.from_numpy(types))
    targets = [[example.target_ids or [] for example in row] for row in rows]
    if not any(ids for row in targets for ids in row):
        return Batch(source=source, indices=indices)
    shifted = [[[start_id, *ids[:-1]] if ids else [] for ids in row] for row in targets]
    target = _side(shifted, pad_id)
    labels = torch.from_numpy(_lay_out(targets, IGNORE)[0])
    return Batch(source=source, target=target, labels=labels, indices=indices)


def lay_out_parts(rows: Sequence[Sequence[Example]], *, pad_id: int) -> Batch:
    """Lay examples of several documents out, each document in a row of its own.

    Args:
        rows: Examples, with parts or without.
        pad_id: Id that fills the rest of a row.
    """
    examples = [example for row in rows for example in row]
    parts = [example.parts or (example,) for example in examples]
    batch = lay_out([[part] for found in parts for part in found], pad_id=pad_id, start_id=0)
    numbers = [number for number, found in enumerate(parts) for _ in found]
    indices = tuple(example.index for example in examples)
    return replace(batch, groups=torch.tensor(numbers), indices=indices)


def pad_rows(examples: Sequence[Example]) -> list[list[Example]]:
    """Give each example a row of its own."""
    return [[example] for example in examples]


def pack_rows(examples: Sequence[Example], *, row_tokens: int) -> list[list[Example]]:
    """Fill rows with several examples each, longest first into the first row with room.

    Args:
        examples: In any order.
        row_tokens: Room of a row, on each side; a longer example gets a row of its own.
    """
    rows: list[list[Example]] = []
    free = np.full((len(examples), 2), row_tokens, dtype=np.int64)
    for example in sorted(examples, key=lambda example: (-example.num_tokens, example.index)):
        need = np.array([len(example.input_ids), len(example.target_ids or ())])
        fitting = np.flatnonzero((free[: len(rows)] >= need).all(axis=1))
        row = int(fitting[0]) if len(fitting) else len(rows)
        if row == len(rows):
            rows.append([])
        rows[row].append(example)
        free[row] -= need
    return rows
