"""Files for the tests of readers."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files into an empty folder and stand in it, so that messages show bare names."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return name

    return write_file
