"""Error messages: what is wrong, where and what to do, in one line whatever is in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import errors
from headway.errors import ConfigError, HeadwayError, join_problems, nearest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


# Messages


@pytest.mark.parametrize(
    ("where", "hint", "line"),
    [
        ("", "", "hidden_size is 7."),
        ("recipe.toml, line 7", "", "hidden_size is 7. In recipe.toml, line 7."),
        ("", "Use 8 or 16", "hidden_size is 7. Use 8 or 16."),
        ("a.toml", "Use 8 or 16", "hidden_size is 7. In a.toml. Use 8 or 16."),
    ],
)
def test_a_message_says_what_where_and_what_to_do(where, hint, line):
    error = HeadwayError("hidden_size is 7", where=where, hint=hint)
    assert str(error) == line
    assert (error.message, error.where, error.hint) == ("hidden_size is 7", where, hint)


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("a", "a."),
        ("a.", "a."),
        ("a...", "a."),
        ("did you mean 'b'?", "did you mean 'b'?"),
        ("did you mean 'b'?.", "did you mean 'b'?"),
        ("stop!", "stop!"),
        ('see "what?"', 'see "what?".'),
        ("a.\n", "a."),
        ("did you mean 'b'?\n", "did you mean 'b'?"),
    ],
)
def test_a_sentence_has_one_end(text, ended):
    assert str(HeadwayError("x", hint=text)) == f"x. {ended}"
    assert str(HeadwayError(text, where="f")) == f"{ended} In f."


@pytest.mark.parametrize(
    "end", ["\n", "\r\n", "\t", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]
)
def test_no_end_of_line_gets_through(end):
    error = HeadwayError(f"a{end}b", where=f"c{end}d", hint=f"e{end}f")
    assert str(error) == "a b. In c d. e f."


@given(message=TEXT, where=TEXT, hint=TEXT)
def test_a_message_is_one_line_whatever_is_in_it(message, where, hint):
    line = str(HeadwayError(message, where=where, hint=hint))
    assert len(line.splitlines()) == 1
    assert line == line.strip()
    assert "  " not in line
    assert not line.endswith(("?.", "!."))


def test_only_a_wrong_request_to_the_program_is_a_usage_error():
    kinds = [kind for kind in HeadwayError.__subclasses__() if kind.__module__ == "headway.errors"]
    assert {kind.__name__ for kind in kinds} == {
        "ConfigError",
        "DataError",
        "FileError",
        "ShapeError",
        "TrainError",
        "RequestError",
    }
    assert [kind for kind in kinds if kind.exit_code == errors.EXIT_USAGE] == [ConfigError]
    assert all(kind.exit_code == errors.EXIT_FAILED for kind in kinds if kind is not ConfigError)


# Hints


def test_the_nearest_words_are_offered():
    known = ["source", "target", "text"]
    assert nearest("sorce", known) == "did you mean 'source'?"
    assert nearest("tegt", known, count=2) == "did you mean 'text' or 'target'?"
    assert nearest("tegt", iter(known)) == "did you mean 'text'?"


def test_known_words_are_listed_when_none_is_near():
    assert nearest("qqq", ["b", "a"]) == "known: a, b"
    assert nearest("qqq", []) == "there are none"


@pytest.mark.parametrize(("count", "rest"), [(12, ""), (13, " and 1 more"), (200, " and 188 more")])
def test_at_most_twelve_known_words_are_listed(count, rest):
    words = [f"word{i:03}" for i in range(count)]
    assert nearest("qqq", reversed(words)) == "known: " + ", ".join(words[:12]) + rest


# Several problems


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, ""),
        (1, "p0"),
        (5, "p0; p1; p2; p3; p4"),
        (7, "p0; p1; p2; p3; p4; and 2 more"),
    ],
)
def test_problems_are_joined_and_the_rest_is_counted(count, sentence):
    assert join_problems([f"p{i}" for i in range(count)]) == sentence


def test_as_many_problems_are_shown_as_asked_for():
    assert join_problems(["a", "b", "c"], shown=1) == "a; and 2 more"
