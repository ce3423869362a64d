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
    """Give the type that a step attends in: single precision, or double where the model is.

    Half precision saves nothing with few queries: its products of tiny matrices took 57
    microseconds where the fused kernel takes 9 in single precision (1 row, 5 beams, 16 keys, 2
    cores).
    """
    return torch.promote_types(hidden.dtype, torch.float32)


class Ancestry:
    """Which of the tokens decoded so far each beam descends from.

    The tokens of a prompt, which all beams share, come first; behind them slot (step, beam) is
    column `step * num_beams + beam`. All layers of a model share one.

    Args:
        prompt: (B, P) bool. True on the real tokens of each row's prompt, padded on the right; of
            no width where decoding starts from nothing.
        num_beams: Beams R of each row.
        max_steps: Steps there is room for.
        like: Of the type that the model computes in.
    """

    def __init__(self, prompt: Tensor, *, num_beams: int, max_steps: int, like: Tensor) -> None:
        self.num_beams = num_beams
        self.num_steps = 0
        self.prompt_slots = prompt.shape[1]
        self.max_slots = self.prompt_slots + max_steps * num_beams
        self.lengths = prompt.sum(1)
        # One beam and no padding: every slot is open to all that come after it.
        self._is_open = num_beams == 1 and bool(prompt.all())
        shape = (len(prompt), 1, num_beams, self.max_slots)
        self._bias = torch.full(shape, -torch.inf, dtype=step_type(like), device=prompt.device)
        self._bias[..., : self.prompt_slots].masked_fill_(prompt[:, None, None], 0.0)
        self._beams = torch.arange(num_beams, device=prompt.device)
        places = torch.arange(self.max_slots, device=prompt.device) - self.prompt_slots
        later = self.lengths[:, None] + places.div(num_beams, rounding_mode="floor")
        self._positions = torch.where(places < 0, places + self.prompt_slots, later)

    @property
    def num_slots(self) -> int:
        """Slots in use."""
        return self.prompt_slots + self.num_steps * self.num_beams

    @property
    def bias(self) -> Tensor | None:
        """Give (B, 1, R, S) float: 0 on a beam's ancestors and itself, -inf elsewhere.

        None where nothing is hidden from anyone.
        """
        return None if self._is_open else self._bias[..., : self.num_slots]

    @property
    def positions(self) -> Tensor:
        """Give the place in its text of what each slot holds, (B, S) int64."""
        return self._positions[:, : self.num_slots]

    @property
    def newest_positions(self) -> Tensor:
        """Give the place of the tokens that `advance` made room for, (B, 1) int64."""
        return (self.lengths + self.num_steps - 1)[:, None]

    def advance(self) -> None:
        """Open the slot of the next token, to its own beam."""
        self._bias[:, 0, self._beams, self.num_slots + self._beams] = 0.0
        self.num_steps += 1

    def reorder(self, parents: Tensor) -> None:
        """Let beam r continue what beam parents[:, r] was.

        Args:
            parents: (B, R) int64.
        """
        used = self._bias[:, 0, :, self.prompt_slots : self.num_slots]
        index = parents[:, :, None].expand(-1, -1, used.shape[-1])
        used.copy_(used.gather(1, index))

    def keep(self, rows: Tensor) -> None:
        """Keep these sentences.

        Args:
            rows: (B,) int64.
        """
        self._bias = self._bias.index_select(0, rows)
        self._positions = self._positions.index_select(0, rows)
        self.lengths = self.lengths.index_select(0, rows)


class KeyValueCache:
    """Keys and values of one attention layer, written in place and never moved.

    Args:
        ancestry: Shared by all layers; says who may look where.
    """

    def __init__(self, ancestry: Ancestry) -> None:
        self._ancestry = ancestry
        self._key: Tensor | None = None
        self._value: Tensor | None = None
        self._used = 0

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write a whole prompt, or the newest token of every beam.

        Args:
            key: (B, H, T, K) float.
            value: (B, H, T, K) float.
        Returns:
            key, value: (B, H, S, K) float. Everything so far, the new ones last.
        """
        if self._key is None or self._value is None:
            rows, heads, _, width = key.shape
            shape, dtype = (rows, heads, self._ancestry.max_slots, width), step_type(key)
            self._key = key.new_empty(shape, dtype=dtype)
            self._value = key.new_empty(shape, dtype=dtype)
        start, end = self._used, self._used + key.shape[2]
        self._key[:, :, start:end] = key
        self._value[:, :, start:end] = value
        self._used = end
        return self._key[:, :, :end], self._value[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Keep these sentences.

        Args:
            rows: (B,) int64.
        """
        if self._key is not None and self._value is not None:
            self._key = _keep_rows(self._key, rows, self._used)
            self._value = _keep_rows(self._value, rows, self._used)


def _keep_rows(buffer: Tensor, rows: Tensor, used: int) -> Tensor:
    """Copy the used slots of some rows into a buffer of the same room."""
    kept = buffer.new_empty(len(rows), *buffer.shape[1:])
    kept[:, :, :used] = buffer[:, :, :used].index_select(0, rows)
    return kept
