"""Trainings of a benchmark by the command line, as a user would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One training: a name for the tables, a shipped recipe, and flags."""

    name: str
    recipe: str
    flags: Mapping[str, str | Sequence[str]]

    def folder(self, work: Path) -> Path:
        """Give the run directory."""
        return work / self.name.replace(",", "").replace(" ", "-")

    def words(self) -> list[str]:
        """Spell the flags out."""
        words = []
        for key, value in self.flags.items():
            words += [f"--{key}", *([value] if isinstance(value, str) else value)]
        return words


def train(jobs: Sequence[Job], work: Path, *, at_once: int) -> None:
    """Run the trainings that are not finished, so many at once, each on threads of its own."""
    threads = max(1, (os.cpu_count() or 1) // at_once)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}

    def run(job: Job) -> None:
        folder = job.folder(work)
        log = folder / "log.txt"
        if log.exists() and "finished at step" in log.read_text(encoding="utf-8"):
            return
        words = ["train", "--resume", str(folder)]
        if not (folder / "recipe.toml").exists():
            words = ["train", job.recipe, "--out", str(folder), *job.words()]
        print(f"{job.name}: {' '.join(words)}", file=sys.stderr, flush=True)
        started = time.monotonic()
        command = [sys.executable, "-m", "headway", *words]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{job.name}: {done.stderr[-500:]}")
        minutes = (time.monotonic() - started) / 60
        print(f"{job.name}: {minutes:.1f} minutes", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, jobs))


def training_minutes(folder: Path) -> float:
    """Read off how long a run took, by the clock of its metrics.jsonl."""
    last = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return json.loads(last)["seconds"] / 60
