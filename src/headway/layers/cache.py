"""Keys and values of the tokens decoded so far, for all beams of a sentence at once.

A beam search forks and drops beams at every step. Instead of copying a beam's keys and values to
its heirs, every token ever decoded keeps its place, and each beam carries a bias that opens its
own ancestors only. Forking then moves a few hundred bytes, and the keys of all beams form one
matrix, so a step is one product per sentence.
"""

from __future__ import annotations

import torch
from torch import Tensor


def step_type(hidden: Tensor) -> torch.dtype:
    """Give the type that a step attends in: single precision, or double where the model is."""
    return torch.promote_types(hidden.dtype, torch.float32)


class Ancestry:
    """Which of the tokens decoded so far each beam descends from.

    Slot (step, beam) is column `step * num_beams + beam`. All layers of a model share one.

    Args:
        num_rows: Sentences B.
        num_beams: Beams R of each.
        max_steps: Steps there is room for.
    """

    def __init__(
        self, num_rows: int, num_beams: int, max_steps: int, *, like: Tensor | None = None
    ) -> None:
        dtype = torch.float32 if like is None else step_type(like)
        device = like.device if like is not None else None
        self.num_beams = num_beams
        self.num_steps = 0
        shape = (num_rows, 1, num_beams, max_steps * num_beams)
        self._bias = torch.full(shape, -torch.inf, dtype=dtype, device=device)
        self._beams = torch.arange(num_beams, device=device)

    @property
    def num_slots(self) -> int:
        """Slots in use."""
        return self.num_steps * self.num_beams

    @property
    def bias(self) -> Tensor:
        """Give (B, 1, R, S) float: 0 on a beam's ancestors and itself, -inf elsewhere."""
        return self._bias[..., : self.num_slots]

    def advance(self) -> None:
        """Open the slot of the next token, to its own beam."""
        self._bias[:, 0, self._beams, self.num_slots + self._beams] = 0.0
        self.num_steps += 1

    def reorder(self, parents: Tensor) -> None:
        """Let beam r continue what beam parents[:, r] was.

        Args:
            parents: (B, R) int64.
        """
        used = self._bias[:, 0, :, : self.num_slots]
        index = parents[:, :, None].expand(-1, -1, used.shape[-1])
        used.copy_(used.gather(1, index))

    def keep(self, rows: Tensor) -> None:
        """Keep these sentences.

        Args:
            rows: (B,) int64.
        """
        self._bias = self._bias.index_select(0, rows)


class KeyValueCache:
    """Keys and values of one attention layer, written in place and never moved.

    Args:
        ancestry: Shared by all layers; says who may look where.
        max_steps: Steps there is room for.
    """

    def __init__(self, ancestry: Ancestry, max_steps: int) -> None:
        self._ancestry = ancestry
        self._max_slots = max_steps * ancestry.num_beams
        self._key: Tensor | None = None
        self._value: Tensor | None = None

    @property
    def bias(self) -> Tensor:
        """Give (B, 1, R, S) float, to be added to the scores."""
        return self._ancestry.bias

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the newest token of every beam, after `Ancestry.advance` opened its slot.

        Args:
            key: (B, H, R, K) float.
            value: (B, H, R, K) float.
        Returns:
            key, value: (B, H, S, K) float. Everything so far, the new ones last.
        """
        if self._key is None or self._value is None:
            rows, heads, _, width = key.shape
            shape, dtype = (rows, heads, self._max_slots, width), step_type(key)
            self._key = key.new_empty(shape, dtype=dtype)
            self._value = key.new_empty(shape, dtype=dtype)
        end = self._ancestry.num_slots
        start = end - self._ancestry.num_beams
        self._key[:, :, start:end] = key
        self._value[:, :, start:end] = value
        return self._key[:, :, :end], self._value[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Keep these sentences.

        Args:
            rows: (B,) int64.
        """
        if self._key is not None and self._value is not None:
            used = self._ancestry.num_slots
            self._key = _keep_rows(self._key, rows, used)
            self._value = _keep_rows(self._value, rows, used)


def _keep_rows(buffer: Tensor, rows: Tensor, used: int) -> Tensor:
    """Copy the used slots of some rows into a buffer of the same room."""
    kept = buffer.new_empty(len(rows), *buffer.shape[1:])
    kept[:, :, :used] = buffer[:, :, :used].index_select(0, rows)
    return kept
