"""Published models by name: hub:owner/name, fetched once into the cache that all tools share.

Nothing is fetched unless it is asked for in these words, and no file that could hold code or
pickled objects is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from headway.errors import FileError

PREFIX = "hub:"
# What a model folder is made of; folders inside hold other formats of the same weights.
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_UNWANTED = ("*/*",)


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
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()

    repository, _, revision = str(name).removeprefix(PREFIX).partition("@")
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=list(_WANTED),
            ignore_patterns=list(_UNWANTED),
        )
    except (OSError, HFValidationError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise FileError(
            f"{name} could not be fetched: {lines[0] if lines else type(error).__name__}",
            hint="is the name right (hub:owner/name), and is there a network?",
        ) from error
    if not any(Path(folder).glob("*.safetensors")):
        raise FileError(
            f"{name} has no weights in safetensors",
            hint="fetch its folder by other means, and see headway convert --help",
        )
    return Path(folder)
