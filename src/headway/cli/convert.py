"""Make an old model folder readable: pickled weights and old vocabularies become today's files.

headway convert bert-base-uncased

Writes model.safetensors from pytorch_model.bin (opened in a process of its own, tensors only), and
tokenizer.json from vocab.txt, merges.txt or a SentencePiece model. What was there stays there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from headway.errors import FileError


@dataclass(frozen=True)
class Options:
    """Options of `headway convert`."""

    folder: tyro.conf.Positional[Path]
    """Model folder; the new files are written into it."""


def run(options: Options) -> None:
    """Convert what needs it."""
    from headway.text.legacy import VOCABULARIES, has_vocabulary

    folder = options.folder
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder}")
    weights = _weights(folder)
    if weights and not has_vocabulary(folder):
        sys.stderr.write(f"warning: no vocabulary was found: there is no {VOCABULARIES}\n")
        return
    tokenizer = _tokenizer(folder)
    if not weights and not tokenizer:
        sys.stderr.write(f"{folder} needs no conversion\n")


def _tell(path: Path) -> bool:
    """Say at once what was written, whatever becomes of the rest."""
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()
    return True


def _weights(folder: Path) -> bool:
    """Write the weights as safetensors, unless they are; say whether they were written."""
    name = "model.safetensors"
    if (folder / name).exists() or (folder / f"{name}.index.json").exists():
        return False
    draft = folder / f".{name}.{os.getpid()}.part"
    # Safe path: a module that lies in the folder at hand is never imported.
    command = [sys.executable, "-P", "-m", "headway.files.unpickle", str(folder), str(draft)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise FileError(lines[-1] if lines else f"the conversion ended with {done.returncode}")
        draft.replace(folder / name)
    finally:
        draft.unlink(missing_ok=True)
    return _tell(folder / name)


def _tokenizer(folder: Path) -> bool:
    """Write the vocabulary as tokenizer.json, unless it is; say whether it was written."""
    from headway.files.manifest import write_text
    from headway.files.vocabulary import read_special_tokens, read_tokenizer_config
    from headway.text.legacy import read_tokenizer

    name = "tokenizer.json"
    if (folder / name).exists():
        return False
    tokenizer = read_tokenizer(
        folder, names=read_special_tokens(folder), settings=read_tokenizer_config(folder)
    )
    write_text(folder / name, tokenizer.to_json())
    return _tell(folder / name)
