"""Which positions may attend to which: documents, causality, windows. True means "may"."""

from __future__ import annotations

from torch import Tensor

from headway.layers.side import Side


def side_mask(side: Side, *, is_causal: bool) -> Tensor:
    """Allow the tokens of a side to see their document, or what came before them in it.

    Args:
        side: (B, T).
        is_causal: No token sees a later one.
    Returns:
        mask: (B, 1, T, T) bool. True where attention is allowed; one for all heads.
    """
    mask = document_mask(side.documents, side.documents)
    if is_causal:
        mask = mask & causal_mask(side.positions, side.positions)
    return mask[:, None]


def document_mask(query_documents: Tensor, key_documents: Tensor) -> Tensor:
    """Allow attention inside a document only, and none to padding.

    Args:
        query_documents: (B, T) int64. Document numbers, 0 on padding.
        key_documents: (B, S) int64.
    Returns:
        mask: (B, T, S) bool. True where attention is allowed.
    """
    same = query_documents[:, :, None] == key_documents[:, None, :]  # (B, T, S)
    return same & (key_documents > 0)[:, None, :]


def causal_mask(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Allow attention to keys that are not later than the query.

    Args:
        query_positions: (B, T) int64. Place of each token in its document.
        key_positions: (B, S) int64.
    Returns:
        mask: (B, T, S) bool.
    """
    return query_positions[:, :, None] >= key_positions[:, None, :]


def window_mask(query_positions: Tensor, key_positions: Tensor, *, window: int) -> Tensor:
    """Allow attention to keys at most `window` places away.

    Args:
        query_positions: (B, T) int64 or float. Center of each window.
        key_positions: (B, S) int64. An axis may be 1.
    Returns:
        mask: (B, T, S) bool.
    """
    return (query_positions[:, :, None] - key_positions[:, None, :]).abs() <= window
