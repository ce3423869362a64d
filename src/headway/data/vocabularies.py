"""Learned vocabularies, kept beside the stores of corpora: the same data find the same one again.

Where learning depends on chance (`text/train.py`), this makes a second run equal to the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from headway.data.lines import STDIN, fingerprint, replacing
from headway.data.store import default_folder, make_key
from headway.errors import FileError
from headway.text.tokenizer import Tokenizer

# Written into the key: raise it when vocabularies are learned in another way.
_FORMAT = 1


def find_vocabulary(
    paths: Sequence[str | Path],
    settings: Any,
    learn: Callable[[], Tokenizer],
    *,
    folder: Path | None = None,
) -> Tokenizer:
    """Learn a vocabulary, or find it learned already.

    Args:
        paths: Files that it is learned from; one from standard input is always learned.
        settings: Whatever else decides what is learned, as JSON can write it.
        learn: Learns it.
        folder: Where vocabularies are kept; None is `default_folder`. One that cannot be written
            costs a second run its time.
    Raises:
        FileError: if a training file cannot be read.
    """
    if STDIN in map(str, paths):
        return learn()
    # A name decides how a file is read.
    files = [[*fingerprint([path]).values(), Path(path).suffixes] for path in paths]
    key = make_key(_FORMAT, files, settings)
    place = (folder or default_folder("vocabularies")) / f"{key}.json"
    # One that is missing or damaged is learned.
    with contextlib.suppress(FileError):
        return Tokenizer.from_file(place)
    tokenizer = learn()
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as stream:
            stream.write(tokenizer.to_json().encode())
    # Read again in any case, so that the first run has the very same as the second.
    return Tokenizer.from_json(tokenizer.to_json())
