"""Published models by name: hub:owner/name, fetched once into the cache that all tools share.

Nothing is fetched unless it is asked for in these words, and no file that could hold code or
pickled objects is.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from headway.errors import FileError
from headway.files.folder import read_config

PREFIX = "hub:"
_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?")
# What a model folder is made of; folders inside hold other formats of the same weights.
_WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_UNWANTED = "*/*"


def local_folder(name: str | Path) -> Path:
    """Give the folder of a model: the path itself, or where a published model was fetched to.

    Args:
        name: Path of a folder, or hub:owner/name; hub:owner/name@revision for a branch, tag or
            commit. Host, token and cache are those of `huggingface_hub` (HF_ENDPOINT, HF_TOKEN,
            HF_HOME); without a network, what was fetched before is taken.
    Raises:
        FileError: if it cannot be fetched, or holds no weights in safetensors.
    """
    if not str(name).startswith(PREFIX):
        return Path(name)
    # Read when it is loaded, which only those who fetch wait for: it would say what program asks.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()

    found = _NAME.fullmatch(str(name))
    if found is None or ".." in str(name):
        raise FileError(f"{name} is no name of a model", hint="write hub:owner/name")
    repository, revision = found.groups()
    # First what says whether it can be used at all.
    for wanted in ("*.json", _WANTED):
        try:
            fetched = snapshot_download(
                repository, revision=revision, allow_patterns=wanted, ignore_patterns=_UNWANTED
            )
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise FileError(
                f"{name} could not be fetched: {lines[0] if lines else type(error).__name__}",
                hint="is the name right (hub:owner/name), and is there a network?",
            ) from error
        folder = Path(fetched)
        if (folder / "config.json").is_file():
            read_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise FileError(
            f"{name} has no weights in safetensors",
            hint="fetch its folder by other means, and see headway convert --help",
        )
    return folder


def fetched_before(name: str, revision: str | None = None) -> Path | None:
    """Give the folder of a published model, owner/name, that is in the cache; never fetch it."""
    if not _NAME.fullmatch(PREFIX + name) or ".." in name or "@" in name:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = {"allow_patterns": _WANTED, "ignore_patterns": _UNWANTED}
    try:
        found = snapshot_download(name, revision=revision, local_files_only=True, **patterns)
        return Path(found)
    except (LocalEntryNotFoundError, ValueError):
        return None


def published_as(folder: Path) -> tuple[str, str] | None:
    """Give owner/name and commit of a folder in the cache; None for a folder elsewhere."""
    *_, repository, kind, commit = ("", "", *folder.absolute().parts)
    if kind != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), commit


def pinned(name: str) -> str:
    """Name a published model with its commit, which is the same for ever; a path is in full."""
    if not name.startswith(PREFIX):
        return str(Path(name).absolute())
    return f"{name.partition('@')[0]}@{local_folder(name).name}"
