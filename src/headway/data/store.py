"""Corpora as integers: tokenized once into memory-mapped files, whatever their size.

A corpus is documents of segments (lines of plain text, lines inside a JSON text). Its store holds
all token ids in a row, where each segment ends and where each document ends; a second run with the
same files and the same tokenizer finds it by its fingerprint and starts at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from headway.data.lines import STDIN, find_damage, fingerprint, is_blank, label_file, read_lines
from headway.errors import ConfigError, DataError, FileError
from headway.text.tokenizer import Tokenizer

# Written into the fingerprint: another way of cutting text makes another store.
_FORMAT = 3
# Characters tokenized at once: enough to keep all cores busy, little enough to bound the memory.
_BATCH_CHARACTERS = 1 << 22
# A line longer than this is cut: the library takes a hundred times a text's size to encode it.
_LONGEST_SEGMENT = 1 << 16
# Text whose lines are kept is cut into pieces of about so many characters, between two words.
_PIECE_CHARACTERS = 1 << 13
_BETWEEN_WORDS = re.compile(r"(?<=\w) (?=\w)")
# Different segments among which repetitions are looked for; about 100 bytes each.
_MOST_DIGESTS = 2_000_000
# What was not used for so long is removed, and beyond so many bytes the oldest, but nothing that
# was opened within the last day: a run may be reading it.
_UNUSED_SECONDS = 30 * 86_400
_BUSY_SECONDS = 86_400
_MOST_BYTES = 20 * 10**9


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of running text.

    Args:
        text: Not blank.
        begins: It is the first of its document.
    """

    text: str
    begins: bool


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What was counted while a corpus was tokenized.

    Args:
        files: What it was read from.
        characters: Of all segments.
        bytes: Of all segments, in UTF-8.
        blank_lines: Lines that only separate.
        repeated: Segments that equal one of the first two million different ones.
        unknown: Tokens that the vocabulary does not cover.
    """

    files: list[str]
    characters: int = 0
    bytes: int = 0
    blank_lines: int = 0
    repeated: int = 0
    unknown: int = 0


@dataclass(frozen=True, kw_only=True)
class Store:
    """A tokenized corpus.

    Args:
        ids: (N) uint16 or uint32. All token ids, without special tokens.
        segments: (S + 1) int64. Segment s is ids[segments[s] : segments[s + 1]].
        documents: (M + 1) int64. Document d is segments documents[d] to documents[d + 1].
        info: What was counted.
    """

    ids: np.ndarray
    segments: np.ndarray
    documents: np.ndarray
    info: StoreInfo

    @property
    def num_segments(self) -> int:
        """Count segments."""
        return len(self.segments) - 1

    @property
    def num_documents(self) -> int:
        """Count documents."""
        return len(self.documents) - 1


def read_segments(
    path: str | Path, *, count_blank: Callable[[], None], keeps_lines: bool = False
) -> Iterator[Segment]:
    """Read a corpus file: plain text (a blank line begins a new document) or JSONL ("text").

    Args:
        path: File; gz too.
        count_blank: Called for every blank line.
        keeps_lines: Keep the ends of lines, blank lines too, as belongs to text that shall be
            written again; a file of plain text is then one document.
    Raises:
        DataError: at a line that cannot be used.
        FileError: if the file is missing, unreadable or damaged.
    """
    if str(path).lower().removesuffix(".gz").endswith((".csv", ".tsv", ".parquet")):
        raise DataError(
            f"{label_file(path)} is a table, but a corpus is plain text or JSONL",
            hint='write one column as text, or rows as {"text": "..."}',
        )
    is_json = _is_json(path)
    if keeps_lines and not is_json:
        for place, text in enumerate(_cut_between_words(_sound_lines(path))):
            yield Segment(text=text, begins=place == 0)
        return
    begins = True
    for number, line in enumerate(read_lines(path), 1):
        where = f"{label_file(path)}, line {number}"
        if problem := find_damage(line):
            raise DataError(f"the text is {problem}", where=where)
        if is_blank(line):
            begins = True
            count_blank()
            continue
        if not is_json:
            for part in _split_long(line):
                yield Segment(text=part, begins=begins)
                begins = False
            continue
        text = _json_text(line, where)
        lines = (part for part in text.split("\n") if not is_blank(part))
        parts = (part for line in lines for part in _split_long(line))
        if keeps_lines:
            parts = _cut_between_words([text])
        for place, part in enumerate(parts):
            yield Segment(text=part, begins=place == 0)


def _split_long(line: str) -> Iterator[str]:
    """Cut a line that is a whole book into parts, at spaces: memory stays bounded."""
    start = 0
    while len(line) - start > _LONGEST_SEGMENT:
        end = line.rfind(" ", start + 1, start + _LONGEST_SEGMENT)
        end = end if end > start else start + _LONGEST_SEGMENT
        yield line[start:end]
        start = end
    yield line[start:] if start else line


def _sound_lines(path: str | Path) -> Iterator[str]:
    for number, line in enumerate(read_lines(path, keeps_ends=True), 1):
        if problem := find_damage(line):
            where = f"{label_file(path)}, line {number}"
            raise DataError(f"the text is {problem}", where=where)
        yield line


def _cut_between_words(parts: Iterable[str]) -> Iterator[str]:
    """Join parts of a text, and cut it where no tokenizer sees across: before " word"."""
    held, seen = "", 0
    for part in parts:
        held += part
        if len(held) < _PIECE_CHARACTERS:
            continue
        start = 0
        for found in _BETWEEN_WORDS.finditer(held, seen):
            if found.start() - start >= _PIECE_CHARACTERS:
                yield from _split_long(held[start : found.start()])
                start = found.start()
        *long, held = _split_long(held[start:])
        yield from long
        # Of what is left nothing is looked through again, but a space whose word may come.
        seen = max(0, len(held) - 1)
    if held:
        yield from _split_long(held)


def _is_json(path: str | Path) -> bool:
    return str(path).lower().removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json"))


def _json_text(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the line is no JSON: {error}", where=where) from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise DataError("the row has no 'text'", where=where, hint='write {"text": "..."}')
    if problem := find_damage(text):
        raise DataError(f"the text is {problem}", where=where)
    return text


def read_corpus(
    paths: Sequence[str | Path],
    *,
    count_blank: Callable[[], None] = lambda: None,
    keeps_lines: bool = False,
) -> Iterator[Segment]:
    """Read several corpus files one after the other; no document spans two."""
    for path in paths:
        yield from read_segments(path, count_blank=count_blank, keeps_lines=keeps_lines)


def default_folder(name: str = "stores") -> Path:
    """Give the folder of all stores: $XDG_CACHE_HOME/headway/stores, or ~/.cache instead.

    Args:
        name: Of another folder beside it.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "headway" / name


