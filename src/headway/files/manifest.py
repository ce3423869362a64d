"""Write files so that nothing is ever half there, and prove later that they are whole."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from headway.errors import FileError

MANIFEST = "manifest.json"

# Of renameat2, in <fcntl.h> and <stdio.h> of Linux.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

# Bytes from which a file is large: hashing takes three times as long as loading it.
_LARGE = 16 << 20


def write_text(path: Path, text: str) -> None:
    """Replace a file by a text in one step, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new one, never a part.

    Raises:
        FileError: if it cannot be written; the old file is then still there.
    """
    with replacing(path) as stream:
        stream.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a draft that takes a file's place in one step at the end, unless something fails.

    Raises:
        FileError: if it cannot be written; the old file is then still there.
    """
    # "." has no name of its own.
    path = path.absolute()
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        draft.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> FileError:
    return FileError(
        f"{path} cannot be written: {error.strerror or error}",
        hint="free some space or choose another place; what was there before is untouched",
    )


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a value as JSON, in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileError: if the file is missing, is no JSON or holds no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"there is no {path.name}", where=str(path.parent)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{path.name} cannot be read: {error}", where=str(path.parent)) from error
    if not isinstance(value, dict):
        raise FileError(f"{path.name} must hold a JSON object", where=str(path.parent))
    return value


def sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder under a draft name, seal it with a manifest, read it back, then swap it in.

    On Linux the swap is one step. Elsewhere, and on file systems that cannot, it is two renames: a
    kill between them leaves the older folder beside its place, as `.NAME.PID.old`.

    Args:
        path: Folder to make or replace.
        fill: Writes the files into the draft it is given.
    Raises:
        FileError: if anything cannot be written; an older folder of that name is then untouched.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        fill(draft)
        hashes = {file.name: sha256(file) for file in sorted(draft.iterdir())}
        for file in draft.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        sizes = {name: (draft / name).stat().st_size for name in hashes}
        write_json(draft / MANIFEST, {"sha256": hashes, "bytes": sizes})
        check_folder(draft)
        _swap(draft, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap(draft: Path, path: Path) -> None:
    """Give the draft its name; an older folder of that name takes the draft's, or is deleted."""
    if not path.exists():
        draft.rename(path)
        return
    if _exchange(draft, path):
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    try:
        path.rename(old)
        draft.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Give two folders each other's name in one step; say whether that was possible."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:
        return False
    names = os.fsencode(first), os.fsencode(second)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def check_folder(path: Path) -> None:
    """Compare every file of a folder with its manifest.

    Args:
        path: Folder.
    Raises:
        FileError: if it has no manifest, or naming every file that is missing or differs.
    """
    if not (path / MANIFEST).is_file():
        raise FileError(f"{path} has no {MANIFEST}: it was never finished")
    if damaged := changed_files(path):
        raise FileError(
            f"{', '.join(sorted(damaged))} differs from what was saved",
            where=str(path),
            hint="copy the folder again or use an earlier checkpoint",
        )


def changed_files(path: Path, *, quick: bool = False) -> list[str]:
    """List the files that are missing or differ from a folder's manifest.

    Args:
        path: Folder; one without a manifest, such as a published model, has none that differ.
        quick: Compare large files by their size alone.
    Raises:
        FileError: if the manifest itself is damaged.
    """
    if not (path / MANIFEST).is_file():
        return []
    manifest = read_json(path / MANIFEST)
    hashes, sizes = manifest.get("sha256"), manifest.get("bytes", {})
    if not (isinstance(hashes, dict) and isinstance(sizes, dict)) or not all(
        name == Path(name).name for name in hashes
    ):
        raise FileError(f"{MANIFEST} is damaged", where=str(path))

    def is_whole(name: str) -> bool:
        file = path / name
        if not file.is_file():
            return False
        size = file.stat().st_size
        if name in sizes and (size != sizes[name] or (quick and size >= _LARGE)):
            return size == sizes[name]
        return sha256(file) == hashes[name]

    return [name for name in hashes if not is_whole(name)]


def leads_out(folder: Path, name: str) -> bool:
    """Say whether a name that an index lists lies outside of its folder, or is none.

    A file right in the folder may be a link, as in the caches of those who fetch models: it was put
    there as the model's. A name with folders in it is followed, so that no link leads out.
    """
    path = Path(name)
    if path.name == name and name not in (".", ".."):
        return False
    return path.is_absolute() or folder.resolve() not in (folder / path).resolve().parents


def put_key(published: dict[str, Any], key: str, value: Any) -> None:
    """Write a key; "a.b" is key b of the object a."""
    *above, last = key.split(".")
    for name in above:
        published = published.setdefault(name, {})
    published[last] = value


def get_key(published: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Read a key, likewise; the default where it is absent."""
    found: Any = published
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return default
        found = found[name]
    return found
