"""A side of a comparison in a process of its own, idle until asked, and the search for its best.

Each side so has its own threads, allocator and environment, as its users would run it, and nothing
of one side is at work while another is measured. This file imports no torch: a process chooses
its environment first.
"""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Files:
    """What all sides share: the data, and a folder for models."""

    data: Path
    work: Path
    model: Path


@dataclass(frozen=True, kw_only=True)
class Side:
    """One row of a table."""

    name: str
    """As printed."""
    kind: str
    """Class in `module`."""
    module: str = "_peers"
    """File beside this one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class."""
    polite: bool = False
    """With Headway's process settings (short spinning, few kernels and freed memory kept), which
    its command line turns on; else as the side comes."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of its process."""

    def described(self) -> str:
        """Give the settings in words."""
        words = [f"{key} {value}" for key, value in self.options.items()]
        words += ["our process settings"] if self.polite else []
        words += [f"{key}={value}" for key, value in self.environment.items()]
        return ", ".join(words)


class Worker:
    """The process of a side; a context manager."""

    def __init__(self, side: Side, files: Files) -> None:
        self.side = side
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, side, files), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()

    def ask(self, method: str, **arguments: Any) -> Any:
        """Call a method of the side, and wait for what it returns."""
        self._pipe.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            error, result = self._pipe.recv()
        except EOFError:
            error, result = "the process ended", None
        if error:
            raise RuntimeError(f"{self.side.name}: {error}")
        return result


def _serve(pipe: Connection, side: Side, files: Files) -> None:
    # Libraries look at these when they are loaded, so before any of them is.
    for name in (
        *("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"),
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    ):
        os.environ.pop(name, None)
    os.environ.update(TRANSFORMERS_VERBOSITY="error", TQDM_DISABLE="1", **side.environment)
    if side.polite:
        from headway.memory import choose_environment, keep_freed_memory

        choose_environment(is_training=side.kind.endswith("Training"))
        keep_freed_memory()
    # What a library prints is no part of the tables.
    sys.stdout = sys.stderr

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            answer = (None, call())
        except Exception:
            answer = (traceback.format_exc(), None)
        pipe.send(answer)

    made: list[Any] = []

    def make() -> None:
        kind = vars(importlib.import_module(side.module))[side.kind]
        made.append(kind(files, **side.options))

    attempt(make)
    while made:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        attempt(lambda: getattr(made[0], method)(**arguments))  # noqa: B023


@dataclass(frozen=True)
class Choice:
    """The settings a side ran fastest with, and all that were tried: in words -> tokens/s."""

    side: Side
    tried: dict[str, float]


def choose(
    side: Side,
    changes: Sequence[Mapping[str, Any]],
    speed: Callable[[Worker], float],
    files: Files,
) -> Choice:
    """Try changes of a side one after the other, and keep each that is faster.

    Args:
        side: As it comes.
        changes: Fields of Side; options and environment are added to those kept so far.
        speed: Tokens per second of a short run.
    """

    def measured(candidate: Side) -> float:
        with Worker(candidate, files) as worker:
            return round(speed(worker), 1)

    tried = {side.described(): measured(side)}
    best = side
    for change in changes:
        candidate = dataclasses.replace(
            best,
            options={**best.options, **change.get("options", {})},
            environment={**best.environment, **change.get("environment", {})},
            polite=change.get("polite", best.polite),
        )
        tried[candidate.described()] = measured(candidate)
        if tried[candidate.described()] > tried[best.described()]:
            best = candidate
    return Choice(best, tried)