def open_store(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    folder: Path | None = None,
    max_segments: int | None = None,
    keeps_lines: bool = False,
) -> Store:
    """Tokenize a corpus, or find it tokenized already.

    With a new store, older ones go: what was not opened for 30 days, and the oldest beyond 20 GB.

    Args:
        paths: Plain text or JSONL, gz too.
        tokenizer: Cuts the text; no special tokens are added.
        folder: Where stores are kept; None is `default_folder`.
        max_segments: Use only the first segments.
        keeps_lines: Keep the ends of lines.
    Raises:
        DataError: for a line that cannot be used, or if there is no text at all.
        FileError: if a file cannot be read or the store cannot be written.
    """
    if STDIN in map(str, paths):
        raise ConfigError("a corpus cannot come from standard input: it is read more than once")
    # Every file in order, and how it is read: a name decides that.
    files = [[*fingerprint([path]).values(), _is_json(path)] for path in paths]
    key = hashlib.sha256(
        json.dumps([_FORMAT, files, max_segments, keeps_lines, tokenizer.to_json()]).encode()
    ).hexdigest()[:32]
    place = (folder or default_folder()) / key
    if not (place / "info.json").is_file():
        _write_store(paths, tokenizer, place, max_segments, keeps_lines=keeps_lines)
        _remove_unused(place.parent, new=place)
    with contextlib.suppress(OSError):
        # The time of its last use.
        os.utime(place / "info.json")
    store = _map_store(place)
    # The same content may have had other names then.
    return replace(store, info=replace(store.info, files=[str(path) for path in paths]))


def _write_store(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    place: Path,
    max_segments: int | None,
    *,
    keeps_lines: bool,
) -> None:
    draft = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        counts = {"blank": 0}

        def count_blank() -> None:
            counts["blank"] += 1

        segments = read_corpus(paths, count_blank=count_blank, keeps_lines=keeps_lines)
        info = _tokenize(paths, itertools.islice(segments, max_segments), tokenizer, draft)
        info["blank_lines"] = counts["blank"]
        (draft / "info.json").write_text(json.dumps(info), encoding="utf-8")
        _give_place(draft, place)
    except OSError as error:
        raise FileError(
            f"the tokenized corpus cannot be written: {error.strerror or error}",
            where=str(place.parent),
            hint="free some space, or set XDG_CACHE_HOME to another place",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _give_place(draft: Path, place: Path) -> None:
    """Put a finished store in its place, unless another run was faster."""
    with contextlib.suppress(OSError):
        draft.rename(place)
        return
    if not (place / "info.json").is_file():
        # What is there without it was never finished.
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)


