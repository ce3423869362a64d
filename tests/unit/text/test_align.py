"""Words and pieces: every character counted once, whatever the tokenizer cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.text.align import pieces_of_spans, word_spans
from headway.text.specials import SPECIALS
from headway.text.train import train_tokenizer


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@st.composite
def stretches(draw, *, shortest: int = 1) -> list[tuple[int, int]]:
    """Draw stretches in order, none overlapping another."""
    found, place = [], 0
    for length in draw(st.lists(st.integers(shortest, 4), max_size=10)):
        place += draw(st.integers(0, 2))
        found.append((place, place + length))
        place += length
    return found


@st.composite
def pieces(draw) -> list[tuple[int, int]]:
    """Draw the places of pieces: some stand for nothing, some for a character between them."""
    found = draw(stretches(shortest=0))
    return [place for place in found for _ in range(draw(st.sampled_from([1, 1, 3])))]


# Words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n", []),
        ("The cat sat.", ["The", "cat", "sat", "."]),
        ("don't  stop!!", ["don", "'", "t", "stop", "!", "!"]),
        ("(3,50 \u20ac)", ["(", "3", ",", "50", "\u20ac", ")"]),
        ("\u65e5\u672c\u8a9e \u3002", ["\u65e5\u672c\u8a9e", "\u3002"]),
        ("na\u00efve_2", ["na\u00efve_2"]),
        ("\u00a0a\u2003b\u3000", ["a", "b"]),
        ("a\x00b", ["a", "\x00", "b"]),
        ("\U0001f600\U0001f600", ["\U0001f600", "\U0001f600"]),
    ],
)
def test_words_are_runs_of_letters_and_marks_alone(text, expected):
    assert words_of(text) == expected


HINDI = "\u0928\u092e\u0938\u094d\u0924\u0947"


@pytest.mark.parametrize("word", ["cafe\u0301", "e\u0301te\u0301", HINDI])
def test_combining_marks_stay_with_their_word(word):
    assert words_of(f"a {word} b") == ["a", word, "b"]


@pytest.mark.parametrize("word", ["cafe\u0301", HINDI])
def test_a_mark_after_an_accent_is_a_word_of_its_own(word):
    assert words_of(f"({word}), {word}.") == ["(", word, ")", ",", word, "."]


@given(text=st.text())
def test_words_cover_every_character_that_is_no_space(text):
    spans = word_spans(text)
    places = [place for start, end in spans for place in range(start, end)]
    assert places == [place for place, letter in enumerate(text) if not letter.isspace()]
    assert all(start < end for start, end in spans)


# Pieces


@pytest.mark.parametrize(
    ("spans", "offsets", "expected"),
    [
        ([], [(0, 0), (0, 3)], []),
        ([(0, 3)], [], [[]]),
        # Special tokens around pieces of two words.
        ([(0, 3), (4, 8)], [(0, 0), (0, 3), (4, 6), (6, 8), (0, 0)], [[1], [2, 3]]),
        # A piece that begins with the space before its word.
        ([(0, 3), (4, 8)], [(0, 3), (3, 8)], [[0], [1]]),
        # A space that is a piece of its own.
        ([(0, 3), (4, 8)], [(0, 3), (3, 4), (4, 8)], [[0], [2]]),
        # A piece over two words and a half.
        ([(0, 2), (3, 5), (6, 9)], [(0, 7), (7, 9)], [[0], [0], [0, 1]]),
        # Cut after the first word, in the middle of the second.
        ([(0, 3), (4, 8), (9, 12)], [(0, 0), (0, 3), (4, 5), (0, 0)], [[1], [2], []]),
        # Bytes of one character share its place.
        ([(0, 1), (1, 2)], [(0, 1), (0, 1), (0, 1), (1, 2)], [[0, 1, 2], [3]]),
        # Words that no piece stands for.
        ([(0, 1), (2, 3), (4, 5)], [(2, 3)], [[], [0], []]),
    ],
)
def test_pieces_are_found_by_the_characters_they_share(spans, offsets, expected):
    assert pieces_of_spans(spans, offsets) == expected


@given(spans=stretches(), offsets=pieces())
def test_pieces_are_those_of_a_comparison_of_all_with_all(spans, offsets):
    expected = [
        [
            number
            for number, (start, end) in enumerate(offsets)
            if set(range(start, end)) & set(range(*span))
        ]
        for span in spans
    ]
    assert pieces_of_spans(spans, offsets) == expected


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "byte-bpe", "unigram", "character"])
def test_every_word_of_a_text_has_its_own_pieces(kind):
    text = "The cats sat, the dogs\u00e9 ran."
    tokenizer = train_tokenizer(kind, [text] * 5, vocab_size=300, specials=SPECIALS["bert"])
    item = tokenizer.encode(text)
    spans = word_spans(text)
    for (start, end), places in zip(spans, pieces_of_spans(spans, item.offsets), strict=True):
        letters = {place for piece in places for place in range(*item.offsets[piece])}
        assert letters >= set(range(start, end))
        assert 0 not in places
        assert len(item.ids) - 1 not in places
