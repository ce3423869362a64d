"""Readers: nothing dropped in silence, and every problem named by file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.data.lines import read_text, write_jsonl
from headway.data.read import Flags, Records, read_records
from headway.errors import ConfigError, DataError, FileError

PAIR = ("source", "target")
MULTI30K = Path(__file__).resolve().parents[4] / "shared" / "data" / "multi30k"
# The folder of a test is shared by all examples that hypothesis tries, which all write first.
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(
    lambda text: not text.isspace()
)
# A field of a TSV file can hold anything but its separators, and a line loses one "\r" at its end.
FIELD = TEXT.filter(lambda text: not set(text) & set("\t\n\r"))


@pytest.fixture
def stdin(monkeypatch):
    def feed(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return feed


def pairs(records: Records) -> list[tuple[str, str]]:
    return [(row["source"], row["target"]) for row in records.rows]


def problems(records: Records) -> list[tuple[str, str]]:
    return [(row.where, row.problem) for row in records.bad]


# Formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"source": "ja", "target": "yes"}\n{"source": "nein", "target": "no"}\n'),
        ("a.ndjson", '{"source":"ja","target":"yes"}\n\n{"source":"nein","target":"no"}'),
        ("a.json", '{"source": "ja", "target": "yes"}\n{"source": "nein", "target": "no"}\n'),
        (
            "a.json",
            '\n[{"source": "ja", "target": "yes"},\n {"source": "nein", "target": "no"}]\n',
        ),
        ("a.tsv", "source\ttarget\nja\tyes\nnein\tno\n"),
        ("a.TSV", "target\tsource\r\nyes\tja\r\nno\tnein"),
        ("a.csv", 'source,target\nja,"yes"\n"nein",no\n'),
        ("a.tsv.gz", "source\ttarget\nja\tyes\nnein\tno\n"),
        ("a.jsonl.gz", '{"source": "ja", "target": "yes"}\n{"source": "nein", "target": "no"}\n'),
    ],
)
def test_each_format_gives_the_same_records(write, name, content):
    records = read_records([write(name, content)], columns=PAIR)
    assert pairs(records) == [("ja", "yes"), ("nein", "no")]
    assert len(records) == 2
    assert records.files == [name]
    assert not records.bad


def test_other_columns_are_kept_as_they_are(write):
    write("a.jsonl", '{"text": "a", "label": 3, "tags": ["x", null], "id": {"n": 1.5}}\n')
    records = read_records(["a.jsonl"], columns=("text", "label"))
    assert records.rows == [{"text": "a", "label": 3, "tags": ["x", None], "id": {"n": 1.5}}]


def test_tsv_has_no_quoting(write):
    write("a.tsv", 'source\ttarget\n"ja\tso "said" he"\n')
    assert pairs(read_records(["a.tsv"], columns=PAIR)) == [('"ja', 'so "said" he"')]


def test_csv_fields_may_hold_commas_quotes_and_lines(write):
    write("a.csv", 'source,target\n"a, ""b""\nc",d\ne,f\n')
    records = read_records(["a.csv"], columns=PAIR)
    assert pairs(records) == [('a, "b"\nc', "d"), ("e", "f")]
    assert [records.where(0), records.where(1)] == ["a.csv, line 2", "a.csv, line 4"]


def test_plain_text_gives_a_record_for_each_line_that_is_not_blank(write):
    write("a.txt", " one \n\n  \t\ntwo\n")
    records = read_records(["a.txt"], columns=["text"])
    assert records.rows == [{"text": " one "}, {"text": "two"}]
    assert (records.empty_rows, records.empty_places) == (2, ["a.txt, line 2", "a.txt, line 3"])
    assert records.where(1) == "a.txt, line 4"


def test_files_of_several_formats_are_read_one_after_the_other(write):
    write("a.tsv", "source\ttarget\nja\tyes\n")
    write("b.jsonl", '{"source": "nein", "target": "no"}\n')
    records = read_records(["a.tsv", Path("b.jsonl")], columns=PAIR)
    assert pairs(records) == [("ja", "yes"), ("nein", "no")]
    assert records.where(1) == "b.jsonl, line 1"


def test_two_plain_files_for_one_column_follow_each_other(write):
    records = read_records([write("a.de", "x\n"), write("b.de", "y\n")], columns=["source"])
    assert records.rows == [{"source": "x"}, {"source": "y"}]


# Parallel text


def test_line_i_of_each_parallel_file_is_record_i(write):
    records = read_records([write("a.de", "ja\nnein\n"), write("a.en", "yes\nno")], columns=PAIR)
    assert pairs(records) == [("ja", "yes"), ("nein", "no")]
    assert records.where(1) == "a.de and a.en, line 2"


def test_parallel_lines_that_are_blank_on_both_sides_are_counted_and_skipped(write):
    records = read_records(
        [write("a.de", "ja\n\nso\n"), write("a.en", "yes\n \nso\n")], columns=PAIR
    )
    assert pairs(records) == [("ja", "yes"), ("so", "so")]
    assert records.empty_rows == 1
    assert records.where(1).endswith("line 3")


def test_a_parallel_line_that_is_blank_on_one_side_is_bad_there(write):
    write("a.de", "ja\nnein\n")
    write("a.en", "yes\n\n")
    with pytest.raises(DataError, match=r"1 of 2 rows .* a\.en, line 2: the line is blank"):
        read_records(["a.de", "a.en"], columns=PAIR)


def test_parallel_files_of_different_length_are_refused_by_line(write):
    write("a.de", "x\n" * 100)
    write("a.en", "x\n" * 103)
    message = "a.de has 100 lines but a.en has 103: first surplus line is a.en, line 101"
    for paths in (["a.de", "a.en"], ["a.en", "a.de"]):
        with pytest.raises(DataError) as error:
            read_records(paths, columns=PAIR)
        assert error.value.message == message


def test_latin_1_in_a_parallel_file_is_named_by_file_and_line(write):
    write("a.de", "ja\nnein\n")
    write("a.en", b"yes\ncaf\xe9 no\n")
    records = read_records(["a.de", "a.en"], columns=PAIR, skip_bad=True)
    assert problems(records) == [("a.en, line 2", "not UTF-8: byte 0xe9 after 'caf'")]


@pytest.mark.parametrize("names", [["a.de"], ["a.de", "a.en", "a.fr"], ["a.de", "a.tsv"]])
def test_plain_text_alone_cannot_fill_two_columns(write, names):
    for name in names:
        write(name, "source\ttarget\nja\tyes\n")
    with pytest.raises(DataError, match=r"a\.de is plain text.* Give 2 plain text files"):
        read_records(names, columns=PAIR)


# Characters


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e", "\0", "a\rb"])
def test_only_a_newline_ends_a_line(write, odd):
    text = f"x{odd}y"
    write("a.txt", f"{text}\nz\n")
    write("a.tsv", f"source\ttarget\n{text}\tz\n")
    write("a.jsonl", json.dumps({"source": text, "target": "z"}, ensure_ascii=False) + "\n")
    assert list(read_text("a.txt")) == [text, "z"]
    assert [row["text"] for row in read_records(["a.txt"], columns=["text"]).rows] == [text, "z"]
    assert pairs(read_records(["a.tsv"], columns=PAIR)) == [(text, "z")]
    assert pairs(read_records(["a.jsonl"], columns=PAIR)) == [(text, "z")]


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0c", "\0"])
def test_only_a_newline_ends_a_csv_line(write, odd):
    write("a.csv", f"source,target\nx{odd}y,z\n")
    assert pairs(read_records(["a.csv"], columns=PAIR)) == [(f"x{odd}y", "z")]


def test_a_byte_order_mark_and_carriage_returns_go(write):
    write("a.tsv", b"\xef\xbb\xbfsource\ttarget\r\nja\tyes\r\n")
    write("a.csv", b"\xef\xbb\xbfsource,target\r\nja,yes\r\n")
    write("a.jsonl", b'\xef\xbb\xbf{"source": "ja", "target": "yes"}\r\n')
    write("a.txt.gz", b"\xef\xbb\xbfja\r\r\nyes\r\n")
    for name in ("a.tsv", "a.csv", "a.jsonl"):
        assert pairs(read_records([name], columns=PAIR)) == [("ja", "yes")]
    assert list(read_text("a.txt.gz")) == ["ja\r", "yes"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", b"source\ttarget\nja\tyes\nB\xfccher\tbooks\n"),
        ("a.csv", b"source,target\nja,yes\nB\xfccher,books\n"),
        ("a.jsonl", b'\n{"source":"ja","target":"yes"}\n{"source":"B\xfccher","target":"b"}\n'),
    ],
)
def test_latin_1_is_a_bad_row_with_file_and_line(write, name, content):
    records = read_records([write(name, content)], columns=PAIR, skip_bad=True)
    assert pairs(records) == [("ja", "yes")]
    assert [row.where for row in records.bad] == [f"{name}, line 3"]
    assert "not UTF-8: byte 0xfc after" in records.bad[0].problem


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_half_a_surrogate_pair_is_a_bad_row_wherever_it_stands(write, name):
    rows = [
        r'{"text": "\ud83d\ude00 is whole"}',
        r'{"text": "half \ud83d"}',
        r'{"text": "x", "id": ["\uDE00"]}',
        r'{"text": "x", "\udc80": 1}',
        r'{"text": "not an escape: \\ud800"}',
    ]
    lines = "\n".join(rows) if name == "a.jsonl" else "[" + ",\n".join(rows) + "]"
    records = read_records([write(name, lines)], columns=["text"], skip_bad=True)
    assert [row["text"] for row in records.rows] == [
        "\U0001f600 is whole",
        "not an escape: \\ud800",
    ]
    assert [row.index for row in records.bad] == [1, 2, 3]
    unit = "line" if name == "a.jsonl" else "item"
    assert records.bad[0].where == f"{name}, {unit} 2"
    assert "surrogate pair, \\ud83d" in records.bad[0].problem


def test_a_row_of_a_million_characters_is_fast(write):
    text = "\u00e4b c" * 250_000
    write("a.jsonl", json.dumps({"source": text, "target": "x"}))
    write("a.tsv", f"source\ttarget\n{text}\tx\n")
    write("a.csv", f'source,target\n"{text}",x\n')
    write("a.txt", text)
    start = time.perf_counter()
    for name in ("a.jsonl", "a.tsv", "a.csv"):
        assert pairs(read_records([name], columns=PAIR)) == [(text, "x")]
    assert read_records(["a.txt"], columns=["text"]).rows == [{"text": text}]
    assert time.perf_counter() - start < 2


def test_the_limit_that_others_set_for_csv_fields_is_kept(write):
    before = csv.field_size_limit(1_000)
    try:
        write("a.csv", "source,target\n" + "x" * 2_000 + ",y\n")
        assert len(read_records(["a.csv"], columns=PAIR)) == 1
        assert csv.field_size_limit() == 1_000
    finally:
        csv.field_size_limit(before)


@RELAXED
@given(rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8))
def test_tsv_round_trip(write, rows):
    lines = ["source\ttarget", *("\t".join(row) for row in rows)]
    write("a.tsv.gz", "\n".join(lines))
    assert pairs(read_records(["a.tsv.gz"], columns=PAIR)) == rows


@RELAXED
@given(rows=st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8))
def test_parallel_round_trip(write, rows):
    write("a.de", "".join(f"{source}\r\n" for source, _ in rows))
    write("a.en", "\n".join(target for _, target in rows))
    assert pairs(read_records(["a.de", "a.en"], columns=PAIR)) == rows


@RELAXED
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_csv_round_trip(write, rows):
    # Inside quotes "\r\n" counts as a line's end and becomes "\n".
    rows = [(a.replace("\r", "-"), b.replace("\r", "-")) for a, b in rows]
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([PAIR, *rows])
    write("a.csv", stream.getvalue())
    assert pairs(read_records(["a.csv"], columns=PAIR)) == rows


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@RELAXED
@given(
    rows=st.lists(
        st.fixed_dictionaries({"source": TEXT, "target": TEXT, "extra": VALUE}),
        min_size=1,
        max_size=5,
    ),
    name=st.sampled_from(["a.jsonl", "a.jsonl.gz"]),
)
def test_jsonl_round_trip_through_write_jsonl(write, rows, name):
    write_jsonl(name, rows)
    records = read_records([name], columns=PAIR, optional=["note"])
    assert records.rows == rows
    assert [records.where(i) for i in range(len(rows))] == [
        f"{name}, line {i + 1}" for i in range(len(rows))
    ]


@RELAXED
@given(content=st.binary(max_size=60), name=st.sampled_from(["a.jsonl", "a.tsv", "a.csv", "a.txt"]))
def test_any_bytes_give_records_or_a_headway_error(write, content, name):
    write(name, b"text\n" * (name[-3:] in ("tsv", "csv")) + content)
    try:
        records = read_records([name], columns=["text"], skip_bad=True)
    except (DataError, FileError) as error:
        assert "\n" not in str(error)
        str(error).encode()
    else:
        assert all(row["text"].strip() and row["text"].encode() for row in records.rows)


# Bad rows


def test_bad_rows_are_listed_together_and_counted(write):
    lines = ['{"source": "a", "target": "b"}'] * 3 + ["{"] * 9
    write("a.jsonl", "\n".join(lines))
    with pytest.raises(DataError) as error:
        read_records(["a.jsonl"], columns=PAIR)
    message = str(error.value)
    assert message.startswith("9 of 12 rows cannot be used: a.jsonl, line 4: no valid JSON: ")
    assert "a.jsonl, line 8:" in message
    assert "a.jsonl, line 9:" not in message
    assert "; and 4 more. Use --data.skip-bad true to leave them out." in message


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "no valid JSON: "),
        ('{"source": "a", "target": "b"} x', "no valid JSON: Extra data"),
        ('{"source": "a", "target": "b", "score": NaN}', "no valid JSON: NaN is no JSON number"),
        ("[" * 100_000, "no valid JSON: "),
        ('{"source": "a", "target": "b", "n": ' + "9" * 5_000 + "}", "no valid JSON: "),
        ('["a", "b"]', "no JSON object, but ['a', 'b']"),
        ("7", "no JSON object, but 7"),
        ('{"source": "a"}', "no column 'target' among 'source'"),
        ('{"source": "a", "target": null}', "target is null"),
        ('{"source": "a", "target": 3}', "target is no text, but 3"),
        ('{"source": [], "target": "b"}', "source is no text, but []"),
        ('{"source": " \\u2003\\n", "target": "b"}', "source is blank"),
        ('{"source": "a", "target": ""}', "target is blank"),
        ('{"source": "a", "target": "b", "text": 1}', "text is no text, but 1"),
    ],
)
def test_a_bad_json_row_says_what_is_wrong(write, row, problem):
    write("a.jsonl", f'{row}\n{{"source": "a", "target": "b"}}\n')
    records = read_records(["a.jsonl"], columns=PAIR, optional=["text"], skip_bad=True)
    assert len(records) == 1
    assert [bad.where for bad in records.bad] == ["a.jsonl, line 1"]
    assert records.bad[0].problem.startswith(problem)


@pytest.mark.parametrize("depth", range(900, 1100, 7))
def test_nesting_near_the_limit_of_recursion_is_no_crash(write, depth):
    write("a.jsonl", '{"text": "\\ud800", "x": ' + "[" * depth + "]" * depth + '}\n{"text": "a"}')
    assert len(read_records(["a.jsonl"], columns=["text"], skip_bad=True).bad) == 1


@pytest.mark.parametrize(
    ("name", "line", "problem"),
    [
        ("a.tsv", "a\tb\tc", "the number of fields is 3, but there are 2 columns"),
        ("a.tsv", "a", "the number of fields is 1, but there are 2 columns"),
        ("a.tsv", "a\t", "target is blank"),
        ("a.tsv", "\u3000\tb", "source is blank"),
        ("a.csv", "a,b,c", "the number of fields is 3, but there are 2 columns"),
        ("a.csv", '"a"x,b', "no valid CSV: "),
        ("a.csv", "a\rb,c", "no valid CSV: "),
        ("a.csv", ",b", "source is blank"),
    ],
)
def test_a_bad_table_row_says_what_is_wrong(write, name, line, problem):
    separator = "\t" if name == "a.tsv" else ","
    good = separator.join(["ja", "yes"])
    content = f"{separator.join(PAIR)}\n{good}\n\n{line}\n{good}\n"
    records = read_records([write(name, content)], columns=PAIR, skip_bad=True)
    assert len(records) == 2
    assert records.empty_rows == 1
    [bad] = records.bad
    assert (bad.where, bad.index) == (f"{name}, line 4", 1)
    assert bad.problem.startswith(problem)


@pytest.mark.parametrize(
    ("names", "blank"),
    [
        (["a.jsonl"], ["a.jsonl, line 2"]),
        (["a.tsv", "a.jsonl"], ["a.tsv, line 3", "a.jsonl, line 2"]),
        (["a.csv"], ["a.csv, line 1", "a.csv, line 3"]),
        (["a.de", "a.en"], ["a.de and a.en, line 2"]),
    ],
)
def test_rows_that_are_blank_are_named_with_file_and_line(write, names, blank):
    write("a.jsonl", '{"source": "a", "target": "b"}\n \n')
    write("a.tsv", "source\ttarget\na\tb\n\t \n")
    write("a.csv", ',\nsource,target\n" ",\na,b\n')
    write("a.de", "a\n\n")
    write("a.en", "b\n \n")
    records = read_records(names, columns=PAIR)
    assert (records.empty_rows, records.empty_places) == (len(blank), blank)


def test_the_first_twenty_blank_rows_are_named_and_all_are_counted(write):
    records = read_records([write("a.txt", "\n" * 30 + "a\n")], columns=["text"])
    assert records.empty_rows == 30
    assert records.empty_places == [f"a.txt, line {number}" for number in range(1, 21)]


def test_a_quote_that_is_never_closed_does_not_swallow_rows_in_silence(write):
    write("a.csv", 'source,target\na,b\n"c,d\ne,f\n')
    records = read_records(["a.csv"], columns=PAIR, skip_bad=True)
    assert pairs(records) == [("a", "b")]
    assert records.bad[0].where == "a.csv, line 3"
    assert "(up to line 4)" in records.bad[0].problem


def test_a_label_may_be_any_json_but_neither_null_nor_blank(write):
    lines = [json.dumps({"text": "x", "label": label}) for label in (0, False, ["a"], None, " ")]
    records = read_records(
        [write("a.jsonl", "\n".join(lines))], columns=("text", "label"), skip_bad=True
    )
    assert [row["label"] for row in records.rows] == [0, False, ["a"]]
    assert [bad.problem for bad in records.bad] == ["label is null", "label is blank"]


def test_an_index_counts_usable_and_bad_rows_of_all_files_but_no_blank_lines(write):
    write("a.jsonl", '\n{"text": "a"}\n{\n')
    write("b.txt", b"b\n\n\xff\nc\n")
    records = read_records(["a.jsonl", "b.txt"], columns=["text"], skip_bad=True)
    assert [row["text"] for row in records.rows] == ["a", "b", "c"]
    assert [(bad.where, bad.index) for bad in records.bad] == [
        ("a.jsonl, line 3", 1),
        ("b.txt, line 3", 3),
    ]
    assert records.empty_rows == 2


def test_an_optional_column_is_left_out_where_it_is_null(write):
    write("a.jsonl", '{"source": "a", "target": null}\n{"source": "b", "target": "c"}\n')
    records = read_records(["a.jsonl"], columns=["source"], optional=["target"])
    assert records.rows == [{"source": "a"}, {"source": "b", "target": "c"}]


@pytest.mark.parametrize("content", ["", "\n \n", "{\n"])
def test_no_usable_rows_is_an_error(write, content):
    with pytest.raises(DataError, match=r"a\.jsonl has no usable rows"):
        read_records([write("a.jsonl", content)], columns=["text"], skip_bad=True)


def test_a_damaged_array_is_an_error_even_when_bad_rows_are_skipped(write):
    with pytest.raises(DataError, match=r"a\.json begins as a JSON array, but"):
        read_records([write("a.json", '[{"text": "a"}')], columns=["text"], skip_bad=True)


# Names of columns


def test_columns_are_renamed_all_at_once(write):
    write("a.tsv", "target\tsource\tid\nja\tyes\t1\n")
    names = ["source=target", "target=source"]
    records = read_records(["a.tsv"], columns=PAIR, names=names)
    assert records.rows == [{"source": "ja", "target": "yes", "id": "1"}]
    write("a.jsonl", '{"de": "ja", "en": "yes", "source": "the web"}\n')
    records = read_records(["a.jsonl"], columns=PAIR, names=["source=de", "target=en"])
    assert records.rows == [{"source": "ja", "target": "yes"}]


@pytest.mark.parametrize("header", ["", "source\ttarget\tid\n"])
def test_names_by_position_serve_a_file_with_or_without_that_header(write, header):
    write("a.tsv", header + "ja\tyes\t1\nnein\tno\t2\n")
    records = read_records(["a.tsv"], columns=PAIR, names=["source", "target", "id"])
    assert pairs(records) == [("ja", "yes"), ("nein", "no")]
    assert records.rows[0]["id"] == "1"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["source=de", "target"], "some entries have a '=' and some have none ('target')"),
        (["source="], "an entry lacks a name"),
        (["=de"], "an entry lacks a name"),
        (["", "source", "target"], "an entry lacks a name"),
        (["sorce=de"], "'sorce' is no column of the task; did you mean 'source'?"),
        (["source=de", "source=en"], "'source' is given twice"),
        (["source=de", "target=de"], "'de' is given twice"),
        (["source", "target", "target"], "'target' is given twice"),
        (["source", "id"], "'target' is not among the names"),
    ],
)
def test_names_that_make_no_sense_are_refused(write, names, problem):
    write("a.tsv", "de\ten\nja\tyes\n")
    with pytest.raises(ConfigError) as error:
        read_records(["a.tsv"], columns=PAIR, names=names)
    assert problem in error.value.message
    assert error.value.where == "--data.columns"


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_names_by_position_fit_tables_only(write, name):
    with pytest.raises(ConfigError, match=f"{name} is no TSV or CSV file"):
        read_records([write(name, "x")], columns=["text"], names=["text"])


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ",")])
def test_a_header_without_the_needed_columns_is_explained(write, name, separator):
    write(name, separator.join(["sources", "english", "id"]) + "\n")
    with pytest.raises(DataError) as error:
        read_records([name], columns=PAIR)
    assert error.value.message == (
        "no column 'source' or 'target' among 'sources', 'english', 'id'"
    )
    assert error.value.where == f"{name}, line 1"
    assert "--data.columns source=sources target=NAME" in error.value.hint


def test_a_renamed_column_that_is_not_there_is_named_as_the_user_named_it(write):
    write("a.tsv", "den\ten\nja\tyes\n")
    with pytest.raises(DataError) as error:
        read_records(["a.tsv"], columns=PAIR, names=["source=de", "target=en"])
    assert error.value.message == "no column 'de' (as source) among 'den', 'en'"
    assert "source=den" in error.value.hint


def test_a_json_row_without_a_column_gets_the_same_advice(write):
    with pytest.raises(DataError, match=r"name the column with --data\.columns target=NAME"):
        read_records([write("a.jsonl", '{"source": "a", "en": "b"}')], columns=PAIR)


def test_a_file_without_header_is_no_endless_message(write):
    write("a.tsv", "x" * 100_000 + "\t" + "y" * 100_000 + "\tz" * 50 + "\n")
    with pytest.raises(DataError) as error:
        read_records(["a.tsv"], columns=PAIR)
    assert "and 42 more" in error.value.message
    assert len(str(error.value)) < 600


def test_a_needed_column_that_stands_twice_in_the_header_is_refused(write):
    write("a.tsv", "source\ttarget\tsource\t\t\na\tb\tc\td\te\n")
    with pytest.raises(DataError, match="the header has 'source' more than once"):
        read_records(["a.tsv"], columns=PAIR)


def test_hints_name_the_flags_that_the_reader_of_records_has(write):
    flags = Flags(skip_bad="--skip", columns="--names")
    write("a.jsonl", '{"source": "a", "en": "b"}\n')
    with pytest.raises(DataError, match=r"Use --skip to .* with --names target=NAME"):
        read_records(["a.jsonl"], columns=PAIR, flags=flags)
    with pytest.raises(DataError, match=r"Give the names with --names source="):
        read_records([write("a.tsv", "de\ten\n")], columns=PAIR, flags=flags)
    for names in (["sorce=de"], ["source", "target"]):
        with pytest.raises(ConfigError) as error:
            read_records(["a.jsonl"], columns=PAIR, names=names, flags=flags)
        assert error.value.where == "--names"


# Files


def test_gzip_is_known_by_its_first_bytes_too(write):
    write("a.tsv", gzip.compress(b"source\ttarget\nja\tyes\n", mtime=0))
    write("a.txt", gzip.compress(b"one\n", mtime=0) + gzip.compress(b"two\n"))
    assert pairs(read_records(["a.tsv"], columns=PAIR)) == [("ja", "yes")]
    assert list(read_text("a.txt")) == ["one", "two"]


def test_no_file_at_all_is_a_usage_error():
    with pytest.raises(ConfigError, match="no data file is given"):
        read_records([], columns=PAIR)


# Standard input


@pytest.mark.parametrize(
    ("content", "columns", "expected"),
    [
        (b'\n  {"text": "a"}\n', ["text"], [{"text": "a"}]),
        (b"\xef\xbb\xbfa\tb\n\nc\n", ["text"], [{"text": "a\tb"}, {"text": "c"}]),
        (b"source\ttarget\nja\tyes\n", PAIR, [{"source": "ja", "target": "yes"}]),
        (b"label\ttext\nyes\ta\n", ["text"], [{"label": "yes", "text": "a"}]),
        (gzip.compress(b"a\n", mtime=0), ["text"], [{"text": "a"}]),
        (b'label,"text"\nyes,"a, b"\n', ["text"], [{"label": "yes", "text": "a, b"}]),
        (b"Yes, a text\n", ["text"], [{"text": "Yes, a text"}]),
        (b"source,target\nja,yes\n", PAIR, [{"source": "ja", "target": "yes"}]),
        (b"Ada B-PER\n\n", ["words", "tags"], [{"words": ["Ada"], "tags": ["B-PER"]}]),
        (b"-DOCSTART- O\n\nAda B-PER\n", ["words"], [{"words": ["Ada"], "tags": ["B-PER"]}]),
    ],
)
def test_the_format_of_standard_input_is_told_by_its_first_line(stdin, content, columns, expected):
    stdin(content)
    assert read_records(["-"], columns=columns).rows == expected


def test_standard_input_is_named_in_messages(stdin):
    stdin(b'{"text": 1}\n')
    with pytest.raises(DataError, match="standard input, line 1: text is no text, but 1"):
        read_records(["-"], columns=["text"])
    with pytest.raises(ConfigError, match="given twice"):
        read_records(["-", "-"], columns=PAIR)


def test_standard_input_can_be_one_of_two_parallel_files(stdin, write):
    stdin(b"ja\nnein\n")
    records = read_records(["-", write("a.en", "yes\nno\n")], columns=PAIR)
    assert pairs(records) == [("ja", "yes"), ("nein", "no")]


def test_standard_input_of_several_columns_may_have_a_header_by_position(stdin):
    stdin(b"ja\tyes\n")
    assert pairs(read_records(["-"], columns=PAIR, names=PAIR)) == [("ja", "yes")]


# Real data


@pytest.mark.skipif(not MULTI30K.is_dir(), reason=f"there is no {MULTI30K}")
def test_multi30k_is_read_whole_and_fast():
    paths = [MULTI30K / "train.de.txt.gz", MULTI30K / "train.en.txt.gz"]
    times = []
    for _ in range(3):
        # Of the processor: other work beside it says nothing of ours.
        start = time.process_time()
        records = read_records(paths, columns=PAIR)
        times.append(time.process_time() - start)
    assert len(records) == 29_000
    assert not records.bad
    assert records.empty_rows == 0
    assert records.rows[0]["source"].startswith("Zwei junge")
    assert records.rows[0]["target"].startswith("Two young")
    assert records.where(28_999).endswith("train.en.txt.gz, line 29000")
    assert min(times) < 0.5
