"""The data pack's running text as corpora: a sentence a line, a blank line between documents."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from headway.data.lines import read_text

# After a full stop and what closes a quotation, before a capital or what opens one.
_SENTENCE_END = re.compile(r"""(?<=[.!?]["'”’])\s+|(?<=[.!?])\s+(?=["'“‘(]?[A-Z])""")
_TITLE = re.compile(r"^ = [^=].* = $")


def _sentences(paragraph: str) -> list[str]:
    return [sentence for sentence in _SENTENCE_END.split(paragraph.strip()) if sentence]


def _general(folder: Path, split: str) -> Iterator[list[str]]:
    """Give novels and speeches, whose first and last lines are listed."""
    lines = list(read_text(folder / f"{split}.txt.gz"))
    with (folder / "documents.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["split"] == split:
                paragraphs = lines[int(row["first_line"]) - 1 : int(row["last_line"])]
                yield [sentence for line in paragraphs for sentence in _sentences(line)]


def _wikitext(folder: Path, split: str) -> Iterator[list[str]]:
    """Give articles; a title begins one."""
    article: list[str] = []
    for line in read_text(folder / f"{split}.txt.gz"):
        if _TITLE.match(line) and article:
            yield article
            article = []
        article += _sentences(line)
    yield article


def _abstracts(folder: Path, split: str) -> Iterator[list[str]]:
    for line in read_text(folder / f"{split}.jsonl.gz"):
        yield _sentences(json.loads(line)["document"])


def _finance(folder: Path, split: str) -> Iterator[list[str]]:
    """Give news sentences, which have no context."""
    path = next(folder.glob(f"{split}.tsv*"))
    rows = csv.DictReader(read_text(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    for row in rows:
        yield [row["sentence"]]


_READERS = {
    "general_text": _general,
    "wikitext2": _wikitext,
    "scitldr": _abstracts,
    "financial_phrasebank": _finance,
}


def prepare(data: Path, out: Path, name: str, split: str) -> str:
    """Write a corpus once; name its file."""
    path = out / f"{name}-{split}.txt"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(_joined(_READERS[name](data / name, split)), encoding="utf-8")
        draft.rename(path)
    return str(path)


def _joined(documents: Iterable[list[str]]) -> str:
    return "\n\n".join("\n".join(document) for document in documents if document) + "\n"
