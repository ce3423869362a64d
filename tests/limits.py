"""Limits for what might never end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seconds_at_most(limit: float) -> Iterator[None]:
    """Raise a TimeoutError after so many seconds of work, before an endless loop fills the memory.

    Waiting does not count, and pytest's own limit keeps its signal.
    """

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
