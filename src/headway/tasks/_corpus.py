"""What tasks share that learn from running text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from headway.data.batch import Example
from headway.data.store import store_of_texts
from headway.errors import DataError
from headway.tasks._task import Encoded, Rows, Setting, Task


class OnCorpus(Task):
    """Tasks that read a corpus; records are one too, each text a document."""

    columns: ClassVar[tuple[str, ...]] = ("text",)
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    reads_corpus: ClassVar[bool] = True

    def encode(self, rows: Rows, setting: Setting) -> Encoded:
        """Turn records into examples: each text is a document."""
        texts = [row["text"] for row in rows]
        store = store_of_texts(texts, setting.tokenizer, keeps_lines=self.keeps_lines)
        return self.encode_corpus(store, setting)


class OnDemand(Sequence[Example]):
    """Examples that are made when they are asked for.

    Args:
        windows: (N, k) int64. Where in the corpus each is found.
        make: Gives one of them, from its number and its row of `windows`.
    """

    def __init__(self, windows: np.ndarray, make: Callable[[int, list[int]], Example]) -> None:
        self.windows, self.make = windows, make

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index):
        return self.make(int(index), self.windows[index].tolist())


def no_text(hint: str = "is the text in the tokenizer's script?") -> DataError:
    """Give the error for a corpus that no example comes out of."""
    return DataError("the corpus has no text that an example could be made of", hint=hint)
