"""Where the Multi30k files lie."""

from __future__ import annotations

from pathlib import Path

from headway.data.read import read_records
from headway.tasks._task import Record


def parallel_files(data: Path, split: str) -> tuple[str, str]:
    """Name the German and the English file of a split."""
    return str(data / f"{split}.de.txt.gz"), str(data / f"{split}.en.txt.gz")


def read_pairs(data: Path, split: str) -> list[Record]:
    """Read records with source and target."""
    return read_records(parallel_files(data, split), columns=("source", "target")).rows
