"""Settings and data that all tests share."""

from __future__ import annotations

import os

# Before torch is imported: tests run beside each other on few cores.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("headway", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("headway")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    # What an older version learned or tokenized must not be found; matplotlib keeps its fonts.
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:
            patch.setenv("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def multi30k() -> Path:
    """Give the folder of the Multi30k data."""
    folder = SHARED_DATA / "multi30k"
    if not folder.is_dir():
        pytest.skip("the Multi30k data is not here (see benchmarks/README.md)")
    return folder
