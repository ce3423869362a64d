"""Turn texts into vectors with an encoder: one for each text, or one for each word.

headway embed run/model texts.txt --out vectors.npy
headway embed run/model texts.txt --layers concat-last-4 --pool cls
headway embed run/model texts.txt --pool tokens

A line of plain text, or the column "text" of a JSONL, TSV or CSV, is a text. Vectors are written as
they come, so that a file of any length needs little memory; a NumPy file takes its name when it is
whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import tyro

from headway.cli import _records
from headway.files.manifest import replacing

if TYPE_CHECKING:
    from headway.tasks._embedding import Embedded


@dataclass(frozen=True)
class Options:
    """Options of `headway embed`."""

    model: tyro.conf.Positional[Path]
    """Model folder of an encoder."""
    file: tyro.conf.Positional[str] = "-"
    """File of texts; - is standard input."""
    layers: str = "last"
    """first, last, N (0: the embeddings), second-to-last, sum-all, sum-last-4, concat-last-4."""
    pool: str = "mean"
    """cls (the first token), mean, max, or tokens: a vector for each word."""
    normalize: bool = False
    """Give every vector the length 1."""
    columns: tuple[str, ...] = ()
    """Names for a file without a header, or ours=theirs to rename columns."""
    skip_bad: bool = False
    """Write {"error": ...} for rows that cannot be used instead of stopping; with --out leave them
    out."""
    precision: str = "fp32"
    """fp32, bf16, int8, or auto: bf16 where the hardware multiplies it."""
    out: Path | None = None
    """Write a NumPy file, rows x width, in place of JSONL. With --pool tokens a row is a word, and
    FILE.words.tsv says which: the number of the text's row, counted from 0, and the word."""


def run(options: Options) -> None:
    """Embed and print, or write, part by part."""
    _records.check_place(options.out, "--out")
    import torch.nn.functional as F

    from headway.tasks._embedding import embed

    model = _records.open_model(options.model, precision=options.precision)
    records = _records.read([options.file], options, columns=("text",), keep_blank=True)
    by_word, cut = options.pool == "tokens", []
    unknown = _records.UnknownTexts(model.tokenizer)
    with _open_array(options.out, by_word=by_word) as array:

        def answer(asked: dict[int, Any], progress) -> Iterable[Any]:
            texts = [row["text"] for row in asked.values()]
            unknown.add(texts)
            found = embed(model, texts, layers=options.layers, pool=options.pool, progress=progress)
            cut.extend({"cut": ["source"]} for item in found if item.is_cut)
            if options.normalize:
                found = [replace(one, vectors=F.normalize(one.vectors, dim=-1)) for one in found]
            if array is None:
                return map(partial(_answer, by_word=by_word), texts, found)
            array.add(found, numbers=list(asked))
            return found

        show = _records.write if array is None else lambda answer: None
        _records.answer_parts("embed", records, answer, show)
    num_bad = len(records.bad)
    _records.warn_of_cuts(cut, len(records) + num_bad, num_bad=num_bad)
    unknown.warn()


def _answer(text: str, item: Embedded, *, by_word: bool) -> dict[str, object]:
    """Give what is printed of a text."""
    values = [[round(value, 7) for value in row] for row in item.vectors.tolist()]
    if by_word:
        return {"text": text, "words": item.words, "vectors": values}
    return {"text": text, "vector": values[0]}


class _Array:
    """A NumPy file, rows x width, to which rows are added; beside it the words they stand for.

    Args:
        rows: The file.
        words: Takes a line for each row; None where a row is a whole text.
    """

    def __init__(self, rows: BinaryIO, words: BinaryIO | None) -> None:
        self.rows, self.words = rows, words
        self.count, self.width = 0, 0

    def add(self, found: Sequence[Embedded], *, numbers: Sequence[int]) -> None:
        """Add the vectors of texts, whose numbers the words are given."""
        import torch

        if not found:
            return
        vectors = torch.cat([item.vectors for item in found]).numpy()
        if not self.rows.tell():
            self.width = vectors.shape[1]
            self.write_header()
        self.rows.write(vectors.tobytes())
        self.count += len(vectors)
        if self.words is not None:
            for number, item in zip(numbers, found, strict=True):
                self.words.writelines(f"{number}\t{word}\n".encode() for word in item.words)

    def write_header(self) -> None:
        """Say at the front how many rows there are; NumPy leaves room for a larger number."""
        import numpy as np

        self.rows.seek(0)
        kind = np.lib.format.dtype_to_descr(np.dtype(np.float32))
        header = {"descr": kind, "fortran_order": False, "shape": (self.count, self.width)}
        np.lib.format.write_array_header_1_0(self.rows, header)


@contextlib.contextmanager
def _open_array(path: Path | None, *, by_word: bool) -> Iterator[_Array | None]:
    """Open a NumPy file, and one of words beside it; None where there is no path."""
    if path is None:
        yield None
        return
    with contextlib.ExitStack() as files:
        words = None
        if by_word:
            words = files.enter_context(replacing(path.with_name(f"{path.name}.words.tsv")))
        array = _Array(files.enter_context(replacing(path)), words)
        yield array
        array.write_header()
