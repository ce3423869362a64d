"""What a run writes down: metrics.jsonl, environment.json, log.txt."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from headway.errors import FileError
from headway.files.manifest import read_json, write_text
from headway.recipe import identify
from headway.sections import Recipe


def append_line(path: Path, line: str) -> None:
    """Add a line to a file.

    Raises:
        FileError: if it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


def append_json(path: Path, value: Mapping[str, Any]) -> None:
    """Add an object to a JSONL file."""
    append_line(path, json.dumps(value, ensure_ascii=False))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl, leaving out a last line that a crash cut short."""
    rows = []
    for line in _read(path).split("\n"):
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]


def cut_metrics(run_dir: Path, *, reports: int, evaluations: int, averages: int) -> None:
    """Take out of metrics.jsonl what a run that goes on will write again, and half lines.

    Args:
        run_dir: A run directory.
        reports, evaluations, averages: The last step of each kind of row that stays.
    Raises:
        FileError: if the file cannot be written; it is then as it was.
    """
    path = run_dir / "metrics.jsonl"

    def stays(row: Mapping[str, Any]) -> bool:
        kind = averages if "averaged_checkpoints" in row else evaluations
        step = row.get("step")
        return isinstance(step, int) and step <= (kind if "valid" in row else reports)

    rows = [json.dumps(row, ensure_ascii=False) for row in read_jsonl(path) if stays(row)]
    text = "".join(row + "\n" for row in rows)
    if text != _read(path):
        write_text(path, text)


def _read(path: Path) -> str:
    # What a power failure leaves need not be text.
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def log_line(run_dir: Path, text: str) -> None:
    """Add a dated line to log.txt."""
    append_line(run_dir / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")


def describe_environment(fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Describe versions, hardware, threads, data and code of a run."""
    packages = ("headway", "torch", "numpy", "tokenizers", "safetensors", "sacrebleu")
    return {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "data_sha256": dict(fingerprints),
        "git": _git_commit(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def check_unchanged(run_dir: Path, fingerprints: Mapping[str, str], recipe: Recipe) -> None:
    """Compare data and recipe with those that a run started with.

    Raises:
        FileError: naming what changed.
    """
    before = read_json(run_dir / "environment.json")
    hashes = before.get("data_sha256", {})
    changed = [name for name, value in fingerprints.items() if hashes.get(name) != value]
    own = identify(recipe)
    if before.get("recipe_sha256", own) != own:
        changed.append(f"more than the length in {run_dir / 'recipe.toml'}")
    if changed:
        raise FileError(
            f"{', '.join(changed)} changed since the run started",
            hint="start a new run, or put back what was there",
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def _git_commit() -> str | None:
    """Give the commit of the source that runs, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
