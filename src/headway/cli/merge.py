"""Make an adapter part of its model: one folder, which needs no other and opens everywhere.

headway merge run/model merged
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from headway.cli import _records
from headway.errors import ConfigError, FileError


@dataclass(frozen=True)
class Options:
    """Options of `headway merge`."""

    adapter: tyro.conf.Positional[Path]
    """Folder with an adapter, ours or PEFT's."""
    out: tyro.conf.Positional[Path]
    """Folder to write; it must be new or empty."""


def run(options: Options) -> None:
    """Open the adapter with its base model, and write both as one."""
    model = _records.open_model(options.adapter)
    base = model.adapter.base if model.adapter is not None else options.adapter
    if options.out.resolve() in (options.adapter.resolve(), base.resolve()):
        raise ConfigError(
            f"{options.out} is what would be merged, and would be lost", hint="name another folder"
        )
    if options.out.is_dir() and any(options.out.iterdir()):
        raise FileError(f"{options.out} is not empty", hint="name a new folder")
    model.merge().save(options.out)
    sys.stdout.write(f"{options.out}\n")
