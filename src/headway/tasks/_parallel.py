"""Several batches at once on a CPU, each on few threads.

The matrices of a search are small: two threads that share each of them mostly wait for each other,
while two batches on a thread each do not (about 1.3 times as fast on two cores; RESULTS.md of the
benchmarks). Python's lock is free while torch computes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Answer = TypeVar("Answer")

# With more, Python's lock becomes the narrow place.
_MOST_WORKERS = 4


def answer_batches(
    answer: Callable[[Part], Answer], batches: Sequence[Part], *, device: torch.device
) -> Generator[Answer, None, None]:
    """Answer batches side by side where that pays; give the answers in order.

    Who may stop before the end closes it, or what was not answered yet goes on being answered.

    Args:
        answer: Called in a thread of its own, with torch's threads shared out among the callers.
        batches: What to answer.
        device: Where `answer` computes.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST_WORKERS, len(batches))
    if device.type != "cpu" or workers < 2:
        yield from map(answer, batches)
        return
    # OpenMP counts threads for each caller, so every worker sets its own.
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
    )
    try:
        yield from pool.map(answer, batches)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
