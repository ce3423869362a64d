"""Turn texts into vectors with an encoder: one for each text, or one for each word.

headway embed run/model texts.txt --out vectors.npy
headway embed run/model texts.txt --layers concat-last-4 --pool cls
headway embed run/model texts.txt --pool tokens

A line of plain text, or the column "text" of a JSONL, TSV or CSV, is a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from headway.errors import FileError


@dataclass(frozen=True)
class Options:
    """Options of `headway embed`."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder of an encoder."""
    file: Annotated[str, tyro.conf.Positional] = "-"
    """File of texts; - is standard input."""
    layers: str = "last"
    """first, last, N (0: the embeddings), second-to-last, sum-all, sum-last-4, concat-last-4."""
    pool: str = "mean"
    """cls (the first token), mean, max, or tokens: a vector for each word."""
    normalize: bool = False
    """Give every vector the length 1."""
    columns: tuple[str, ...] = ()
    """Names for a file without a header, or ours=theirs to rename columns."""
    precision: str = "fp32"
    """fp32, bf16, or auto: bf16 where the hardware multiplies it."""
    out: Path | None = None
    """Write a NumPy file, rows x width, in place of JSONL. With --pool tokens a row is a word, and
    FILE.words.tsv says which: the text's number, counted from 0, and the word."""


def run(options: Options) -> int:
    """Embed and print, or write."""
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise FileError(f"there is no folder {options.out.parent} for --out")
    import torch.nn.functional as F

    from headway.cli import _records
    from headway.files.manifest import write_text
    from headway.tasks._embedding import embed

    model = _records.open_model(options.model, precision=options.precision)
    records = _records.read(
        [options.file], columns=("text",), names=options.columns, skip_bad=False, keep_blank=True
    )
    texts = [row["text"] for row in records.rows]
    with _records.progress_bar("embed", len(texts)) as progress:
        found = embed(model, texts, layers=options.layers, pool=options.pool, progress=progress)
    _records.warn_of_cuts([{"cut": ["source"]} for item in found if item.is_cut], len(found))
    vectors = [item.vectors for item in found]
    if options.normalize:
        vectors = [F.normalize(item, dim=-1) for item in vectors]
    if options.out is not None:
        _save(options.out, vectors)
        if options.pool == "tokens":
            lines = [
                f"{place}\t{word}\n" for place, item in enumerate(found) for word in item.words
            ]
            write_text(options.out.with_name(f"{options.out.name}.words.tsv"), "".join(lines))
        return 0
    for text, item, rows in zip(texts, found, vectors, strict=True):
        values = [[round(value, 7) for value in row] for row in rows.tolist()]
        if options.pool == "tokens":
            _records.write_json({"text": text, "words": item.words, "vectors": values})
        else:
            _records.write_json({"text": text, "vector": values[0]})
    return 0


def _save(path: Path, vectors: Sequence) -> None:
    import io

    import numpy as np
    import torch

    from headway.files.manifest import write_bytes

    stream = io.BytesIO()
    np.save(stream, torch.cat(list(vectors)).numpy(), allow_pickle=False)
    write_bytes(path, stream.getvalue())
