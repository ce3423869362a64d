"""Lines and files: every failure is one line that names the file, and a write is all or nothing."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from headway.data import lines
from headway.data.lines import fingerprint, read_text, write_jsonl
from headway.data.read import read_records
from headway.errors import DataError, FileError

PAIR = ("source", "target")


# Reading


def test_read_text_stops_at_a_line_that_is_not_utf_8(write):
    write("a.txt", b"good\nB\xfccher\n")
    given = read_text("a.txt")
    assert next(given) == "good"
    with pytest.raises(DataError, match=r"byte 0xfc after 'B'\. In a\.txt, line 2\."):
        next(given)


def test_a_missing_file_names_the_nearest_one(write):
    write("train.en.txt", "x\n")
    with pytest.raises(FileError) as error:
        read_records(["trian.en.txt"], columns=["text"])
    assert str(error.value) == (
        "there is no file trian.en.txt. The nearest name there is train.en.txt."
    )


@pytest.mark.parametrize("path", ["no/a.txt", "a\0b.txt", "x" * 300, "folder", "a.txt/b"])
def test_a_path_that_is_no_file_is_one_line(write, path):
    Path("folder").mkdir()
    write("a.txt", "x\n")
    for columns in (["text"], PAIR):
        with pytest.raises(FileError) as error:
            read_records([path], columns=columns)
        assert "\n" not in str(error.value)
    with pytest.raises(FileError):
        list(read_text(path))
    with pytest.raises(FileError):
        fingerprint([path])


def test_a_missing_directory_and_a_directory_are_told_apart(write):
    Path("folder").mkdir()
    with pytest.raises(FileError, match=r"no file no/a\.txt\. There is no directory no either"):
        read_records(["no/a.txt"], columns=["text"])
    with pytest.raises(FileError, match=r"folder cannot be read: it is a directory"):
        read_records(["folder"], columns=["text"])


def test_a_file_that_may_not_be_read_says_so(write, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    write("a.txt", "x\n")
    monkeypatch.setattr(lines.io, "FileIO", refuse)
    with pytest.raises(FileError, match=r"^a\.txt cannot be read: Permission denied\.$"):
        read_records(["a.txt"], columns=["text"])


def test_a_name_that_is_not_utf_8_does_not_break_its_message(write):
    name = os.fsdecode(b"caf\xe9.txt")
    with pytest.raises(FileError, match=r"there is no file caf\\udce9\.txt") as error:
        read_records([name], columns=["text"])
    str(error.value).encode()


def damaged_gzip() -> list[bytes]:
    whole = gzip.compress("".join(f"line {i}\n" for i in range(5_000)).encode())
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    return [whole[: len(whole) // 2], whole[:-4], bytes(flipped), b"not gzip\n", whole[:1]]


@pytest.mark.parametrize("content", damaged_gzip(), ids=range(5))
def test_a_damaged_gzip_file_is_one_line_of_error(write, content):
    Path("a.txt.gz").write_bytes(content)
    for skip_bad in (True, False):
        with pytest.raises(FileError, match=r"^a\.txt\.gz cannot be read: it is no whole gzip"):
            read_records(["a.txt.gz"], columns=["text"], skip_bad=skip_bad)


# Writing and hashing


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": "\ud800"}, {"a": {1}}, {"a": object()}])
def test_a_row_that_is_no_json_leaves_the_old_file_alone(write, bad):
    write("a.jsonl", "old\n")
    with pytest.raises(DataError, match="row 2 cannot be written as JSON"):
        write_jsonl("a.jsonl", [{"a": 1}, bad])
    assert Path("a.jsonl").read_text() == "old\n"
    assert os.listdir() == ["a.jsonl"]


def test_a_failure_among_the_rows_leaves_the_old_file_alone(write):
    def rows():
        yield {"a": 1}
        raise KeyboardInterrupt

    write("a.jsonl", "old\n")
    with pytest.raises(KeyboardInterrupt):
        write_jsonl("a.jsonl", rows())
    assert Path("a.jsonl").read_text() == "old\n"
    assert os.listdir() == ["a.jsonl"]


def test_write_jsonl_writes_utf_8_lines_and_follows_links(write):
    write("a.jsonl", "old\n")
    Path("link.jsonl").symlink_to("a.jsonl")
    write_jsonl("link.jsonl", [{"text": "\u00fc\u2028"}, {"text": "b"}])
    assert Path("a.jsonl").read_bytes() == '{"text": "\u00fc\u2028"}\n{"text": "b"}\n'.encode()
    assert Path("link.jsonl").is_symlink()


def test_write_jsonl_writes_into_a_pipe_and_never_replaces_it(write):
    # A pipe of our own stands for every special file: a mistake here must not cost a real device.
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_jsonl("pipe", [{"text": "a"}])
        assert Path("pipe").is_fifo()
        assert os.read(reader, 100) == b'{"text": "a"}\n'
    finally:
        os.close(reader)


@pytest.mark.parametrize("path", ["no/a.jsonl", "folder"])
def test_a_place_that_cannot_be_written_is_one_line(write, path):
    Path("folder").mkdir()
    with pytest.raises(FileError, match=f"{path} cannot be written: "):
        write_jsonl(path, [{"a": 1}])


def test_equal_rows_make_equal_files(write):
    write_jsonl("a.jsonl.gz", [{"a": 1}])
    write_jsonl("b.jsonl.gz", [{"a": 1}])
    assert len(set(fingerprint(["a.jsonl.gz", "b.jsonl.gz"]).values())) == 1


def test_a_fingerprint_is_the_hash_of_the_bytes_on_disk(write):
    write("a.txt", "x\n")
    assert fingerprint(["a.txt", "-"]) == {"a.txt": hashlib.sha256(b"x\n").hexdigest()}
