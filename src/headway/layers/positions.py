"""Where a token stands, as vectors: sinusoids and learned tables."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Rotation:
    """Turn pairs of a head's columns by angles that grow with the position.

    Column i is paired with column i + K/2, as LLaMA's checkpoints are published; the paper pairs
    neighbors, which is the same but for the order of the columns.

    Args:
        cosine: (B, 1, T, K) float.
        sine: (B, 1, T, K) float.
    Paper: Su et al. 2021 (arXiv 2104.09864), section 3.2.2.
    """

    cosine: Tensor
    sine: Tensor

    @staticmethod
    def of(positions: Tensor, width: int, *, base: float) -> Rotation:
        """Compute the angles of positions, (B, T) int64, for heads of a width K."""
        exponents = torch.arange(0, width, 2, device=positions.device).float() / width
        angles = positions[:, None, :, None].float() / base**exponents  # (B, 1, T, K/2)
        angles = torch.cat([angles, angles], dim=-1)
        return Rotation(angles.cos(), angles.sin())

    def turn(self, heads: Tensor) -> Tensor:
        """Map (B, H, T, K) float to (B, H, T, K) float."""
        first, second = heads.chunk(2, dim=-1)
        turned = heads * self.cosine + torch.cat([-second, first], dim=-1) * self.sine
        return turned.to(heads.dtype)


def alibi_slopes(num_heads: int) -> Tensor:
    """Give how fast each head's attention falls off with distance, (H) float32.

    2^(-8/H), 2^(-16/H), ... for H a power of two; in between, every second slope of 2H is added.

    Paper: Press, Smith, Lewis 2022, "Train Short, Test Long" (arXiv 2108.12409), section 3, and
        the authors' code.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    more = [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * power, 2)]
    return torch.tensor((slopes + more)[:num_heads])


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
