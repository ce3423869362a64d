"""A folder that is replaced is there all the time: the old one, or the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headway.errors import FileError
from headway.files import manifest
from headway.files.manifest import changed_files, check_folder, write_folder


def fill(text: str):
    return lambda draft: (draft / "a.txt").write_text(text)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_folder(tmp_path / "model", fill("old"))
    return tmp_path / "model"


def exchanges(folder: Path) -> bool:
    (folder / "x").mkdir()
    (folder / "y").mkdir()
    return manifest._exchange(folder / "x", folder / "y")


def test_a_folder_is_exchanged_for_another_in_one_step(folder, tmp_path_factory, monkeypatch):
    if not exchanges(tmp_path_factory.mktemp("probe")):
        pytest.skip("this file system cannot")
    rename = Path.rename

    def once(self, target):
        assert self != folder, "the folder is gone for a moment"
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", once)
    write_folder(folder, fill("new"))
    check_folder(folder)
    assert (folder / "a.txt").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_folder_is_there_whatever_happens_between_two_renames(
    number, after, error, folder, monkeypatch
):
    monkeypatch.setattr(manifest, "_exchange", lambda first, second: False)
    rename = Path.rename
    calls = []

    def failing(self, target):
        calls.append(self)
        if len(calls) != number or after:
            rename(self, target)
        if len(calls) == number:
            raise error
        return target

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((FileError, KeyboardInterrupt)):
        write_folder(folder, fill("new"))
    check_folder(folder)
    assert (folder / "a.txt").read_text() == ("new" if (number, after) == (2, True) else "old")
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_two_renames_do_where_names_cannot_be_exchanged(folder, monkeypatch):
    monkeypatch.setattr(manifest, "_exchange", lambda first, second: False)
    # Of a process with our number, that was killed.
    left = folder.with_name(f".model.{os.getpid()}.old")
    left.mkdir()
    (left / "a.txt").write_text("older")
    write_folder(folder, fill("new"))
    assert (folder / "a.txt").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


KILLED = """
import sys
from pathlib import Path
from headway.files.manifest import write_folder
number = 0
while True:
    number += 1
    write_folder(Path(sys.argv[1]), lambda draft: (draft / "a.txt").write_text(str(number)))
"""


def test_a_kill_at_any_moment_leaves_a_whole_folder(folder, tmp_path_factory):
    if not exchanges(tmp_path_factory.mktemp("probe")):
        pytest.skip("this file system cannot")
    for delay in range(10):
        write_folder(folder, fill("old"))
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)])
        deadline = time.monotonic() + 30
        while (folder / "a.txt").read_text() == "old" and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.003 * delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        check_folder(folder)


def test_a_changed_byte_is_found(folder):
    (folder / "a.txt").write_text("0ld")
    with pytest.raises(FileError, match=r"a\.txt differs"):
        check_folder(folder)
    assert changed_files(folder, quick=True) == ["a.txt"]


def test_a_large_file_is_compared_by_size_where_time_counts(folder, monkeypatch):
    monkeypatch.setattr(manifest, "_LARGE", 1)
    (folder / "a.txt").write_text("0ld")
    assert changed_files(folder, quick=True) == []
    assert changed_files(folder) == ["a.txt"]
    (folder / "a.txt").write_text("cut short or the other way round")
    assert changed_files(folder, quick=True) == ["a.txt"]


def test_a_manifest_without_sizes_is_checked_by_hash(folder, monkeypatch):
    monkeypatch.setattr(manifest, "_LARGE", 1)
    content = manifest.read_json(folder / manifest.MANIFEST)
    del content["bytes"]
    manifest.write_json(folder / manifest.MANIFEST, content)
    assert changed_files(folder, quick=True) == []
    (folder / "a.txt").write_text("0ld")
    assert changed_files(folder, quick=True) == ["a.txt"]
