"""Settings of the process: threads wait politely, kernels and freed memory are kept sensibly."""

from __future__ import annotations

import ctypes
import os
import sys

# Turns a waiting thread spins before it sleeps. The library's default (some 300,000) slows a run
# five- to tenfold as soon as another process uses the cores; sleeping at once makes every small
# operation wait for a wake-up. 10,000 cost nothing measurable alone (benchmarks/RESULTS.md).
_SPIN_TURNS = "10000"

# Matrix kernels that oneDNN keeps for later. Training has hundreds of shapes: keeping the default
# of 1,024 kernels took a gigabyte more and made steps slower. Searches have few shapes, and were
# faster with the default (benchmarks/RESULTS.md).
_TRAINING_KERNELS = "128"


def choose_environment(*, is_training: bool = False) -> None:
    """Set what torch's libraries read when they are loaded; call before torch is imported.

    A user's own settings are respected.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_TURNS)
    if is_training:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _TRAINING_KERNELS)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory instead of returning it after every large tensor.

    Without this each step faults its activations in again; it made training steps 1.05 to 1.35
    times as fast. Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
