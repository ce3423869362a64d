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
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from headway.data.lines import STDIN, fingerprint
from headway.data.running import Segment, is_json, read_corpus
from headway.errors import ConfigError, DataError, FileError
from headway.text.tokenizer import Tokenizer

# Written into the fingerprint: another way of cutting text makes another store.
_FORMAT = 6
# Characters tokenized at once: enough to keep all cores busy, little enough to bound the memory.
_BATCH_CHARACTERS = 1 << 22
# Lines of fewer words are headings, exclamations, page marks.
_LONG_WORDS = 8
# Different segments among which repetitions are looked for; about 100 bytes each.
_MOST_DIGESTS = 2_000_000
# What was not used for so long is removed, and beyond so many bytes the oldest, but nothing that
# was opened within the last day: a run may be reading it.
_UNUSED_SECONDS = 30 * 86_400
_BUSY_SECONDS = 86_400
_MOST_BYTES = 20 * 10**9


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
        lines: (K) uint64. What is equal where lines are, apart from case and white space; without
            short ones.
        info: What was counted.
    """

    ids: np.ndarray
    segments: np.ndarray
    documents: np.ndarray
    lines: np.ndarray
    info: StoreInfo

    @property
    def num_segments(self) -> int:
        """Count segments."""
        return len(self.segments) - 1


def default_folder(name: str = "stores") -> Path:
    """Give the folder of all stores: $XDG_CACHE_HOME/headway/stores, or ~/.cache instead.

    Args:
        name: Of another folder beside it.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "headway" / name


def make_key(*content: Any) -> str:
    """Name something by all that decides what is in it, as JSON can write it."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


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
    files = [[*fingerprint([path]).values(), is_json(path)] for path in paths]
    key = make_key(_FORMAT, files, max_segments, keeps_lines, tokenizer.to_json())
    place = (folder or default_folder()) / key
    if not (place / "info.json").is_file():
        counts: Counter[str] = Counter()
        segments = read_corpus(paths, counts, keeps_lines=keeps_lines)
        joint = "" if keeps_lines else _joint_of(tokenizer)
        kept = itertools.islice(segments, max_segments)
        _write_store(paths, kept, tokenizer, place, counts, joint)
        _remove_unused(place.parent, new=place)
    with contextlib.suppress(OSError):
        # The time of its last use.
        os.utime(place / "info.json")
    store = _map_store(place)
    # The same content may have had other names then.
    return replace(store, info=replace(store.info, files=[str(path) for path in paths]))


def _write_store(
    paths: Sequence[str | Path],
    segments: Iterable[Segment],
    tokenizer: Tokenizer,
    place: Path,
    counts: Counter[str],
    joint: str,
) -> None:
    draft = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True, exist_ok=True)
        _tokenize(segments, tokenizer, draft, counts, joint)
        if not counts["characters"]:
            raise DataError(f"{', '.join(map(str, paths))}: there is no text")
        info = asdict(StoreInfo(files=[str(path) for path in paths], **counts))
        info["dtype"] = np.dtype(_id_type(tokenizer)).name
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
    segments: Iterable[Segment],
    tokenizer: Tokenizer,
    draft: Path,
    counts: Counter[str],
    joint: str,
) -> None:
    """Write the files of a store batch by batch, and count."""
    # Repetitions are looked for among the first lines only, so that memory stays bounded.
    seen: set[bytes] = set()
    tokens = number = 0
    with (
        (draft / "ids.bin").open("wb") as ids,
        (draft / "segments.bin").open("wb") as ends,
        (draft / "documents.bin").open("wb") as starts,
        (draft / "lines.bin").open("wb") as lines,
    ):
        ends.write(np.int64(0).tobytes())
        for batch in _batches(segments):
            flat, lengths, begins = _encode(batch, tokenizer, joint)
            flat.tofile(ids)
            (tokens + lengths.cumsum()).tofile(ends)
            (begins + number).tofile(starts)
            number += len(batch)
            tokens += len(flat)
            if tokenizer.unknown_id is not None:
                counts["unknown"] += int((flat == tokenizer.unknown_id).sum())
            counts["characters"] += sum(len(segment.text) for segment in batch)
            lines.write(_digest_lines(batch))
            for content in [segment.text.encode() for segment in batch]:
                counts["bytes"] += len(content)
                digest = _digest(content)
                counts["repeated"] += digest in seen
                if len(seen) < _MOST_DIGESTS:
                    seen.add(digest)
        starts.write(np.int64(number).tobytes())


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def _digest_lines(segments: Iterable[Segment]) -> bytes:
    """Give digests of the lines that are too long to be in two texts by chance."""
    lines = (line.casefold().split() for one in segments for line in one.text.split("\n"))
    long = (words for words in lines if len(words) >= _LONG_WORDS)
    return b"".join(_digest(" ".join(words).encode()) for words in long)


def _joint_of(tokenizer: Tokenizer) -> str:
    """Give what a line must begin with where it goes on with a text, for words to stay apart.

    That is a space where a piece alone does not show that a word begins (byte-level BPE), and
    nothing elsewhere.
    """
    (ids,) = tokenizer.encode_ids(["a"], bare=True)
    return " " if tokenizer.decode([*ids, *ids]) == "aa" else ""


def _encode(
    segments: Sequence[Segment], tokenizer: Tokenizer, joint: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokenize segments: all ids in a row, the length of each, and where documents begin.

    `joint` is put before segments that go on with a document.
    """
    texts = [("" if segment.begins else joint) + segment.text for segment in segments]
    encoded = tokenizer.encode_ids(texts, bare=True)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ids = np.fromiter(
        itertools.chain.from_iterable(encoded), _id_type(tokenizer), count=int(lengths.sum())
    )
    begins = np.flatnonzero([segment.begins for segment in segments])
    return ids, lengths, begins.astype(np.int64)


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
            ids=_map(place / "ids.bin", dtype),
            segments=np.memmap(place / "segments.bin", np.int64, mode="r"),
            documents=np.memmap(place / "documents.bin", np.int64, mode="r"),
            lines=_map(place / "lines.bin", np.dtype(np.uint64)),
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
    # An empty file cannot be mapped: lines of unknown script can have no token at all.
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
    ids, lengths, begins = _encode(segments, tokenizer, "" if keeps_lines else _joint_of(tokenizer))
    return Store(
        ids=ids,
        segments=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        documents=np.append(begins, len(segments)),
        lines=np.frombuffer(_digest_lines(segments), np.uint64),
        info=StoreInfo(files=[], bytes=sum(len(segment.text.encode()) for segment in segments)),
    )
