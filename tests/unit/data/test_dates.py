"""The quickstart's dates: what Babel writes, nothing leaked, nothing that means two days."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import Counter
from datetime import date
from typing import Any

import pytest
from babel import Locale
from babel.dates import format_date
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.data import dates
from headway.data.dates import LOCALES, DateSplits, count_ambiguous, generate_dates, write_dates
from headway.errors import ConfigError, DataError, FileError

SMALL = {"num_train": 600, "num_valid": 100, "num_test": 200}


@pytest.fixture(scope="module")
def splits() -> DateSplits:
    return generate_dates(num_train=12_000, num_valid=600, num_test=1_200)


def all_records(splits: DateSplits) -> list[dict[str, str]]:
    return splits.train + splits.valid + splits.test


def bare(record: dict[str, str]) -> str:
    return record["source"].removeprefix(record["locale"] + " ")


def test_at_least_fifty_locales_that_babel_knows():
    assert len(set(LOCALES)) == len(LOCALES) >= 50
    assert [str(Locale.parse(code)) for code in LOCALES] == list(LOCALES)


def test_a_split_has_the_size_asked_for(splits):
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [12_000, 600, 1_200]


def test_a_record_is_the_locale_one_space_and_a_text_of_some_length(splits):
    for record in all_records(splits):
        assert list(record) == ["source", "target", "locale"]
        locale, text = record["source"].split(" ", 1)
        assert locale == record["locale"]
        assert len(text) >= 8
        assert text == text.strip()


def test_targets_are_iso_dates_of_two_centuries(splits):
    for record in all_records(splits):
        day = date.fromisoformat(record["target"])
        assert day.isoformat() == record["target"]
        assert 1900 <= day.year <= 2099


def test_recent_years_weigh_more(splits):
    years = [int(record["target"][:4]) for record in splits.train]
    # 0.7 from 101 years, and 101/200 of the other 0.3: 0.85.
    share = sum(1950 <= year <= 2050 for year in years) / len(years)
    assert share == pytest.approx(0.8515, abs=0.015)
    assert {min(years), max(years)} == {1900, 2099}


def test_locales_are_balanced_in_every_split(splits):
    for records in (splits.train, splits.valid, splits.test):
        counts = Counter(record["locale"] for record in records)
        assert set(counts) == set(LOCALES)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("code", LOCALES)
def test_every_pattern_is_written_as_babel_writes_it(code):
    draw = random.Random(code)
    for writer in dates._read_writers(code):
        for _ in range(12):
            day = date.fromordinal(draw.randint(693_596, 766_644))
            assert writer.write(day) == format_date(day, writer.pattern, code)


@pytest.mark.parametrize("code", LOCALES)
def test_every_style_of_the_locale_is_among_its_patterns(code):
    day = date(2024, 3, 3)
    written = {writer.write(day) for writer in dates._read_writers(code)}
    assert {format_date(day, style, code) for style in dates.STYLES} <= written
    skeletons = Locale.parse(code).datetime_skeletons
    assert {format_date(day, str(skeletons[name]), code) for name in dates.SKELETONS} <= written


def test_every_clear_pattern_is_drawn_equally_often():
    splits = generate_dates(num_train=700, num_valid=0, num_test=0, locales=["de"])
    writers = dates._read_writers("de")
    unclear = dates._find_unclear(writers)
    assert unclear == {"dd.MM.yy"}
    texts = {bare(record): date.fromisoformat(record["target"]) for record in splits.train}
    for writer in writers:
        drawn = sum(writer.write(day) == text for text, day in texts.items())
        # "dd.MM.y" and "d.M.y" write the same for a sixth of all days or so.
        assert drawn == 0 if writer.pattern in unclear else 80 <= drawn <= 140


def test_known_dates_are_written_as_people_write_them():
    def write(code: str) -> set[str]:
        return {writer.write(date(2024, 3, 3)) for writer in dates._read_writers(code)}

    assert {"dimanche 3 mars 2024", "3 mars 2024", "dim. 3 mars 2024"} <= write("fr")
    assert {"Sunday, March 3, 2024", "Mar 3, 2024", "3/3/2024"} <= write("en")
    assert "2024\u5e743\u67083\u65e5" in write("ja")
    assert not any(text.startswith("3 ") for text in write("hu"))


def test_a_text_with_its_locale_has_one_target(splits):
    targets: dict[str, set[str]] = {}
    for record in all_records(splits):
        targets.setdefault(record["source"], set()).add(record["target"])
    assert {len(found) for found in targets.values()} == {1}


def test_years_of_two_digits_are_dropped_and_counted():
    english = generate_dates(**SMALL, locales=["en"])
    assert english.ambiguous > 0
    assert not any(bare(record) == "3/3/24" for record in all_records(english))
    assert all(record["target"][:4] in record["source"] for record in all_records(english))
    french = generate_dates(**SMALL, locales=["fr"])
    assert french.ambiguous == 0


def test_patterns_that_differ_in_their_order_alone_are_unclear():
    both = dates._read_writers("en") + dates._read_writers("en_GB")
    assert {"M/d/y", "dd/MM/y"} <= dates._find_unclear(both)
    assert "dd/MM/y" not in dates._find_unclear(dates._read_writers("en_GB"))


def test_listopada_is_october_in_croatian_and_november_in_polish():
    splits = generate_dates(num_train=4_000, num_valid=0, num_test=0, locales=["hr", "pl"])
    months = {
        (record["locale"], record["target"][5:7])
        for record in splits.train
        if "listopada" in record["source"]
    }
    assert months == {("hr", "10"), ("pl", "11")}


def test_ambiguous_texts_without_the_locale_are_counted_once():
    records = [
        {"source": "hr 3 listopada 2024", "target": "2024-10-03", "locale": "hr"},
        {"source": "pl 3 listopada 2024", "target": "2024-11-03", "locale": "pl"},
        {"source": "en 3/4/2024", "target": "2024-03-04", "locale": "en"},
        {"source": "it 3/4/2024", "target": "2024-04-03", "locale": "it"},
        {"source": "es 3/4/2024", "target": "2024-04-03", "locale": "es"},
        {"source": "de 3.4.2024", "target": "2024-04-03", "locale": "de"},
        {"source": "fi 3.4.2024", "target": "2024-04-03", "locale": "fi"},
    ]
    assert count_ambiguous(records) == 2
    assert count_ambiguous(records[:1]) == count_ambiguous(records[4:]) == 0


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    locales=st.lists(st.sampled_from(LOCALES), min_size=1, max_size=8, unique=True),
)
def test_no_text_is_in_two_splits_and_none_twice_in_one(seed, locales):
    splits = generate_dates(**SMALL, seed=seed, locales=locales)
    parts = [splits.train, splits.valid, splits.test]
    for records in parts:
        assert len({record["source"] for record in records}) == len(records)
    for texts in (
        [{bare(row) for row in part} for part in parts],
        [{row["source"] for row in part} for part in parts],
    ):
        train, valid, test = texts
        assert not (train & valid or train & test or valid & test)


def test_locales_that_share_texts_leak_none_between_splits():
    # All of these write dd.MM.y; a third of their texts is the same.
    splits = generate_dates(
        num_train=30_000, num_valid=500, num_test=3_000, locales=["de", "pl", "ro", "tr", "et"]
    )
    held_out = {bare(record) for record in splits.test + splits.valid}
    assert not held_out & {bare(record) for record in splits.train}
    assert splits.duplicates > 0


def test_the_same_arguments_give_the_same_splits():
    assert generate_dates(**SMALL, seed=3) == generate_dates(**SMALL, seed=3)
    assert generate_dates(**SMALL, seed=3).test != generate_dates(**SMALL, seed=4).test


def test_a_larger_train_set_keeps_the_test_set_and_begins_with_the_smaller():
    small, large = generate_dates(**SMALL), generate_dates(**{**SMALL, "num_train": 900})
    assert (small.test, small.valid) == (large.test, large.valid)
    assert small.train == large.train[:600]


def test_empty_splits_are_allowed():
    splits = generate_dates(num_train=0, num_valid=0, num_test=0)
    assert all_records(splits) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"locales": ["en", "fi_XX", "en-GB"]}, ["'fi_XX'", "'en-GB'", "did you mean"]),
        ({"locales": []}, ["locales is []"]),
        ({"locales": ["fr", "fr"]}, ["none twice"]),
        ({"num_test": -1, "num_train": -2}, ["num_train is -2", "num_test is -1"]),
        ({"num_train": 10**9}, ["1,000,006,000", "fewer"]),
        ({"num_train": 200_000, "locales": ["lt"]}, ["at most 146,098"]),
    ],
)
def test_what_cannot_be_had_is_refused_at_once(arguments, said):
    with pytest.raises(ConfigError) as caught:
        generate_dates(**arguments)
    assert all(words in str(caught.value) for words in said)


def test_drawing_gives_up_when_nothing_new_comes(monkeypatch):
    monkeypatch.setattr(dates, "MAX_FRUITLESS_DRAWS", 0)
    with pytest.raises(ConfigError, match="Locale en has no new dates left"):
        generate_dates(**SMALL)


def test_files_hold_one_record_on_a_line_in_plain_utf8(tmp_path):
    splits = generate_dates(**SMALL)
    write_dates(tmp_path / "new" / "dates", splits)
    for name, records in {
        "train": splits.train,
        "valid": splits.valid,
        "test": splits.test,
    }.items():
        data = (tmp_path / "new" / "dates" / f"{name}.jsonl").read_bytes()
        lines = data.decode("utf-8").split("\n")
        assert lines.pop() == ""
        assert [json.loads(line) for line in lines] == records
        assert b"\\u" not in data and b"\r" not in data


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    splits = generate_dates(**SMALL)
    write_dates(tmp_path, splits)
    before = (tmp_path / "train.jsonl").read_bytes()
    odd: list[Any] = [*splits.train[:2], {"source": object()}]
    with pytest.raises(DataError, match="row 3"):
        write_dates(tmp_path, dataclasses.replace(splits, train=odd))
    assert (tmp_path / "train.jsonl").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_directory_that_cannot_be_made_is_a_file_error(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileError, match="taken"):
        write_dates(tmp_path / "taken", generate_dates(num_train=1, num_valid=1, num_test=1))


def test_the_whole_data_set_takes_seconds():
    start = time.perf_counter()
    splits = generate_dates()
    seconds = time.perf_counter() - start
    assert len(all_records(splits)) == 106_000
    assert seconds < 15
