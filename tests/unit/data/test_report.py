"""The data report: numbers by hand, and warnings where a score would be spoiled."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders import make_tokenizer
from headway.data import leaks
from headway.data.leaks import Leak, find_leaks, find_shared_text
from headway.data.read import BadRow, Records
from headway.data.report import (
    DataReport,
    SplitReport,
    build_report,
    describe_split,
    padding_ratio,
)
from headway.data.store import store_of_texts

PAIR = ("source", "target")


def make_records(*pairs: tuple[str, str], file: str = "a.tsv", **more) -> Records:
    rows = [{"source": source, "target": target} for source, target in pairs]
    places = [(f"{file}, line", index + 2) for index in range(len(rows))]
    return Records(rows=rows, places=places, files=[file], **more)


def numbered(count: int, *, file: str = "a.tsv") -> Records:
    return make_records(*((f"s{i}", f"t{i}") for i in range(count)), file=file)


def describe(lengths: list[int], *, limit: int = 1_000, unknown: int = 0) -> SplitReport:
    return describe_split(
        "train",
        numbered(len(lengths)),
        {"source": np.array(lengths, dtype=np.int64)},
        limit={"source": limit},
        unknown={"source": unknown},
    )


def report_of(split: SplitReport, *leaks: Leak) -> DataReport:
    return DataReport(splits=[split], leaks=list(leaks))


# Lengths


def test_lengths_are_counted_before_truncation():
    [side] = describe([1, 2, 3, 4, 10], limit=3, unknown=2).sides
    assert (side.name, side.num_tokens, side.unknown_tokens) == ("source", 20, 2)
    assert (side.min, side.median, side.mean, side.max) == (1, 3.0, 4.0, 10)
    # Percentiles between ranks: 0.95 * 4 = 3.8, so 4 + 0.8 * (10 - 4), and 0.99 * 4 = 3.96.
    assert (side.p95, side.p99) == (pytest.approx(8.8), pytest.approx(9.76))
    # 4 loses one token, 10 loses seven; 3 is as long as may be.
    assert (side.truncated_rows, side.truncated_tokens) == (2, 8)


def test_a_side_without_limit_is_not_cut_and_without_count_knows_all_tokens():
    split = describe_split(
        "train", numbered(2), {"source": np.array([5, 900])}, limit={}, unknown={}
    )
    assert (split.sides[0].truncated_rows, split.sides[0].unknown_tokens) == (0, 0)


def test_a_histogram_of_few_lengths_has_a_bin_for_each():
    assert describe([2, 3, 3, 5]).sides[0].histogram == [[2, 1], [3, 2], [4, 0], [5, 1]]


def test_one_very_long_row_has_the_last_bin_for_itself():
    histogram = describe([*range(1, 101)] * 5 + [1_000_000]).sides[0].histogram
    assert histogram[-1] == [1_000_000, 1]
    assert sum(count for _, count in histogram) == 501
    assert histogram[0] == [6, 30]


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(0, 5_000), min_size=1, max_size=200))
def test_every_row_is_in_one_of_about_twenty_bins(lengths):
    histogram = describe(lengths).sides[0].histogram
    edges = [edge for edge, _ in histogram]
    assert len(histogram) <= 20
    assert edges == sorted(set(edges))
    assert edges[-1] == max(lengths)
    for edge, total in zip(edges, np.cumsum([count for _, count in histogram]), strict=True):
        assert total == sum(length <= edge for length in lengths)


def test_a_split_without_rows_has_zeros_everywhere():
    [side] = describe([]).sides
    assert (side.num_tokens, side.max, side.median, side.p99, side.histogram) == (0, 0, 0, 0, [])
    assert report_of(describe([])).warnings() == []


# Rows


def test_duplicates_are_rows_that_repeat_an_earlier_one_exactly():
    records = make_records(("a", "b"), ("a", "b"), ("a", "c"), ("A", "b"), ("a", "b"))
    split = describe_split(
        "train", records, {"source": np.ones(5), "target": np.ones(5)}, limit={}, unknown={}
    )
    assert (split.num_rows, split.duplicate_rows, split.duplicate_sources) == (5, 2, 3)


def test_the_order_of_columns_does_not_hide_a_duplicate_and_values_may_be_lists():
    rows = [{"a": [1, {"x": 2}], "b": "c"}, {"b": "c", "a": [1, {"x": 2}]}, {"a": [], "b": "c"}]
    records = Records(rows=rows, places=[("a.jsonl, line", i) for i in (1, 2, 3)])
    split = describe_split("train", records, {"text": np.ones(3)}, limit={}, unknown={})
    assert (split.duplicate_rows, split.duplicate_sources) == (1, 0)


def test_bad_rows_are_counted_and_the_first_twenty_are_shown():
    bad = [BadRow(where=f"a.tsv, line {i}", index=i, problem="blank") for i in range(30)]
    split = describe_split(
        "valid",
        make_records(("a", "b"), bad=bad, empty_rows=4),
        {"source": np.array([3])},
        limit={},
        unknown={},
        padding={"sorted": 0.1},
    )
    assert (split.name, split.files) == ("valid", ["a.tsv"])
    assert (split.bad_rows, split.bad_examples, split.empty_rows) == (30, bad[:20], 4)
    assert split.padding_ratio == {"sorted": 0.1}


# Padding


def test_padding_is_the_share_of_cells_beyond_each_row():
    lengths = np.array([1, 3, 4, 4])
    # 2 x 3 cells with 4 tokens, 2 x 4 cells with 8.
    assert padding_ratio(lengths, [np.array([0, 1]), np.array([2, 3])]) == pytest.approx(2 / 14)
    assert padding_ratio(lengths, [[0], [1], [2, 3], []]) == 0
    assert padding_ratio(lengths, []) == 0


def test_padding_of_two_sides_is_counted_for_each_side():
    lengths = np.array([[1, 5], [3, 1]])
    # Source 2 x 3, target 2 x 5, and 10 tokens.
    assert padding_ratio(lengths, [[0, 1]]) == pytest.approx(6 / 16)


# Leaks


def test_a_leak_is_found_whatever_the_case_and_white_space():
    train = make_records(("A  Dog runs", "x"), ("Stra\u00dfe", "y"), ("c", "z"), file="train.tsv")
    valid = make_records(
        ("new", "x"), (" a dog\u00a0RUNS ", "X "), ("STRASSE", "other"), file="valid.tsv"
    )
    assert find_leaks("train", train, "valid", valid, columns=PAIR) == Leak(
        first="train",
        second="valid",
        rows=1,
        sources=2,
        examples=[
            "valid.tsv, line 3 is train.tsv, line 2",
            "valid.tsv, line 4 is train.tsv, line 3",
        ],
    )


def test_columns_do_not_run_into_each_other():
    train, valid = make_records(("a b", "c")), make_records(("a", "b c"))
    assert find_leaks("train", train, "valid", valid, columns=PAIR) is None


def test_whole_rows_are_shown_before_sources_and_at_most_five():
    train = numbered(9, file="train.tsv")
    valid = make_records(*((f"s{i}", f"t{i}" if i > 6 else "new") for i in range(9)))
    leak = find_leaks("train", train, "valid", valid, columns=PAIR)
    assert leak is not None
    assert (leak.rows, leak.sources, len(leak.examples)) == (2, 9, 5)
    assert leak.examples[:3] == [
        "a.tsv, line 9 is train.tsv, line 9",
        "a.tsv, line 10 is train.tsv, line 10",
        "a.tsv, line 2 is train.tsv, line 2",
    ]


def test_the_earliest_place_is_named_and_every_repetition_is_counted():
    train, valid = make_records(("a", "b"), ("a", "b")), make_records(("a", "b"), ("a", "b"))
    leak = find_leaks("train", train, "valid", valid, columns=PAIR)
    assert leak is not None
    assert leak.rows == 2
    assert leak.examples[1] == "a.tsv, line 3 is a.tsv, line 2"


def test_rows_without_the_column_leak_nothing():
    rows = Records(rows=[{"x": 1}, {"source": None}], places=[("a, line", 1), ("a, line", 2)])
    assert find_leaks("train", rows, "valid", rows, columns=PAIR) is None


def test_a_column_that_no_row_has_hides_no_leak():
    train, valid = make_records(("a", "x"), ("b", "y")), make_records(("A", "x"))
    leak = find_leaks("train", train, "valid", valid, columns=(*PAIR, "absent"))
    assert leak is not None
    assert (leak.rows, leak.sources) == (1, 1)


LONG = [f"the {n} words of a line that nobody else wrote" for n in ("first", "second", "third")]


@pytest.mark.parametrize("keeps_lines", [False, True])
def test_long_lines_that_are_in_two_corpora_are_counted(keeps_lines):
    train, valid, new = (
        store_of_texts(["\n".join(lines)], make_tokenizer(), keeps_lines=keeps_lines)
        for lines in ((*LONG[:2], "a b"), ("a b", f"{LONG[1].upper()} ", *LONG), (LONG[2], "a b"))
    )
    leak = find_shared_text("train", train, "valid", valid)
    assert leak is not None
    assert (leak.rows, leak.sources) == (3, 3)
    assert find_shared_text("train", train, "valid", new) is None
    assert find_shared_text("train", new, "valid", train) is None


def test_a_corpus_is_looked_through_part_by_part(monkeypatch):
    monkeypatch.setattr(leaks, "_DIGESTS_AT_ONCE", 7)
    lines = [f"line {n} is long enough to be looked for there" for n in range(100)]
    train, valid = (store_of_texts(part, make_tokenizer()) for part in (lines[:60], lines[40:]))
    leak = find_shared_text("train", train, "valid", valid)
    assert leak is not None
    assert leak.rows == 20


def test_a_report_looks_at_every_two_splits():
    records = {
        "train": make_records(("a", "x"), ("b", "x")),
        "valid": make_records(("a", "x")),
        "test": make_records(("b", "y"), ("c", "y")),
    }
    report = build_report([], records, columns=PAIR)
    assert [(leak.first, leak.second, leak.rows, leak.sources) for leak in report.leaks] == [
        ("train", "valid", 1, 1),
        ("train", "test", 0, 1),
    ]


# What is shown


def test_a_clean_split_gives_no_warning():
    # One row of a hundred cut and one token of a hundred unknown: no more than one per cent.
    assert report_of(describe([9] * 99 + [11], limit=10, unknown=9)).warnings() == []


@pytest.mark.parametrize(
    ("split", "warning"),
    [
        (
            describe([9] * 98 + [11, 13], limit=10),
            "train source is cut: rows 2 (2.0%), tokens 4 (0.4%); the longest has 13",
        ),
        (
            describe([1] * 999 + [1_001], limit=1),
            "train source is cut: rows 1 (0.1%), tokens 1,000 (50.0%); the longest has 1,001",
        ),
        (
            describe([5] * 20, unknown=2),
            "train source tokens not in the vocabulary: 2 (2.0%)",
        ),
        (
            dataclasses.replace(describe([5] * 50), duplicate_rows=3),
            "rows of train that repeat an earlier row: 3 (6.0%)",
        ),
        (
            dataclasses.replace(
                describe([5]),
                bad_rows=1_200,
                bad_examples=[BadRow(where="a.tsv, line 3", index=0, problem="source is blank")],
            ),
            "rows of train left out because they are bad: 1,200 (a.tsv, line 3: source is blank)",
        ),
    ],
)
def test_each_kind_of_trouble_is_a_warning(split, warning):
    assert report_of(split).warnings() == [warning]


def test_a_leak_is_a_warning_and_a_table():
    leak = Leak(first="train", second="valid", rows=3, sources=12, examples=["b is a", "d is c"])
    report = report_of(describe([5]), leak)
    assert report.warnings() == [
        "rows of valid whose source is in train too: 12, and of these the whole row: 3 (such as: "
        "b is a); scores on valid may be too good"
    ]
    assert "train, valid     3       12" in report.lines()


def test_the_lines_are_aligned_tables_of_ascii():
    split = dataclasses.replace(describe([2, 4]), padding_ratio={"sorted": 0.25, "unsorted": 0.5})
    assert report_of(split).lines() == [
        "split  rows  bad  blank  repeated  same source  padding",
        "train     2    0      0         0            0  sorted 25.0%, unsorted 50.0%",
        "",
        "split  side    tokens  min  median  mean  p95  p99  max  rows cut  tokens cut  unknown",
        "train  source       6    2     3.0   3.0  3.9  4.0    4         0           0        0",
        "",
        "train: a.tsv",
    ]


def test_the_report_is_plain_json():
    bad = [BadRow(where="a.tsv, line 9", index=8, problem="source is blank")]
    records = {
        "train": make_records(("a", "b"), bad=bad),
        "valid": make_records(("a", "b"), ("c", "d")),
    }
    splits = [
        describe_split(
            name, rows, {"source": np.arange(len(rows)) + 1}, limit={"source": 1}, unknown={}
        )
        for name, rows in records.items()
    ]
    report = build_report(splits, records, columns=PAIR)
    plain = report.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["leaks"][0]["examples"] == ["a.tsv, line 2 is a.tsv, line 2"]
    assert plain["splits"][0]["bad_examples"][0]["problem"] == "source is blank"
    assert plain["splits"][1]["sides"][0]["histogram"] == [[1, 1], [2, 1]]
