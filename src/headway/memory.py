"""Settings of the process: threads wait politely, kernels and freed memory are kept sensibly."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

# Read by libraries when torch is loaded; the measurements are in benchmarks/RESULTS.md.
_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        # Turns a waiting thread spins before it sleeps. The library's default (some 300,000) slows
        # a run five- to tenfold as soon as another process uses the cores; sleeping at once makes
        # every small operation wait for a wake-up. 10,000 cost nothing measurable alone.
        "GOMP_SPINCOUNT": "10000",
        # Matrix kernels kept for later, each some 400 kB in the middle of the heap. Batches come
        # in hundreds of shapes, so the default of 1,024 is never enough to find them again, but
        # enough to spread all tensors over gigabytes. A step uses about 40, in every layer again.
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128",
    }
)


def choose_environment() -> None:
    """Set what torch's libraries read when they are loaded; call before torch is imported.

    A user's own settings are respected.
    """
    for name, value in _ENVIRONMENT.items():
        if name != "GOMP_SPINCOUNT" or "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault(name, value)


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
