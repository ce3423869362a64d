"""Where a token stands, as vectors: sinusoids and learned tables."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid(num_positions: int, width: int, *, base: float = 10000.0) -> Tensor:
    """Tabulate sine and cosine waves of geometrically growing wavelength.

    PE(pos, 2i) = sin(pos / base^(2i/D)),  PE(pos, 2i+1) = cos(pos / base^(2i/D))

    Args:
        num_positions: Rows of the table.
        width: Columns D; an odd width ends with a sine.
        base: Ratio of the longest to the shortest wavelength.
    Returns:
        table: (T, D) float32. Computed in float64, as rounding a large angle early moves it.
    Paper: Vaswani et al. 2017 (arXiv 1706.03762), section 3.5.
    """
    positions = torch.arange(num_positions, dtype=torch.float64)[:, None]
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    angles = positions / base**exponents  # (T, D/2)
    table = torch.empty(num_positions, width, dtype=torch.float64)
    table[:, 0::2] = angles.sin()
    table[:, 1::2] = angles[:, : width // 2].cos()
    return table.float()


def sines_first(table: Tensor) -> Tensor:
    """Reorder the columns of a sinusoid: all sines, then all cosines.

    A fixed permutation of the hidden width, which training cannot tell from the paper's order;
    published checkpoints (Marian, Pegasus) are laid out so.

    Args:
        table: (T, D) float.
    Returns:
        table: (T, D) float.
    """
    return torch.cat([table[:, 0::2], table[:, 1::2]], dim=1)


class Positions(nn.Module):
    """A table of positions: sinusoids that stay as they are, or vectors that are learned.

    Args:
        num_positions: Rows of the table.
        width: Columns D.
        learned: Learn the vectors; else they are sinusoids, sines first.
        base: Ratio of the longest to the shortest wavelength.
    """

    def __init__(self, num_positions: int, width: int, *, learned: bool, base: float) -> None:
        super().__init__()
        self.base = base
        self.is_learned = learned
        self.weight = nn.Parameter(torch.empty(num_positions, width), requires_grad=learned)

    def init_weights(self) -> None:
        """Fill the table."""
        if self.is_learned:
            nn.init.normal_(self.weight, std=0.02)
        elif not self.weight.is_meta:
            with torch.no_grad():
                self.weight.copy_(sines_first(sinusoid(*self.weight.shape, base=self.base)))

    def forward(self, positions: Tensor) -> Tensor:
        """Map (B, T) int64 to (B, T, D) float."""
        return F.embedding(positions, self.weight)
