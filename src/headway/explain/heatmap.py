"""Matrices as pictures: alignments, the heads of a Transformer, masks, positional encodings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from headway.explain.alignment import Alignment
from headway.explain.svg import (
    cells,
    line,
    number,
    picture,
    rectangle,
    shorten,
    show_spaces,
    spread,
    text,
    width_of,
)
from headway.layers.masks import causal_mask, document_mask, window_mask

# Tokens on one axis; more would be too small to read.
_MOST_TOKENS = 80
# Labels are cut to this width, in units of the font's size.
_LABEL_WIDTH = 9.0
# A weight is drawn as weight^0.6: attention spread over ten tokens is still seen.
_SHADE_POWER = 0.6
_MOST_POSITIONS, _MOST_COLUMNS = 64, 128
_LEGEND = (0.02, 0.1, 0.25, 0.5, 1.0)
_GAP = 6.0


def draw_alignment(alignment: Alignment) -> str:
    """Draw the mean over layers and heads: target tokens in rows, source tokens in columns."""
    return draw_map(alignment.mean(), alignment.target_tokens, alignment.source_tokens)


def draw_map(weights: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Draw attention weights with a label for each row and column.

    Resting on a row names the tokens it looks at most.

    Args:
        weights: (T, S) float, 0 to 1.
        rows: T labels.
        columns: S labels.
    """
    weights = np.asarray(weights)[:_MOST_TOKENS, :_MOST_TOKENS]
    size = float(min(22, max(9, 900 // max(1, *weights.shape))))
    names, heads = _labels(rows), _labels(columns)
    left, top = _margins(names, heads, size)
    width, height = weights.shape[1] * size, weights.shape[0] * size
    parts = [
        cells(weights**_SHADE_POWER, x=left, y=top, size=(size, size)),
        rectangle(left, top, width, height, kind="frame"),
        *_row_labels(names, x=left, y=top, size=size),
        *_column_labels(heads, x=left, y=top, size=size),
    ]
    for row, values in enumerate(weights):
        best = np.argsort(-values, kind="stable")[:4]
        looks = ", ".join(f"{columns[column]} {values[column]:.2f}" for column in best)
        box = (left, top + row * size, width, size)
        parts.append(rectangle(*box, kind="clear", title=f"{rows[row]}: {looks}"))
    parts += _legend(left, top + height + 12)
    whole = max(left + width + top * 0.6, left + 210)
    return picture(whole, top + height + 30, parts, label="Attention weights of each target token")


def _font(size: float) -> float:
    return min(12.0, size * 0.8)


def _labels(tokens: Sequence[str]) -> list[str]:
    """Write tokens as they stand beside or above a map."""
    return [shorten(show_spaces(token), _LABEL_WIDTH) for token in tokens[:_MOST_TOKENS]]


def _margins(rows: list[str], columns: list[str], size: float) -> tuple[float, float]:
    font = _font(size)
    widest = max(map(width_of, rows), default=0) * font
    tallest = max((width_of(columns[place]) for place in _turned(columns)), default=0)
    return widest + 2 * _GAP, tallest * font * 0.85 + font + _GAP + 2


def _turned(labels: list[str]) -> set[int]:
    """Choose the labels that are too wide to stand upright: all of them, unless these are few."""
    wide = {place for place, label in enumerate(labels) if width_of(label) >= 1.3}
    return set(range(len(labels))) if len(wide) > len(labels) / 4 else wide


def _row_labels(labels: list[str], *, x: float, y: float, size: float) -> list[str]:
    font = _font(size)
    return [
        text(x - _GAP, y + (place + 0.5) * size + font * 0.35, label, anchor="end", size=font)
        for place, label in enumerate(labels)
    ]


def _column_labels(labels: list[str], *, x: float, y: float, size: float) -> list[str]:
    font, parts, turned = _font(size), [], _turned(labels)
    for place, label in enumerate(labels):
        middle = x + (place + 0.5) * size
        if place in turned:
            parts.append(text(middle + font * 0.3, y - _GAP, label, size=font, turn=-58))
        else:
            parts.append(text(middle, y - _GAP, label, anchor="middle", size=font))
    return parts


def _legend(x: float, y: float) -> list[str]:
    parts = [text(x, y + 9, "weight", size=10, kind="soft")]
    for place, weight in enumerate(_LEGEND):
        left = x + 42 + place * 34
        shade = np.array([[weight**_SHADE_POWER]])
        parts.append(cells(shade, x=left, y=y, size=(10, 10)))
        parts.append(text(left + 12, y + 9, f"{weight:g}", size=9, kind="soft"))
    return parts


def draw_heads(weights: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Draw every head of every layer: a row of maps for each layer.

    Args:
        weights: (L, H, T, S) float, 0 to 1.
        rows: T labels.
        columns: S labels.
    """
    weights = np.asarray(weights)[:, :, :_MOST_TOKENS, :_MOST_TOKENS]
    num_layers, num_heads, height, width = weights.shape
    size = float(min(16, max(4, 1050 // (num_heads * (width + 2)))))
    # Beside smaller cells labels could not be read.
    names, heads = (_labels(rows), _labels(columns)) if size >= 7 else ([], [])
    left, top = _margins(names, heads, size) if size >= 7 else (6.0, 4.0)
    left += 18
    across, down = width * size + 14, height * size + 14
    parts = []
    for layer in range(num_layers):
        middle = top + 18 + layer * down + height * size / 2
        parts.append(text(12, middle, f"layer {layer + 1}", anchor="middle", turn=-90, kind="soft"))
        for head in range(num_heads):
            x, y = left + head * across, top + 18 + layer * down
            parts.append(cells(weights[layer, head] ** _SHADE_POWER, x=x, y=y, size=(size, size)))
            parts.append(rectangle(x, y, width * size, height * size, kind="frame"))
        parts += _row_labels(names, x=left, y=top + 18 + layer * down, size=size)
    for head in range(num_heads):
        x = left + head * across
        parts.append(text(x, 11, f"head {head + 1}", kind="soft"))
        parts += _column_labels(heads, x=x, y=top + 18, size=size)
    whole = left + num_heads * across + top * 0.6
    return picture(whole, top + 24 + num_layers * down, parts, label="Attention of each head")


def draw_masks() -> str:
    """Draw who may look at whom: padding, causality, packed documents, a window."""
    documents = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    packed = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0]])
    source = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0]])
    places = torch.arange(8)[None]
    restarted = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]])
    inside = document_mask(packed, packed)
    panels = [
        ("padding", "6 tokens, 2 of padding", document_mask(documents, documents)),
        ("causal", "none looks ahead", causal_mask(places, places)),
        ("packed", "2 documents in a row", inside),
        ("packed and causal", "what a decoder sees", inside & causal_mask(restarted, restarted)),
        ("target to source", "of the same pair", document_mask(packed, source)),
        ("window of 1", "neighbours only", window_mask(places, places, window=1)),
    ]
    parts = []
    for place, (name, note, mask) in enumerate(panels):
        parts += _mask_panel(name, note, mask[0].numpy(), x=4 + place * 150)
    return picture(6 * 150, 176, parts, label="Which positions may attend to which")


def _mask_panel(name: str, note: str, mask: np.ndarray, *, x: float) -> list[str]:
    size, top, side = 15.0, 34.0, len(mask) * 15.0
    grid = []
    for at in np.arange(size, side, size).tolist():
        grid.append(line([(x, top + at), (x + side, top + at)], kind="rule"))
        grid.append(line([(x + at, top), (x + at, top + side)], kind="rule"))
    return [
        text(x, 12, name, size=12, kind="strong"),
        text(x, 27, note, size=10.5, kind="soft"),
        cells(mask.astype(float) * 0.75, x=x, y=top, size=(size, size)),
        *grid,
        rectangle(x, top, side, side, kind="frame"),
    ]


def draw_positions(table: np.ndarray) -> str:
    """Draw a table of positions: blue above zero, orange below.

    Args:
        table: (T, D) float. The first 64 rows are shown, and 128 columns evenly spread over D.
    """
    table = np.asarray(table, dtype=np.float64)
    values = table[:_MOST_POSITIONS, spread(table.shape[1], _MOST_COLUMNS)]
    values = values / max(float(np.abs(values).max(initial=0)), 1e-9)
    across, down = 760 / values.shape[1], 256 / len(values)
    x, y = 46.0, 22.0
    parts = [
        cells(np.maximum(values, 0), x=x, y=y, size=(across, down)),
        cells(np.maximum(-values, 0), x=x, y=y, size=(across, down), kind="c1"),
        rectangle(x, y, 760, 256, kind="frame"),
        text(x, 14, f"column of the vector, 0 to {table.shape[1] - 1}", kind="soft"),
        text(14, y + 128, "position", anchor="middle", turn=-90, kind="soft"),
    ]
    for position in range(0, len(values), max(1, len(values) // 4)):
        middle = y + (position + 0.5) * down + 4
        parts.append(text(x - _GAP, middle, number(position), anchor="end", size=10, kind="soft"))
    return picture(x + 764, y + 262, parts, label="Positional encoding")
