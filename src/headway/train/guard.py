"""What protects a run: signals, a lock, room on the disk."""

from __future__ import annotations

import fcntl
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from headway.errors import EXIT_STOPPED, FileError, HeadwayError


class Stopped(HeadwayError):
    """Training was stopped by a signal; its checkpoint is saved."""

    exit_code = EXIT_STOPPED


class Interrupted(Exception):
    """A computation was given up because somebody asked for it."""


class StopSignal:
    """Notes the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received_at: float | None = None

    @property
    def is_set(self) -> bool:
        """Say whether a signal came."""
        return self.received_at is not None

    @property
    def is_urgent(self) -> bool:
        """Say whether a signal came so long ago that the running step must be dropped."""
        return self.received_at is not None and time.monotonic() - self.received_at > 8

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received_at = time.monotonic()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals while the block runs; outside the main thread, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread may set handlers.
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Keep a second process out of a run directory.

    The operating system drops the lock when the process ends, however it ends.

    Raises:
        FileError: if another process holds it.
    """
    try:
        stream = (run_dir / ".lock").open("a")
    except OSError as error:
        raise FileError(f"{run_dir} cannot be written: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileError(
                f"{run_dir} is in use by another process",
                hint="wait until it ends, or choose another --out",
            ) from error
        yield


def check_free(run_dir: Path) -> None:
    """Check that nothing would be overwritten by a run.

    Raises:
        FileError: if there is something.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise FileError(f"{run_dir} is no directory", hint="choose another --out")
    if run_dir.exists() and any(run_dir.iterdir()):
        raise FileError(
            f"{run_dir} is not empty, and a run is never overwritten",
            hint=f"choose another --out, or go on with: headway train --resume {run_dir}",
        )


def check_room(folder: Path, needed_bytes: int) -> None:
    """Check that a checkpoint fits before a run starts.

    Raises:
        FileError: if the disk has less room.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise FileError(
            f"{folder} has {free / 1e6:,.0f} MB free, but a checkpoint needs "
            f"{needed_bytes / 1e6:,.0f} MB",
            hint="free some space or choose another --out",
        )
