"""Stores: a corpus as integers in a row, tokenized once, whole or not there at all."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Engine
from tokenizers import models, normalizers, pre_tokenizers, processors

from decoders import make_tokenizer as decoder_tokenizer
from headway.data import running
from headway.data import store as stores
from headway.data.store import Store, open_store, store_of_texts
from headway.errors import DataError, FileError
from headway.text.specials import SPECIALS
from headway.text.tokenizer import Tokenizer
from headway.text.train import train_tokenizer
from limits import seconds_at_most

WORDS = ("[UNK]", "one", "two", "three", "four", "five")


def make_tokenizer(*, count: int = len(WORDS)) -> Tokenizer:
    """Give every word its place as id, in a vocabulary of so many entries."""
    names = [*WORDS, *(f"w{number}" for number in range(len(WORDS), count))]
    vocabulary = {name: number for number, name in enumerate(names)}
    engine = Engine(models.WordLevel(vocabulary, unk_token="[UNK]"))
    # Control characters vanish, so that a line may have no token at all.
    engine.normalizer = normalizers.BertNormalizer(lowercase=False)
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Around a text, but not in a store.
    engine.post_processor = processors.TemplateProcessing(
        single="[UNK] $A [UNK]", special_tokens=[("[UNK]", 0)]
    )
    return Tokenizer(engine)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture
def opened(write, tokenizer, tmp_path):
    """Write one file and open its store."""

    def open_one(name: str, content: str | bytes, **options) -> Store:
        return open_store([write(name, content)], tokenizer, folder=tmp_path / "stores", **options)

    return open_one


def parts_of(store: Store) -> list[list[list[int]]]:
    """Give the ids of every segment of every document."""
    return [
        [
            store.ids[store.segments[number] : store.segments[number + 1]].tolist()
            for number in range(*store.documents[place : place + 2])
        ]
        for place in range(len(store.documents) - 1)
    ]


def drafts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.suffix == ".part"]


# What is stored


def test_a_blank_line_begins_a_new_document(opened):
    store = opened("a.txt", "one two\nthree\n\n \t\nfour five one\n")
    assert store.ids.tolist() == [1, 2, 3, 4, 5, 1]
    assert store.segments.tolist() == [0, 2, 3, 6]
    assert store.documents.tolist() == [0, 2, 3]
    assert (store.num_segments, len(store.documents) - 1) == (3, 2)
    assert store.info.blank_lines == 2


def test_lines_that_end_as_windows_writes_them_mean_the_same(opened):
    unix = opened("a.txt", "one two\n\nthree\n")
    windows = opened("b.txt", "one two\r\n\r\nthree\r\n")
    assert parts_of(windows) == parts_of(unix)
    assert windows.info.characters == unix.info.characters == 12


def test_blank_lines_around_the_text_make_no_documents(opened):
    assert parts_of(opened("a.txt", "\n\none\n\n\n")) == [[[1]]]


def test_a_row_of_jsonl_is_a_document_of_lines(opened):
    rows = [{"text": "one two\nthree"}, {"text": "four\n\n \nfive", "more": 1}, {"text": "one"}]
    store = opened("a.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    assert parts_of(store) == [[[1, 2], [3]], [[4], [5]], [[1]]]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".JSONL", ".jsonl.gz"])
def test_json_is_known_by_its_name(suffix, opened):
    assert parts_of(opened(f"a{suffix}", '{"text": "one\\ntwo"}\n')) == [[[1], [2]]]


def test_a_row_of_jsonl_without_words_is_no_document(opened):
    store = opened("a.jsonl", '{"text": "one"}\n{"text": " \\n"}\n\n{"text": "two"}\n')
    assert parts_of(store) == [[[1]], [[2]]]


def test_gzip_is_read_as_the_text_in_it(opened):
    text = "one two\n\nthree\n"
    packed = opened("a.txt.gz", text)
    assert parts_of(packed) == parts_of(opened("a.txt", text)) == [[[1, 2]], [[3]]]


def test_no_document_spans_two_files(write, tokenizer, tmp_path):
    paths = [write("b.txt", "one\ntwo\n"), write("a.jsonl", '{"text": "three"}\n')]
    paths.append(write("c.txt", "four"))
    store = open_store(paths, tokenizer, folder=tmp_path / "stores")
    assert parts_of(store) == [[[1], [2]], [[3]], [[4]]]
    assert store.info.files == ["b.txt", "a.jsonl", "c.txt"]


def test_ids_are_those_of_the_tokenizer_laid_in_a_row(opened, tokenizer):
    lines = ["one nowhere two", "\x01", "five", "two  two"]
    store = opened("a.txt", "\n".join(lines))
    expected = tokenizer.encode_ids(lines, bare=True)
    assert expected == [[1, 0, 2], [], [5], [2, 2]]
    assert parts_of(store) == [expected]


def test_a_corpus_without_any_token_can_be_opened(opened):
    store = opened("a.txt", "\x01\n\x02\n")
    assert (store.ids.tolist(), store.segments.tolist()) == ([], [0, 0, 0])


@pytest.mark.parametrize(("count", "dtype"), [(1 << 16, "uint16"), ((1 << 16) + 1, "uint32")])
def test_ids_take_two_bytes_as_long_as_they_fit(count, dtype, write, tmp_path):
    last = f"one w{count - 1}"
    tokenizer = make_tokenizer(count=count)
    store = open_store([write("a.txt", last)], tokenizer, folder=tmp_path / "stores")
    memory = store_of_texts([last], tokenizer)
    for found in (store, memory):
        assert found.ids.dtype == dtype
        assert found.ids.tolist() == [1, count - 1]


def test_the_batches_of_tokenizing_leave_no_trace(opened, monkeypatch):
    text = "one two\nthree\n\nfour\none\n\nfive five five\n" * 5
    whole = opened("a.txt", text)
    monkeypatch.setattr(stores, "_BATCH_CHARACTERS", 8)
    monkeypatch.setattr(stores, "_FORMAT", 0)
    parts = opened("a.txt", text)
    for name in ("ids", "segments", "documents"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()
    assert parts.info == whole.info


@given(
    documents=st.lists(
        st.lists(st.lists(st.sampled_from(WORDS[1:]), min_size=1, max_size=4), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_any_corpus_comes_back_segment_by_segment(documents, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    texts = ["\n".join(map(" ".join, lines)) for lines in documents]
    (folder / "a.txt").write_text("\n\n".join(texts))
    store = open_store([folder / "a.txt"], tokenizer, folder=folder / "stores")
    expected = [[[WORDS.index(word) for word in line] for line in lines] for lines in documents]
    assert parts_of(store) == expected
    assert parts_of(store_of_texts(texts, tokenizer)) == expected


def test_texts_in_memory_keep_their_blank_lines_as_empty_segments(tokenizer):
    store = store_of_texts(["one\n\ntwo", "", "three"], tokenizer)
    assert parts_of(store) == [[[1], [], [2]], [[]], [[3]]]


# Running text with its lines


@pytest.fixture
def kept(write, tmp_path):
    """Open the store of one file with the ends of its lines; give it as text."""

    def keep(name: str, content: str | bytes, kind: str = "byte-bpe") -> list[str]:
        tokenizer = decoder_tokenizer(kind)
        path = write(name, content)
        store = open_store([path], tokenizer, folder=tmp_path / "stores", keeps_lines=True)
        documents = [list(itertools.chain.from_iterable(parts)) for parts in parts_of(store)]
        return tokenizer.decode_batch(documents)

    return keep


RUNNING = (
    *("one", "one\n", "\n\none\n\n\n", "  one  two \n \n\tthree\n", "\n", " ", "x  \n  y"),
    *("one\n\n\n", "caf\u00e9 \u20ac\u2028\x00 end", "</s> <|endoftext|> <unk>"),
)


@pytest.mark.parametrize("text", RUNNING)
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_whose_lines_are_kept_comes_back_exactly(name, text, kept):
    assert kept(name, text) == [text]


@pytest.mark.parametrize("text", RUNNING)
def test_rows_whose_lines_are_kept_come_back_exactly(text, kept):
    rows = [{"text": text}, {"text": "one"}, {"text": text}]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert kept("a.jsonl", content) == [text, "one", text]


def test_a_row_without_any_text_is_no_document(kept):
    assert kept("a.jsonl", '{"text": "one"}\n{"text": ""}\n\n{"text": "two"}\n') == ["one", "two"]


def test_kept_lines_end_as_unix_writes_them(kept):
    assert kept("a.txt", "one\r\n\r\ntwo \r\n") == ["one\n\ntwo \n"]


@pytest.mark.parametrize("unit", ["word ", "word  \n", "a", "  ", " \n", "\u732b", "\n", "it's 5 "])
@pytest.mark.parametrize("end", ["", "\n", "one\n two"])
def test_a_line_of_a_hundred_kilobytes_comes_back_exactly(unit, end, kept):
    text = unit * (100_000 // len(unit)) + end
    # Written out, the difference would take longer than the test.
    assert (kept("a.txt", text) == [text]) is True


@pytest.mark.parametrize("unit", ["word\n", "\u732b\n", "\n", "a  b\n"])
def test_text_that_is_nowhere_cut_between_words_is_read_in_a_moment(unit, write):
    path = write("a.txt", unit * (500_000 // len(unit)))
    with seconds_at_most(4):
        found = [part.text for part in stores.read_corpus([path], keeps_lines=True)]
    assert "".join(found) == unit * (500_000 // len(unit))
    assert max(map(len, found)) <= 1 << 16


@pytest.mark.parametrize("kind", ["byte-bpe", "character"])
@pytest.mark.parametrize("form", ["text", "row"])
@given(data=st.data())
def test_cutting_between_words_leaves_the_ids_as_they_are(kind, form, data, tmp_path_factory):
    tokenizer = decoder_tokenizer(kind)
    word = st.sampled_from(
        [
            "one",
            "sea",
            "don't",
            "'s",
            "5",
            "3.5",
            "_",
            "caf\u00e9",
            "\u732b",
            "<",
            "</s>",
            "\t",
            ".",
        ]
    )
    space = st.sampled_from(["", " ", " ", " ", "  ", "\n", " \n", "\n ", "\n\n", "\t"])
    text = "".join(data.draw(st.lists(st.one_of(word, space), max_size=40))) + "."
    folder = tmp_path_factory.mktemp("corpus")
    path = folder / ("a.txt" if form == "text" else "a.jsonl")
    path.write_text(text if form == "text" else json.dumps({"text": text}) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_PIECE_CHARACTERS", data.draw(st.integers(1, 30)))
        store = open_store([path], tokenizer, folder=folder / "stores", keeps_lines=True)
    expected = tokenizer.encode_ids([text], bare=True)[0]
    assert store.ids.tolist() == expected
    assert len(store.documents) - 1 == 1


@pytest.mark.parametrize("end", ["\n", "   "])
def test_a_long_text_is_cut_where_the_ids_do_not_change(end, write, tmp_path):
    text = f"one  two {end} three don't see   " * 8_000 + "end"
    tokenizer = decoder_tokenizer()
    store = open_store(
        [write("a.txt", text)], tokenizer, folder=tmp_path / "stores", keeps_lines=True
    )
    assert store.num_segments > 10
    assert store.ids.tolist() == tokenizer.encode_ids([text], bare=True)[0]


def test_kept_lines_make_another_store(opened):
    one, other = (
        opened("a.txt", "one two\n\nthree\n", keeps_lines=keeps) for keeps in (False, True)
    )
    assert [len(store.documents) - 1 for store in (one, other)] == [2, 1]


def test_kept_text_is_counted_with_the_ends_of_its_lines(opened):
    info = opened("a.txt", "one\n\ntw\u00f6\n", keeps_lines=True).info
    assert (info.characters, info.bytes) == (9, 10)


def test_texts_in_memory_are_whole_where_lines_are_kept():
    tokenizer = decoder_tokenizer()
    store = store_of_texts(["one\n\ntwo ", "", "\n"], tokenizer, keeps_lines=True)
    found = [list(itertools.chain.from_iterable(parts)) for parts in parts_of(store)]
    assert tokenizer.decode_batch(found) == ["one\n\ntwo ", "", "\n"]
    assert store.info.bytes == 10


def test_a_line_that_is_not_utf_8_is_named_where_lines_are_kept(kept):
    with pytest.raises(DataError, match=r"not UTF-8: byte 0xfc.*In a\.txt, line 3"):
        kept("a.txt", b"one\n\nB\xfccher\n")


# Counting


def test_what_was_read_is_counted(opened):
    store = opened("a.txt", "one two\nsix\n\none two\n\n\none six six\none two\n")
    assert store.info == stores.StoreInfo(
        files=["a.txt"],
        characters=7 + 3 + 7 + 11 + 7,
        bytes=35,
        blank_lines=3,
        repeated=2,
        unknown=3,
    )


def test_a_vocabulary_without_an_unknown_token_counts_none(write, tmp_path):
    engine = Engine(models.WordLevel({"one": 0, "two": 1}, unk_token="one"))
    engine.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = write("a.txt", "one two nowhere\n")
    store = open_store([path], Tokenizer(engine), folder=tmp_path / "stores")
    assert (store.ids.tolist(), store.info.unknown) == ([0, 1, 0], 0)


@pytest.mark.parametrize(("wanted", "expected"), [(1, [[[1]]]), (3, [[[1], [2]], [[3]]])])
def test_only_the_first_segments_are_used(wanted, expected, opened):
    assert parts_of(opened("a.txt", "one\ntwo\n\nthree\nfour\n", max_segments=wanted)) == expected


def test_segments_beyond_those_wanted_are_not_even_read(opened):
    store = opened("a.txt", b"one\ntwo\nB\xfccher\n", max_segments=2)
    assert parts_of(store) == [[[1], [2]]]


# Finding a store again


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.stat().st_ino,
            # The time of info.json tells when a store was used last.
            0 if path.name == "info.json" else path.stat().st_mtime_ns,
            path.read_bytes(),
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_second_opening_reads_the_same_files(write, tokenizer, tmp_path, monkeypatch):
    path, folder = write("a.txt", "one two\n\nthree nowhere\n"), tmp_path / "stores"
    first = open_store([path], tokenizer, folder=folder)
    before = snapshot(folder)
    monkeypatch.setattr(Tokenizer, "encode_ids", lambda *_, **__: pytest.fail("tokenized again"))
    again = open_store([path], make_tokenizer(), folder=folder)
    assert snapshot(folder) == before
    assert len(before) == 5
    assert parts_of(again) == parts_of(first) == [[[1, 2]], [[3, 0]]]
    assert again.info == first.info


DAY = 86_400


@pytest.fixture
def aged(opened, tmp_path):
    """Make a store that was used so many days ago; its text is its name."""

    def make(name: str, days: float) -> Path:
        before = set((tmp_path / "stores").glob("*"))
        opened("a.txt", name)
        (place,) = set((tmp_path / "stores").glob("*")) - before
        then = time.time() - days * DAY
        os.utime(place / "info.json", (then, then))
        return place

    return make


def test_stores_that_were_not_used_for_a_month_go_when_a_new_one_comes(aged, opened, tmp_path):
    young, old = aged("two", 29), aged("one", 31)
    draft = tmp_path / "stores" / ".other.1.part"
    shutil.copytree(old, draft)
    opened("b.txt", "two\n")
    assert not old.exists()
    opened("b.txt", "three\n")
    assert young.is_dir()
    assert draft.is_dir()
    assert len(list((tmp_path / "stores").iterdir())) == 4


def test_a_store_that_is_opened_counts_as_used(aged, opened):
    old = aged("one", 31)
    opened("a.txt", "one")
    opened("b.txt", "two")
    assert old.is_dir()


def test_beyond_a_total_the_oldest_stores_go(aged, opened, monkeypatch):
    first, second, third = aged("one", 3), aged("two", 9), aged("three", 2)
    busy, size = aged("four", 0.5), sum(path.stat().st_size for path in first.iterdir())
    monkeypatch.setattr(stores, "_MOST_BYTES", 3.5 * size)
    opened("b.txt", "five")
    assert [place.exists() for place in (first, second, third, busy)] == [False, False, True, True]
    monkeypatch.setattr(stores, "_MOST_BYTES", 0)
    opened("b.txt", "one two")
    assert [place.exists() for place in (third, busy)] == [False, True]
    assert parts_of(opened("a.txt", "one")) == [[[1]]]


def test_a_store_is_found_by_content_not_by_name(write, tokenizer, tmp_path):
    folder = tmp_path / "stores"
    for name in ("a.txt", "b.txt"):
        open_store([write(name, "one\n")], tokenizer, folder=folder)
    assert len(list(folder.iterdir())) == 1


def changed_content(write, tokenizer, folder) -> Store:
    return open_store([write("a.txt", "two\n"), "b.txt"], tokenizer, folder=folder)


def changed_order(write, tokenizer, folder) -> Store:
    return open_store(["b.txt", "a.txt"], tokenizer, folder=folder)


def changed_tokenizer(write, tokenizer, folder) -> Store:
    return open_store(["a.txt", "b.txt"], make_tokenizer(count=9), folder=folder)


def changed_limit(write, tokenizer, folder) -> Store:
    return open_store(["a.txt", "b.txt"], tokenizer, folder=folder, max_segments=1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed_content, [[[2]], [[3]]]),
        (changed_order, [[[3]], [[1]]]),
        (changed_tokenizer, [[[1]], [[3]]]),
        (changed_limit, [[[1]]]),
    ],
)
def test_whatever_matters_makes_another_store(change: Callable, expected, write, tmp_path):
    folder = tmp_path / "stores"
    paths = [write("a.txt", "one\n"), write("b.txt", "three\n")]
    first = open_store(paths, make_tokenizer(), folder=folder)
    other = change(write, make_tokenizer(), folder)
    assert parts_of(first) == [[[1]], [[3]]]
    assert parts_of(other) == expected
    assert len(list(folder.iterdir())) == 2


def test_the_same_bytes_as_text_and_as_json_make_two_stores(opened):
    line = '{"text": "one two"}\n'
    assert parts_of(opened("a.txt", line)) == [[[0, 0, 0]]]
    assert parts_of(opened("a.jsonl", line)) == [[[1, 2]]]


def test_a_file_named_twice_is_read_twice(write, tokenizer, tmp_path):
    path, folder = write("a.txt", "one\n"), tmp_path / "stores"
    assert parts_of(open_store([path], tokenizer, folder=folder)) == [[[1]]]
    assert parts_of(open_store([path, path], tokenizer, folder=folder)) == [[[1]], [[1]]]


def test_without_a_folder_the_cache_of_the_desktop_is_used(write, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_store([write("a.txt", "one\n")], tokenizer)
    (place,) = (tmp_path / "cache" / "headway" / "stores").iterdir()
    assert (place / "info.json").is_file()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_cache_folder_the_home_folder_has_one(value, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert stores.default_folder() == tmp_path / ".cache" / "headway" / "stores"


# Failures


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("a.txt", b"one\nB\xfccher\n", r"byte 0xfc after 'B'\. In a\.txt, line 2\."),
        ("a.jsonl", b'{"text": "one"}\n\n{"t": 1}\n', r"no 'text'\. In a\.jsonl, line 3\. write"),
        ("a.jsonl", b'{"text": 5}\n', r"no 'text'\. In a\.jsonl, line 1"),
        ("a.jsonl", b'{"text": null}\n', r"no 'text'\. In a\.jsonl, line 1"),
        ("a.jsonl", b'["text"]\n', r"no 'text'\. In a\.jsonl, line 1"),
        ("a.jsonl", b'"text"\n', r"no 'text'\. In a\.jsonl, line 1"),
        ("a.jsonl", b'{"text": "one"\n', r"no JSON: .* In a\.jsonl, line 1"),
        ("a.jsonl", b"[" * 100_000, r"no JSON: .* In a\.jsonl, line 1"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"surrogate pair, .* In a\.jsonl, line 1"),
        ("a.jsonl.gz", b'{"text": "one"}\n{}\n', r"no 'text'\. In a\.jsonl\.gz, line 2"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(name, content, pattern, opened, tmp_path):
    with pytest.raises(DataError) as error:
        opened(name, content)
    assert re.search(pattern, str(error.value))
    assert list((tmp_path / "stores").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", ""), ("a.txt", "\n \n\t\n"), ("a.jsonl", ""), ("a.jsonl", '{"text": " \\n"}\n')],
)
def test_a_corpus_without_text_is_an_error(name, content, opened, tmp_path):
    with pytest.raises(DataError, match=rf"^{re.escape(name)}: there is no text\.$"):
        opened(name, content)
    assert list((tmp_path / "stores").iterdir()) == []


def test_a_missing_file_is_an_error_before_anything_is_written(write, tokenizer, tmp_path):
    with pytest.raises(FileError, match=r"there is no file b\.txt"):
        open_store([write("a.txt", "one\n"), "b.txt"], tokenizer, folder=tmp_path / "stores")
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(28, "No space left on device"), FileError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
    ],
    ids=["disk", "stopped", "memory"],
)
def test_a_failure_in_the_middle_leaves_nothing_behind(
    raised, expected, opened, tmp_path, monkeypatch
):
    encode, calls = Tokenizer.encode_ids, []

    def fail_at_the_second(self, texts, **options):
        calls.append(texts)
        if len(calls) == 2:
            # By now the first batch is in the files.
            assert drafts(tmp_path / "stores")
            raise raised
        return encode(self, texts, **options)

    monkeypatch.setattr(stores, "_BATCH_CHARACTERS", 4)
    monkeypatch.setattr(Tokenizer, "encode_ids", fail_at_the_second)
    with pytest.raises(expected) as error:
        opened("a.txt", "one two\nthree\nfour\n")
    assert len(calls) == 2
    assert expected is not FileError or "written: No space left on device." in str(error.value)
    assert list((tmp_path / "stores").iterdir()) == []


def test_after_a_failure_the_store_is_made_as_if_nothing_had_been(opened, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(FileError, match=r"cannot be written: I/O error\..*XDG_CACHE_HOME"):
            opened("a.txt", "one\n")
    assert parts_of(opened("a.txt", "one\n")) == [[[1]]]


def test_a_store_that_another_run_finished_in_the_meantime_is_taken(opened, tmp_path, monkeypatch):
    rename, finished = Path.rename, []

    def be_slower(draft, place):
        if not finished:
            shutil.copytree(draft, place)
            finished.append(place.stat().st_ino)
        return rename(draft, place)

    monkeypatch.setattr(Path, "rename", be_slower)
    assert parts_of(opened("a.txt", "one\n")) == [[[1]]]
    # The other run has its files mapped: they stay.
    assert [place.stat().st_ino for place in (tmp_path / "stores").iterdir()] == finished


def test_a_store_that_was_never_finished_is_made_again(opened, tmp_path):
    opened("a.txt", "one\n")
    (place,) = (tmp_path / "stores").iterdir()
    (place / "info.json").unlink()
    (place / "ids.bin").write_bytes(b"")
    assert parts_of(opened("a.txt", "one\n")) == [[[1]]]
    assert list((tmp_path / "stores").iterdir()) == [place]


def test_a_place_that_is_no_folder_is_one_line(write, tokenizer, tmp_path):
    (tmp_path / "stores").write_text("")
    with pytest.raises(FileError, match=r"the tokenized corpus cannot be written"):
        open_store([write("a.txt", "one\n")], tokenizer, folder=tmp_path / "stores")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("info.json", "{}"),
        ("info.json", '{"dtype": "uint16", "file": []}'),
        ("info.json", '{"dtype": "nothing", "files": []}'),
        ("info.json", "[]"),
        ("ids.bin", "x"),
        ("segments.bin", None),
        ("documents.bin", "1234567"),
    ],
)
def test_a_damaged_store_says_what_to_remove(name, content, opened, tmp_path):
    opened("a.txt", "one two\n")
    (place,) = (tmp_path / "stores").iterdir()
    (place / name).unlink()
    if content is not None:
        (place / name).write_text(content)
    with pytest.raises(FileError, match=r"damaged.*remove this folder") as error:
        opened("a.txt", "one two\n")
    assert str(place) in str(error.value)


@pytest.mark.parametrize("name", ["ids.bin", "segments.bin", "documents.bin"])
def test_a_store_whose_files_do_not_fit_each_other_is_damaged(name, opened, tmp_path):
    opened("a.txt", "one two\nthree\n\nfour\n")
    (path,) = (tmp_path / "stores").glob(f"*/{name}")
    width = 2 if name == "ids.bin" else 8
    path.write_bytes(path.read_bytes()[:-width])
    with pytest.raises(FileError, match=r"damaged.*remove this folder"):
        opened("a.txt", "one two\nthree\n\nfour\n")


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe", "bpe", "unigram"])
def test_the_words_of_two_lines_stay_apart_whatever_the_vocabulary(kind, write, tmp_path):
    lines = ["the cat sat on the mat", "unhappy dogs ran", "  and the house was red"]
    learned = train_tokenizer(kind, lines * 5, vocab_size=310, specials=SPECIALS["bert"])
    path = write("text.txt", "\n".join([*lines, "", *lines]))
    for store in (
        open_store([path], learned, folder=tmp_path / "stores"),
        store_of_texts(["\n".join(lines)] * 2, learned),
    ):
        first, second, end = (int(store.segments[place]) for place in store.documents)
        for part in (store.ids[first:second], store.ids[second:end]):
            assert learned.decode(part.tolist()).split() == " ".join(lines).split()
        # Only what goes on needs it.
        assert not learned.decode(store.ids[second:end].tolist()).startswith(" ")
