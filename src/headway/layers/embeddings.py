"""What enters an encoder: tokens, positions and segments as vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headway.layers.dropout import Dropout
from headway.layers.side import Side


def to_autocast(hidden: Tensor) -> Tensor:
    """Cast what enters a stack to autocast's type, where that is on; keeps the shape.

    Half-precision residuals halve the memory traffic between the products.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        return hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return hidden


class InputEmbeddings(nn.Module):
    """Add up the vectors of token, position and segment; normalize; drop out.

    Args:
        vocab_size: Entries V.
        width: Columns E of every table.
        num_positions: Rows of the position table.
        num_types: Rows of the segment table; 0: the model has no segments.
        first_position: Row of the first token's position.
        epsilon: Of the norm.
        dropout: Rate.
    Paper: Devlin et al. 2019 (arXiv 1810.04805), section 3, figure 2.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        *,
        num_positions: int,
        num_types: int,
        first_position: int = 0,
        epsilon: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.first_position = first_position
        self.token = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(num_positions, width)
        self.token_type = nn.Embedding(num_types, width) if num_types else None
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.dropout = Dropout(dropout)

    def forward(self, source: Side) -> Tensor:
        """Map a side, (B, T), to (B, T, E) float."""
        hidden = F.embedding(source.ids, self.token.weight)
        # Padding says position 0, which the mask hides.
        hidden = hidden + F.embedding(source.positions + self.first_position, self.position.weight)
        if self.token_type is not None:
            # Where there is one segment, a tokenizer that tells two apart says nothing.
            types = source.token_type_ids if self.token_type.num_embeddings > 1 else None
            first = self.token_type.weight[0]
            kinds = first if types is None else F.embedding(types, self.token_type.weight)
            hidden = hidden + kinds
        return self.dropout(to_autocast(self.norm(hidden)))


class PlacedEmbeddings(nn.Module):
    """Add up the vectors of token and position; drop out.

    Args:
        vocab_size: Entries V.
        width: Columns E of both tables.
        num_positions: Rows of the position table.
        dropout: Rate.
    Paper: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training",
        section 3.1, equation 2.
    """

    def __init__(self, vocab_size: int, width: int, num_positions: int, *, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, width)
        self.position = nn.Embedding(num_positions, width)
        self.dropout = Dropout(dropout)

    def forward(self, source: Side) -> Tensor:
        """Map a side, (B, T), to (B, T, E) float."""
        hidden = F.embedding(source.ids, self.token.weight)
        hidden = hidden + F.embedding(source.positions, self.position.weight)
        return self.dropout(to_autocast(hidden))


class TokenEmbeddings(nn.Module):
    """Look tokens up, and drop out: what enters a recurrent encoder.

    Args:
        vocab_size: Entries V.
        width: Columns E.
        dropout: Rate.
    """

    def __init__(self, vocab_size: int, width: int, *, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, width)
        self.dropout = Dropout(dropout)

    def forward(self, source: Side) -> Tensor:
        """Map a side, (B, T), to (B, T, E) float."""
        return self.dropout(F.embedding(source.ids, self.token.weight))
