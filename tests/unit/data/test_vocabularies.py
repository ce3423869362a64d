"""Learned vocabularies: found again where nothing has changed, learned where something has."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.data import vocabularies
from headway.data.vocabularies import find_vocabulary
from headway.text.tokenizer import Tokenizer
from headway.text.train import train_tokenizer


class Learner:
    """Learn another vocabulary each time, and count the times."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Tokenizer:
        self.times += 1
        return train_tokenizer("character", ["abc"[: self.times]], vocab_size=20)


@pytest.fixture
def learn() -> Learner:
    return Learner()


def test_what_was_learned_is_found_again(write, learn, tmp_path):
    path, folder = write("a.txt", "abc"), tmp_path / "kept"
    first = find_vocabulary([path], ["bpe"], learn, folder=folder)
    again = find_vocabulary([path], ["bpe"], learn, folder=folder)
    assert learn.times == 1
    assert again.to_json() == first.to_json()
    (place,) = folder.iterdir()
    assert place.read_text() == first.to_json()


@pytest.mark.parametrize("change", ["content", "name", "order", "settings", "format"])
def test_whatever_matters_makes_another_vocabulary(change, write, learn, tmp_path, monkeypatch):
    paths, settings = [write("a.txt", "abc"), write("b.txt", "abd")], ["bpe"]
    find_vocabulary(paths, settings, learn, folder=tmp_path / "kept")
    if change == "content":
        write("a.txt", "abcd")
    elif change == "name":
        paths = [paths[0], write("b.jsonl", "abd")]
    elif change == "order":
        paths = paths[::-1]
    elif change == "settings":
        settings = ["word"]
    else:
        monkeypatch.setattr(vocabularies, "_FORMAT", 0)
    find_vocabulary(paths, settings, learn, folder=tmp_path / "kept")
    assert learn.times == 2


def test_a_damaged_vocabulary_is_learned_again(write, learn, tmp_path):
    path, folder = write("a.txt", "abc"), tmp_path / "kept"
    find_vocabulary([path], [], learn, folder=folder)
    (place,) = folder.iterdir()
    place.write_text(place.read_text()[:40])
    second = find_vocabulary([path], [], learn, folder=folder)
    assert place.read_text() == second.to_json()


def test_standard_input_is_never_kept(learn, tmp_path):
    for _ in range(2):
        find_vocabulary(["-"], [], learn, folder=tmp_path / "kept")
    assert learn.times == 2
    assert not (tmp_path / "kept").exists()


def test_a_place_that_cannot_be_written_costs_time_only(write, learn, tmp_path):
    (tmp_path / "kept").write_text("")
    found = find_vocabulary([write("a.txt", "abc")], [], learn, folder=tmp_path / "kept")
    assert found.find("a") is not None


def test_nothing_is_left_where_writing_fails(write, learn, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "I/O error")))
        find_vocabulary([write("a.txt", "abc")], [], learn, folder=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_without_a_folder_the_cache_of_the_desktop_is_used(write, learn, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    find_vocabulary([write("a.txt", "abc")], [], learn)
    (place,) = (tmp_path / "cache" / "headway" / "vocabularies").iterdir()
    assert place.suffix == ".json"
