"""One vector for a whole document."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def first_places(documents: Tensor) -> Tensor:
    """Find the first token of every document, row by row.

    Args:
        documents: (B, T) int64. Document numbers, 0 on padding.
    Returns:
        places: (N) int64. Into the batch's tokens laid out flat; one for each document.
    """
    before = F.pad(documents, (1, 0))[:, :-1]
    return ((documents != before) & (documents > 0)).flatten().nonzero().squeeze(1)


class FirstTokenPooler(nn.Module):
    """Pass the first token's hidden state through one layer.

    Args:
        hidden_size: Width D.
        activation: torch.tanh as BERT has it, or another function.
    Paper: Devlin et al. 2019 (arXiv 1810.04805), section 3; the layer is in the authors' code.
    """

    def __init__(self, hidden_size: int, activation=torch.tanh) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = activation

    def forward(self, hidden: Tensor, documents: Tensor) -> Tensor:
        """Pool every document.

        Args:
            hidden: (B, T, D) float.
            documents: (B, T) int64.
        Returns:
            pooled: (N, D) float. One row for each document, in the order of the batch.
        """
        first = hidden.flatten(0, 1).index_select(0, first_places(documents))
        return self.activation(self.dense(first))
