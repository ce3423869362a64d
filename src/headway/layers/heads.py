"""Small networks on top of a body."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from headway.layers.dropout import Dropout
from headway.layers.side import Memory


class LinearHead(nn.Module):
    """One linear layer: over pooled vectors or over every token.

    Args:
        hidden_size: Width D.
        num_labels: Results Y.
    """

    def __init__(self, hidden_size: int, num_labels: int) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, num_labels)

    def init_weights(self, deviation: float) -> None:
        """Draw the weights from a normal distribution; biases are 0."""
        nn.init.normal_(self.output.weight, std=deviation)
        nn.init.zeros_(self.output.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., Y) float."""
        return self.output(hidden)


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


class PooledHead(nn.Module):
    """One vector of each document, and results of that.

    Args:
        hidden_size: Width D.
        num_labels: Results Y.
        pool: Makes the vectors: (body, memory) -> (N, D) float. A module where it learns.
        dropout: Rate on the pooled vector.
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        pool: Callable[[nn.Module, Memory], Tensor],
        dropout: float,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_labels)

    def init_weights(self, deviation: float) -> None:
        """Draw the classifier from a normal distribution; biases are 0."""
        nn.init.normal_(self.output.weight, std=deviation)
        nn.init.zeros_(self.output.bias)

    def forward(self, body: nn.Module, memory: Memory) -> Tensor:
        """Score every document, (N, Y) float."""
        return self.output(self.dropout(self.pool(body, memory)))


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
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.output = nn.Linear(width, vocab_size)

    def prepare(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to (..., E) float, what the output layer scores."""
        return self.norm(self.activation(self.dense(hidden)))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) float to logits, (..., V) float."""
        return self.output(self.prepare(hidden))
