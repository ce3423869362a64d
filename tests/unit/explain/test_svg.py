"""The parts of pictures: valid XML, nothing unescaped, round numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.explain.svg import (
    cells,
    escape,
    number,
    picture,
    rectangle,
    shorten,
    show_spaces,
    text,
    ticks,
    width_of,
)


@given(st.text())
def test_any_text_gives_valid_xml_and_utf8(content):
    drawn = picture(
        10,
        10,
        [text(0, 0, content), rectangle(0, 0, 1, 1, kind="c0", title=content)],
        label=content,
    )
    assert ElementTree.fromstring(drawn.encode("utf-8")).tag.endswith("svg")


@given(st.text())
def test_ordinary_text_comes_back(content):
    clean = "".join(c for c in content if c.isprintable())
    root = ElementTree.fromstring(picture(1, 1, [text(0, 0, clean)], label="x"))
    assert root[-1].text == (clean or None)


def test_hostile_text_is_harmless(hostile):
    for content in (hostile, '"><script>', "' onload='x", "</title><script>"):
        drawn = picture(1, 1, [text(0, 0, content)], label=content)
        assert "<script" not in drawn
        assert "onload='" not in drawn


def test_surrogates_and_controls_are_replaced():
    assert escape("a\ud800b\x00\x1b\x85") == "a?b\u2400\u241b\ufffd"


def test_all_scripts_stay_as_they_are(many_scripts):
    assert many_scripts in text(0, 0, many_scripts)


@given(st.text(max_size=60), st.floats(1, 20))
def test_shortened_text_fits(content, width):
    assert width_of(shorten(content, width)) <= max(width, 1.0)


def test_wide_and_combining_characters_are_measured():
    assert width_of("\u4e2d\u6587") == 2
    assert width_of("e\u0301") == width_of("e")


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("\u2581dog", "\u2423dog"),
        ("a b", "a\u2423b"),
        ("\u00a0", "\u2423"),
        ("\n", "\u23ce"),
        ("\u200c", "U+200C"),
        ("\u0e34", "\u25cc\u0e34"),
        ("", ""),
    ],
)
def test_invisible_characters_are_seen(token, shown):
    assert show_spaces(token) == shown


def test_cells_of_one_shade_are_one_path():
    drawn = cells(np.array([[0, 1, 1], [1, 0, 0.5]]), x=0, y=0, size=(1, 1))
    assert "M1 0h2v1h-2zM0 1h1v1h-1z" in drawn
    assert drawn.count("<path") == 2
    assert "NaN" not in cells(np.array([[np.nan, 2.0, -1.0]]), x=0, y=0, size=(1, 1))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"), (0.002, "0.002"), (2.5e-6, "2.5e-6"), (12, "12"), (9.6469, "9.65"),
        (12345, "12.3k"), (7_580_000, "7.58M"), (-0.5, "-0.5"), (300.0, "300"),
    ],
)  # fmt: skip
def test_numbers_are_short(value, written):
    assert number(value) == written


def test_ticks_are_round():
    assert ticks(0, 95, count=4) == [0, 25, 50, 75]
    assert ticks(0.1, 0.9, count=4) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert ticks(1, 1) == [1]


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_are_few_and_inside(low, span):
    found = ticks(low, low + span)
    assert len(found) <= 7
    slack = span * 1e-6 + abs(low) * 1e-12
    assert all(low - slack <= tick <= low + span + slack for tick in found)
