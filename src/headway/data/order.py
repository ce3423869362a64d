"""Which examples make up step s of epoch e: a pure function of seed, epoch, step, world size.

So a run is resumed from two integers, and needs no state of a loader.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headway.errors import ConfigError


def generator(*key: int) -> np.random.Generator:
    """Make a random generator that depends on these integers and nothing else."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([k & 0xFFFFFFFF for k in key]))
    )


def plan_epoch(
    lengths: np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_tokens: int | None = None,
    batch_rows: int | None = None,
    by_length: bool = True,
) -> list[np.ndarray]:
    """Divide an epoch into optimizer steps.

    Every example appears exactly once. Batches by length hold examples of like length, which
    leaves little padding; which ones come together changes from epoch to epoch, since equal
    lengths are shuffled and the sort has a little noise.

    Args:
        lengths: (N, sides) int. Tokens of each example on each side.
        seed: Of the run.
        epoch: Counted from 0.
        batch_tokens: Real tokens of all sides in a step, at most (an example alone may be more).
        batch_rows: Examples in a step. Exactly one of the two is given.
        by_length: Put examples of like length together; else take them as shuffled.
    Returns:
        steps: Indices of the examples of each step.
    Raises:
        ConfigError: unless exactly one of batch_tokens and batch_rows is given.
    """
    if (batch_tokens is None) == (batch_rows is None):
        raise ConfigError("give exactly one of training.batch-tokens and training.batch-rows")
    random = generator(seed, epoch)
    order = random.permutation(len(lengths))
    if by_length and len(order):
        # The last side (the target) decides, as the decoder is the dearer half; the source is
        # sorted inside it, with noise so that neighbours change.
        noise = random.uniform(0, 2, size=len(order))
        keys = lengths[order]
        order = order[np.lexsort((keys[:, 0] + noise, keys[:, -1]))]
    if batch_tokens is not None:
        steps = _cut_by_tokens(order, lengths.sum(1), batch_tokens)
    else:
        steps = [order[i : i + (batch_rows or 1)] for i in range(0, len(order), batch_rows or 1)]
    return [steps[i] for i in random.permutation(len(steps))] if by_length else steps


def _cut_by_tokens(order: np.ndarray, tokens: np.ndarray, budget: int) -> list[np.ndarray]:
    steps, start, filled = [], 0, 0
    for place, index in enumerate(order):
        if filled and filled + tokens[index] > budget:
            steps.append(order[start:place])
            start, filled = place, 0
        filled += int(tokens[index])
    if len(order):
        steps.append(order[start:])
    return steps


def share(step: np.ndarray, *, rank: int, world_size: int) -> np.ndarray:
    """Take one rank's part of a step's examples; neighbours in length go to different ranks."""
    return step[rank::world_size]


def split_micro_batches(
    step: np.ndarray, lengths: np.ndarray, *, micro_batch_tokens: int
) -> list[np.ndarray]:
    """Cut a step into forward passes of bounded size, examples of like length together.

    Args:
        step: Indices of the step's examples.
        lengths: (N, sides) int. Tokens of each example on each side.
        micro_batch_tokens: Cells (padding counted) of a micro-batch, at most; an example alone
            may be more.
    Returns:
        micro_batches: Indices, longest first, so that memory is claimed once.
    """
    order = step[np.argsort(-lengths[step].sum(1), kind="stable")]
    micro_batches, start = [], 0
    widest = np.zeros(lengths.shape[1], dtype=np.int64)
    for place, index in enumerate(order):
        wider = np.maximum(widest, lengths[index])
        if place > start and int(wider.sum()) * (place - start + 1) > micro_batch_tokens:
            micro_batches.append(order[start:place])
            start, wider = place, lengths[index]
        widest = wider
    if len(order):
        micro_batches.append(order[start:])
    return micro_batches


def inference_batches(
    lengths: Sequence[int], *, batch_tokens: int, batch_rows: int
) -> list[np.ndarray]:
    """Group rows of like length for prediction, longest first.

    Args:
        lengths: Tokens of each row.
        batch_tokens: Cells of a batch, at most; a row alone may be more.
        batch_rows: Rows of a batch, at most.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    for place in range(1, len(order) + 1):
        cells = int(lengths[order[start]]) * (place - start + 1)
        if place == len(order) or place - start >= batch_rows or cells > batch_tokens:
            batches.append(order[start:place])
            start = place
    return batches
