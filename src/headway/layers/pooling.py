"""One vector for a whole document."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.side import Memory


def first_places(documents: Tensor) -> Tensor:
    """Find the first token of every document, row by row.

    Args:
        documents: (B, T) int64. Document numbers, 0 on padding.
    Returns:
        places: (N) int64. Into the batch's tokens laid out flat; one for each document.
    """
    before = F.pad(documents, (1, 0))[:, :-1]
    return ((documents != before) & (documents > 0)).flatten().nonzero().squeeze(1)


def last_places(documents: Tensor) -> Tensor:
    """Find the last token of every document, row by row.

    Args:
        documents: (B, T) int64. Document numbers, 0 on padding.
    Returns:
        places: (N) int64. Into the batch's tokens laid out flat; one for each document.
    """
    after = F.pad(documents, (0, 1))[:, 1:]
    return ((documents != after) & (documents > 0)).flatten().nonzero().squeeze(1)


def members_of(documents: Tensor) -> Tensor:
    """Say which tokens belong to which document.

    Args:
        documents: (B, T) int64.
    Returns:
        members: (B, N, T) bool. N is the largest number of documents in a row.
    """
    numbers = torch.arange(1, int(documents.max()) + 1, device=documents.device)
    return documents[:, None, :] == numbers[:, None]


def gather_documents(vectors: Tensor, members: Tensor) -> Tensor:
    """Keep the vectors of the documents that there are.

    Args:
        vectors: (B, N, D) float.
        members: (B, N, T) bool. From `members_of`.
    Returns:
        kept: One row for each document, in the order of the batch; D wide.
    """
    return vectors.flatten(0, 1).index_select(0, members.any(-1).flatten().nonzero().squeeze(1))


def published_pool(body: nn.Module, memory: Memory) -> Tensor:
    """Let the body's own pooler make one vector of each document, (N, D) float."""
    return body.pooler(memory.hidden, memory.documents)  # pyright: ignore


def mean_pool(body: nn.Module, memory: Memory) -> Tensor:
    """Average the hidden states of every document, special tokens included.

    Returns:
        pooled: (N, D) float. One row for each document, in the order of the batch.
    """
    members = members_of(memory.documents)
    # (B, N, T) x (B, T, D) -> (B, N, D)
    sums = members.to(memory.hidden.dtype) @ memory.hidden
    return gather_documents(sums / members.sum(-1).clamp(min=1)[..., None], members)


class AttentionPooler(nn.Module):
    """Average the hidden states of every document by softmax(q . tanh(W h)).

    Args:
        hidden_size: Width D.
        is_trained: The query q is learned; else it is fixed as it was drawn, and W alone learns.
    Paper: Yang et al. 2016, "Hierarchical Attention Networks for Document Classification",
        section 2.2.
    """

    def __init__(self, hidden_size: int, *, is_trained: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Parameter(torch.empty(hidden_size), requires_grad=is_trained)
        nn.init.normal_(self.query, std=hidden_size**-0.5)

    def weights(self, hidden: Tensor, documents: Tensor) -> Tensor:
        """Compute what each token counts in its document.

        Args:
            hidden: (B, T, D) float.
            documents: (B, T) int64.
        Returns:
            weights: (B, N, T) float32. Sum to 1 over T; all zero where a row has no such document.
        """
        scores = (torch.tanh(self.dense(hidden)) @ self.query.to(hidden.dtype)).float()
        members = members_of(documents)
        masked = scores[:, None, :].masked_fill(~members, -torch.inf)
        return masked.softmax(-1).nan_to_num(0.0)

    def forward(self, body: nn.Module, memory: Memory) -> Tensor:
        """Pool every document, (N, D) float."""
        weights = self.weights(memory.hidden, memory.documents)
        pooled = weights.to(memory.hidden.dtype) @ memory.hidden
        return gather_documents(pooled, members_of(memory.documents))


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


class EndsPooler(nn.Module):
    """Put what each direction of a recurrent network says at its end side by side.

    Args:
        directions: 2: the first half of the width reads forwards, the second backwards; 1: all of
            it reads forwards.
    """

    def __init__(self, directions: int) -> None:
        super().__init__()
        self.directions = directions

    def forward(self, hidden: Tensor, documents: Tensor) -> Tensor:
        """Pool every document.

        Args:
            hidden: (B, T, D) float.
            documents: (B, T) int64.
        Returns:
            pooled: (N, D) float. One row for each document, in the order of the batch.
        """
        flat = hidden.flatten(0, 1)
        last = flat.index_select(0, last_places(documents))
        if self.directions == 1:
            return last
        half = hidden.shape[-1] // 2
        first = flat.index_select(0, first_places(documents))
        return torch.cat([last[:, :half], first[:, half:]], dim=-1)
