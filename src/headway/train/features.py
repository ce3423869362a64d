"""What frozen layers give, computed once and kept."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headway.data.batch import Batch
from headway.errors import FileError
from headway.layers.side import Side, Start
from headway.tasks._model import Model
from headway.tasks._task import Encoded
from headway.train.evaluate import batches_without_gradients


class Features:
    """Hidden states of all examples at some depths of a body.

    They depend on nothing but the frozen weights: a run that is resumed computes the same bits.

    Args:
        model: Whose body is frozen up to the largest of the depths.
        examples: The same in every pass.
        depths: Which hidden states to keep.
        precision: "fp32" or "bf16", of the training.
        budget_bytes: What may lie in memory; beyond it, in a file without a name in `folder`.
        folder: None: the system's folder for such files.
        stopping: Asked between batches; True raises `Interrupted`.
    """

    def __init__(
        self,
        model: Model,
        examples: Encoded,
        depths: Sequence[int],
        *,
        precision: str,
        budget_bytes: int,
        folder: Path | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._device = next(model.body.parameters()).device
        self._precision = precision
        self._starts = np.concatenate([[0], np.cumsum(examples.lengths[:, 0])])
        self._states: dict[int, Tensor] = {}
        self._places = {example.index: place for place, example in enumerate(examples.examples)}
        for batch in batches_without_gradients(model, examples, stopping):
            for depth, hidden in self._compute(model, batch, depths).items():
                if depth not in self._states:
                    shape = (int(self._starts[-1]), hidden.shape[-1])
                    room = budget_bytes // len(depths)
                    self._states[depth] = _make_store(shape, hidden.dtype, room, folder)
                self._states[depth][self._tokens_of(batch)] = hidden

    def _compute(self, model: Model, batch: Batch, depths: Sequence[int]) -> dict[int, Tensor]:
        """Read a batch; give the states of its real tokens, (N, D) float, by depth."""
        model.body.eval()
        real = batch.source.attention_mask
        half = torch.autocast(self._device.type, torch.bfloat16, self._precision == "bf16")
        with torch.inference_mode(), half:
            states = itertools.islice(model.body.hidden_states(batch.source), max(depths) + 1)
            return {n: hidden[real].cpu() for n, hidden in enumerate(states) if n in depths}

    def _tokens_of(self, batch: Batch) -> Tensor:
        """Find the places of a batch's tokens in the store, (N) int64."""
        places = [self._places[index] for index in batch.indices]
        return torch.from_numpy(
            np.concatenate([np.arange(self._starts[p], self._starts[p + 1]) for p in places])
        )

    def attach(self, batch: Batch, depth: int) -> Batch:
        """Let a body go on from the states at a depth."""
        states = self._states[depth]
        kept = states.index_select(0, self._tokens_of(batch)).to(self._device)
        side: Side = batch.source
        hidden = kept.new_zeros((*side.documents.shape, states.shape[1]))
        hidden[side.attention_mask] = kept
        return replace(batch, source=replace(side, start=Start(hidden, depth)))

    def drop_above(self, depth: int) -> None:
        """Forget what is no longer asked for."""
        self._states = {key: value for key, value in self._states.items() if key <= depth}


def _make_store(
    shape: tuple[int, int], dtype: torch.dtype, room: int, folder: Path | None
) -> Tensor:
    size = shape[0] * shape[1]
    if size * dtype.itemsize <= room:
        return torch.empty(shape, dtype=dtype)
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            # Claimed at once: a disk that is full later would kill the process.
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
            # The mapping outlives the name: nothing is left behind, however the process ends.
            return torch.from_file(file.name, shared=True, size=size, dtype=dtype).view(shape)
    except OSError as error:
        raise FileError(
            f"{size * dtype.itemsize / 1e6:,.0f} MB for what frozen layers give have no room: "
            f"{error.strerror or error}",
            hint="free some space, or set playbook.cache-megabytes to 0 to compute it every time",
        ) from error
