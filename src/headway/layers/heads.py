"""Small networks on top of a body."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from headway.layers.blocks import LayerNorm
from headway.layers.dropout import Dropout
from headway.layers.pooling import first_places, gather_documents, members_of
from headway.layers.side import Memory


class LinearHead(nn.Module):
    """One linear layer: over pooled vectors or over every token.

    Args:
        hidden_size: Width D.
        num_labels: Results Y.
        bias: Add one to each result; published heads of decoders have none.
    """

    def __init__(self, hidden_size: int, num_labels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, num_labels, bias=bias)

    def init_weights(self, deviation: float) -> None:
        """Draw the weights from a normal distribution; biases are 0."""
        nn.init.normal_(self.output.weight, std=deviation)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., Y) float."""
        # A head may be more precise than its body: see `pack_head`.
        return self.output(hidden.to(self.output.weight.dtype))


class TokenHead(LinearHead):
    """One linear layer over every token, after dropout.

    Args:
        hidden_size: Width D.
        num_labels: Results Y.
        dropout: Rate on the hidden states.
    """

    def __init__(self, hidden_size: int, num_labels: int, *, dropout: float) -> None:
        super().__init__(hidden_size, num_labels)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., Y) float."""
        return super().forward(self.dropout(hidden))


class PooledHead(LinearHead):
    """One vector of each document, and results of that.

    Args:
        hidden_size: Width D.
        num_labels: Results Y.
        pool: Makes the vectors: (body, memory) -> (N, D) float. A module where it learns.
        dropout: Rate on the pooled vector.
        bias: Add one to each result.
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        pool: Callable[[nn.Module, Memory], Tensor],
        dropout: float,
        bias: bool = True,
    ) -> None:
        super().__init__(hidden_size, num_labels, bias=bias)
        self.pool = pool
        self.dropout = Dropout(dropout)

    def forward(self, body: nn.Module, memory: Memory) -> Tensor:
        """Score every document, (N, Y) float."""
        return super().forward(self.dropout(self.pool(body, memory)))


class SpanHead(LinearHead):
    """One vector of each marked span and of the whole document, and results of them together.

    The spans' vectors are the means of their hidden states; the first token's stands for the rest.

    Args:
        hidden_size: Width D.
        num_labels: Results Y.
        num_spans: Spans of each document.
        dropout: Rate on the vectors.
    """

    def __init__(
        self, hidden_size: int, num_labels: int, *, num_spans: int, dropout: float
    ) -> None:
        super().__init__((num_spans + 1) * hidden_size, num_labels)
        self.num_spans = num_spans
        self.dropout = Dropout(dropout)

    def forward(self, memory: Memory, marks: Tensor) -> Tensor:
        """Score every document.

        Args:
            memory: (B, T, D) float.
            marks: (B, T) int64. Bit n is set where a token is in span n.
        Returns:
            logits: (N, Y) float. A span without a token counts as zeros.
        """
        hidden, documents = memory.hidden, memory.documents
        members = members_of(documents)  # (B, N, T)
        vectors = [hidden.flatten(0, 1).index_select(0, first_places(documents))]
        for number in range(self.num_spans):
            inside = members & (marks >> number & 1).bool()[:, None]
            means = inside.to(hidden.dtype) @ hidden / inside.sum(-1).clamp(min=1)[..., None]
            vectors.append(gather_documents(means, members))
        return super().forward(self.dropout(torch.cat(vectors, dim=-1)))


class MaskedLmHead(nn.Module):
    """Prepare hidden states for guessing words: output(norm(activation(dense(hidden)))).

    Args:
        hidden_size: Width D.
        width: Width E of the embeddings, which the output layer usually shares.
        vocab_size: Entries V.
        activation: Between the layers.
        epsilon: Of the norm.
    Paper: Devlin et al. 2019 (arXiv 1810.04805), section 3.1; the layer is in the authors' code.
    """

    def __init__(
        self,
        hidden_size: int,
        width: int,
        vocab_size: int,
        *,
        activation: Callable[[Tensor], Tensor],
        epsilon: float,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, width)
        self.activation = activation
        self.norm = LayerNorm(width, eps=epsilon)
        self.output = nn.Linear(width, vocab_size)

    def prepare(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., E) float, what the output layer scores."""
        return self.norm(self.activation(self.dense(hidden)))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to logits, (..., V) float."""
        return self.output(self.prepare(hidden))
