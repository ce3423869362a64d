"""What tasks share that learn from running text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

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
        count: How many there are.
        make: Gives one of them by its number.
    """

    def __init__(self, count: int, make: Callable[[int], Example]) -> None:
        self.count, self.make = count, make

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):
        return self.make(int(index))


def no_text(hint: str = "is the text in the tokenizer's script?") -> DataError:
    """Give the error for a corpus that no example comes out of."""
    return DataError("the corpus has no text that an example could be made of", hint=hint)