def _remove_unused(folder: Path, *, new: Path) -> None:
    """Remove whole stores that are out of use; what cannot be removed stays."""
    ages: dict[Path, float] = {}
    for place in folder.iterdir():
        with contextlib.suppress(OSError):
            ages[place] = time.time() - (place / "info.json").stat().st_mtime
    # Drafts of other processes are theirs.
    stores = [place for place in ages if place != new and not place.name.startswith(".")]
    total = _count_bytes(new)
    for place in sorted(stores, key=ages.__getitem__):
        total += _count_bytes(place)
        limit = _UNUSED_SECONDS if total <= _MOST_BYTES else _BUSY_SECONDS
        if ages[place] > limit:
            with contextlib.suppress(OSError):
                # First what makes it whole, so that half a store is never opened.
                (place / "info.json").unlink()
                shutil.rmtree(place, ignore_errors=True)


def _count_bytes(place: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in place.iterdir())
    return 0


def _id_type(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if tokenizer.largest_id < 1 << 16 else np.uint32


def _tokenize(
    paths: Sequence[str | Path], segments: Iterable[Segment], tokenizer: Tokenizer, draft: Path
) -> dict:
    """Write the three files of a store batch by batch; give what was counted."""
    # Repetitions are looked for among the first lines only, so that memory stays bounded.
    seen: set[bytes] = set()
    characters = size = repeated = unknown = tokens = number = 0
    dtype = _id_type(tokenizer)
    with (
        (draft / "ids.bin").open("wb") as ids,
        (draft / "segments.bin").open("wb") as ends,
        (draft / "documents.bin").open("wb") as starts,
    ):
        ends.write(np.int64(0).tobytes())
        for batch in _batches(segments):
            encoded = tokenizer.encode_ids([segment.text for segment in batch], bare=True)
            lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
            flat = np.fromiter(
                itertools.chain.from_iterable(encoded), dtype, count=int(lengths.sum())
            )
            flat.tofile(ids)
            (tokens + lengths.cumsum()).tofile(ends)
            begins = np.flatnonzero([segment.begins for segment in batch]) + number
            begins.astype(np.int64).tofile(starts)
            number += len(batch)
            tokens += len(flat)
            if tokenizer.unknown_id is not None:
                unknown += int((flat == tokenizer.unknown_id).sum())
            for segment in batch:
                characters += len(segment.text)
                content = segment.text.encode()
                size += len(content)
                digest = hashlib.blake2b(content, digest_size=8).digest()
                repeated += digest in seen
                if len(seen) < _MOST_DIGESTS:
                    seen.add(digest)
        starts.write(np.int64(number).tobytes())
    if not number:
        raise DataError(f"{', '.join(map(str, paths))}: there is no text")
    info = StoreInfo(
        files=[str(path) for path in paths],
        characters=characters,
        bytes=size,
        repeated=repeated,
        unknown=unknown,
    )
    return {**asdict(info), "dtype": np.dtype(dtype).name}


def _batches(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    batch: list[Segment] = []
    size = 0
    for segment in segments:
        batch.append(segment)
        size += len(segment.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _map_store(place: Path) -> Store:
    try:
        info = json.loads((place / "info.json").read_text(encoding="utf-8"))
        dtype = np.dtype(info.pop("dtype"))
        store = Store(
            # An empty file cannot be mapped: lines of unknown script can have no token at all.
            ids=_map(place / "ids.bin", dtype),
            segments=_map(place / "segments.bin", np.dtype(np.int64)),
            documents=_map(place / "documents.bin", np.dtype(np.int64)),
            info=StoreInfo(**info),
        )
        if store.segments[-1] != len(store.ids) or store.documents[-1] != store.num_segments:
            raise ValueError("its files do not fit each other")
        return store
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FileError(
            f"the tokenized corpus is damaged: {error}",
            where=str(place),
            hint="remove this folder; it is made again",
        ) from error


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def store_of_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, keeps_lines: bool = False
) -> Store:
    """Tokenize documents in memory, each text one of them; its lines are its segments.

    Where the ends of lines are kept, a text is one segment.
    """
    segments = [
        Segment(text=part, begins=place == 0)
        for text in texts
        for place, part in enumerate([text] if keeps_lines else text.split("\n"))
    ]
    encoded = tokenizer.encode_ids([segment.text for segment in segments], bare=True)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    begins = np.flatnonzero([segment.begins for segment in segments])
    return Store(
        ids=np.fromiter(itertools.chain.from_iterable(encoded), _id_type(tokenizer)),
        segments=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        documents=np.append(begins, len(segments)).astype(np.int64),
        info=StoreInfo(files=[], bytes=sum(len(segment.text.encode()) for segment in segments)),
    )
