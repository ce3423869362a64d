"""Attention of recurrent decoders: four scores, and where on the source they may look.

A score compares queries with keys and gives weights; a window narrows the mask before and may
shape the weights after; `Attention` puts the two together and gathers the context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headway.errors import ShapeError
from headway.layers.masks import window_mask


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Normalize scores over the allowed positions.

    Args:
        scores: (B, T, S) float.
        mask: (B, T, S) bool. True where attention is allowed; an axis may be 1.
    Returns:
        weights: (B, T, S) float. Sum to 1 over S; all zero where a row allows nothing.
    """
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~mask, lowest).softmax(-1) * mask


class DotScore(nn.Module):
    """Score by the dot product: softmax(query . key).

    Args:
        query_size: Width of the query, equal to that of the key.
        key_size: Width of the key.
    Raises:
        ShapeError: if the widths differ.
    Paper: Luong, Pham, Manning 2015 (arXiv 1508.04025), equation 8.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        if query_size != key_size:
            raise ShapeError(
                f"the dot score multiplies query and key, but the query is {query_size} wide and "
                f"the key {key_size}",
                hint="use equal widths, or score 'general' or 'concat'",
            )

    def prepare(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Give key and value of a memory; both (B, S, D) float."""
        return memory, memory

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Weigh the positions of a memory.

        Args:
            query: (B, T, D) float.
            key: (B, S, D) float. From `prepare`.
            mask: (B, T, S) bool. True where attention is allowed; an axis may be 1.
        Returns:
            weights: (B, T, S) float. Sum to 1 over S; all zero where a row allows nothing.
        """
        return masked_softmax(query @ key.transpose(1, 2), mask)


class GeneralScore(nn.Module):
    """Score by a bilinear form: softmax(query . W key).

    Args:
        query_size: Width of the query.
        key_size: Width of the key.
    Paper: Luong, Pham, Manning 2015 (arXiv 1508.04025), equation 8.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(key_size, query_size, bias=False)

    def prepare(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Give key (B, S, Q) and value (B, S, D) float of a memory."""
        return self.key(memory), memory

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Weigh the positions of a memory; as DotScore.forward, after `prepare`."""
        return masked_softmax(query @ key.transpose(1, 2), mask)


class AdditiveScore(nn.Module):
    """Score each memory position for a decoder state with a one-layer network.

    score = v . tanh(W_q query + W_k key)

    Args:
        query_size: Width of the query.
        key_size: Width of the key; may differ.
        inner_size: Width of the network.
    Paper: Bahdanau, Cho, Bengio 2015 (arXiv 1409.0473), appendix A.1.2; "concat" in Luong et
    al. 2015, equation 8.
    Differs: no bias in W_q; the paper's notation leaves it open.
    """

    def __init__(self, query_size: int, key_size: int, *, inner_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, inner_size, bias=False)
        self.key = nn.Linear(key_size, inner_size, bias=False)
        self.score = nn.Linear(inner_size, 1, bias=False)

    def prepare(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Give key (B, S, F) and value (B, S, D) float of a memory."""
        return self.key(memory), memory

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Weigh the positions of a memory.

        Args:
            query: (B, T, D) float.
            key: (B, S, F) float. From `prepare`.
            mask: (B, T, S) bool. True where attention is allowed; an axis may be 1.
        Returns:
            weights: (B, T, S) float. Sum to 1 over S; all zero where a row allows nothing.
        """
        inner = torch.tanh(self.query(query)[:, :, None] + key[:, None])  # (B, T, S, F)
        return masked_softmax(self.score(inner).squeeze(-1), mask)


class KeyQueryValueScore(nn.Module):
    """Score by a scaled dot product of projections: softmax(W_q query . W_k key / sqrt(F)).

    Args:
        query_size: Width of the query.
        key_size: Width of the memory.
        inner_size: Width F of the projections; the value keeps the memory's width.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), equation 1, with one head.
    """

    def __init__(self, query_size: int, key_size: int, *, inner_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, inner_size, bias=False)
        self.key = nn.Linear(key_size, inner_size, bias=False)
        self.value = nn.Linear(key_size, key_size, bias=False)

    def prepare(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Give key (B, S, F) and value (B, S, D) float of a memory."""
        return self.key(memory), self.value(memory)

    def forward(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Weigh the positions of a memory; as AdditiveScore.forward."""
        query = self.query(query) / math.sqrt(key.shape[-1])
        return masked_softmax(query @ key.transpose(1, 2), mask)


@dataclass(frozen=True)
class Reach:
    """Where each query may look, and how strongly.

    Args:
        mask: (B, T, S) bool. True inside the window; None is everywhere.
        factor: (B, T, S) float. Multiplies the weights; None is 1.
    """

    mask: Tensor | None = None
    factor: Tensor | None = None


class GlobalWindow(nn.Module):
    """Look at every real position of the source."""

    def forward(self, query: Tensor, lengths: Tensor, steps: Tensor, places: Tensor) -> Reach:
        """Give an unlimited reach; arguments as in LocalPredictiveWindow."""
        return Reach()


class LocalMonotonicWindow(nn.Module):
    """Look at [p_t - D, p_t + D] with p_t = t: source and target are taken to run in step.

    Args:
        half_width: D, in positions.
    Paper: Luong, Pham, Manning 2015 (arXiv 1508.04025), section 3.2, local-m.
    Differs: p_t stops at the last source position, so that a window never leaves the source.
    """

    def __init__(self, half_width: int) -> None:
        super().__init__()
        self.half_width = half_width

    def forward(self, query: Tensor, lengths: Tensor, steps: Tensor, places: Tensor) -> Reach:
        """Center the window on the number of the step; arguments as in LocalPredictiveWindow."""
        center = torch.minimum(steps, lengths[:, None] - 1)
        return Reach(window_mask(center, places, window=self.half_width))


class LocalPredictiveWindow(nn.Module):
    """Look at [p_t - D, p_t + D] around a predicted position, with a Gaussian on top.

    p_t = S sigmoid(v . tanh(W query));  weight_s exp(-(s - p_t)^2 / (2 sigma^2)), sigma = D / 2

    S is the unpadded length; the weights are normalized over the real positions in the window
    and not again after the Gaussian.

    Args:
        query_size: Width of the query.
        half_width: D, in positions.
    Paper: Luong, Pham, Manning 2015 (arXiv 1508.04025), equations 9 and 10, local-p.
    """

    def __init__(self, query_size: int, half_width: int) -> None:
        super().__init__()
        self.half_width = half_width
        self.inner = nn.Linear(query_size, query_size, bias=False)
        self.place = nn.Linear(query_size, 1, bias=False)

    def forward(self, query: Tensor, lengths: Tensor, steps: Tensor, places: Tensor) -> Reach:
        """Predict the center of each query's window.

        Args:
            query: (B, T, D) float.
            lengths: (B) int64. Real source positions.
            steps: (B, T) int64. Number of each decoder step; an axis may be 1.
            places: (1, S) int64. 0 to S - 1.
        Returns:
            reach: (B, T, S).
        """
        place = self.place(self.inner(query).tanh()).squeeze(-1)  # (B, T)
        # Positions need more digits than half precision has.
        share = place.to(torch.promote_types(place.dtype, torch.float32)).sigmoid()
        center = lengths[:, None] * share
        sigma = self.half_width / 2
        distance = places[:, None] - center[:, :, None]  # (B, T, S)
        factor = torch.exp(-(distance**2) / (2 * sigma**2)).to(query.dtype)
        return Reach(window_mask(center, places, window=self.half_width), factor)


class Attention(nn.Module):
    """Gather a context from a memory: weights from a score, within a window.

    Args:
        score: One of the scores above.
        window: One of the windows above.
    """

    def __init__(self, score: nn.Module, window: nn.Module) -> None:
        super().__init__()
        self.score = score
        self.window = window

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: Tensor,
        steps: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Attend from each query to one row of memory.

        Args:
            query: (B, T, D) float.
            key: (B, S, F) float. From the score's `prepare`.
            value: (B, S, E) float. Likewise.
            lengths: (B) int64. Real source positions; the longest is S.
            steps: (B, T) int64. Number of each decoder step; an axis may be 1 where all beams
                are at the same step.
        Returns:
            context: (B, T, E) float.
            weights: (B, T, S) float.
        """
        places = torch.arange(key.shape[1], device=key.device)[None]
        mask = (places < lengths[:, None])[:, None]  # (B, 1, S)
        reach = self.window(query, lengths, steps, places)
        if reach.mask is not None:
            mask = mask & reach.mask
        weights = self.score(query, key, mask)
        if reach.factor is not None:
            weights = weights * reach.factor
        return weights @ value, weights
