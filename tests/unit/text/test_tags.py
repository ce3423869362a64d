"""Tags and spans: there and back, in every scheme, and repaired as conlleval reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.text.tags import TagSpan, list_tags, read_spans, write_tags


@st.composite
def sentences(draw):
    spans, place = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = place + draw(st.integers(0, 2))
        place = start + draw(st.integers(1, 3))
        spans.append(TagSpan(draw(st.sampled_from(("PER", "LOC", "A-B"))), start, place))
    return spans, place + draw(st.integers(0, 2))


@given(sentences(), st.sampled_from(("iob2", "iobes")))
def test_spans_come_back(sentence, scheme):
    spans, count = sentence
    tags = write_tags(spans, count, scheme=scheme)
    assert read_spans(tags) == (spans, 0)
    assert set(tags) <= set(list_tags((span.label for span in spans), scheme=scheme))


@pytest.mark.parametrize(
    ("tags", "spans", "repaired"),
    [
        ("I-PER I-PER O", [("PER", 0, 2)], 1),
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)], 1),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)], 0),
        ("O I-PER O I-PER", [("PER", 1, 2), ("PER", 3, 4)], 2),
        ("B-PER E-PER I-PER", [("PER", 0, 2), ("PER", 2, 3)], 1),
        ("E-PER", [("PER", 0, 1)], 1),
        ("S-PER S-PER", [("PER", 0, 1), ("PER", 1, 2)], 0),
        ("B-PER L-PER U-LOC", [("PER", 0, 2), ("LOC", 2, 3)], 0),
    ],
)
def test_what_goes_on_without_a_beginning_begins(tags, spans, repaired):
    assert read_spans(tags.split()) == ([TagSpan(*span) for span in spans], repaired)


@pytest.mark.parametrize("tag", ["PER", "X-PER", "B-", "-PER", "b-PER", ""])
def test_other_words_are_no_tags(tag):
    with pytest.raises(ValueError, match="is no tag"):
        read_spans([tag])


def test_tags_of_single_words_are_spans_of_one_word():
    tags = ["DET", "B-52", "DET", "O"]
    spans, repaired = read_spans(tags, scheme="words")
    assert repaired == 0
    assert [(span.label, span.start, span.end) for span in spans] == [
        (tag, place, place + 1) for place, tag in enumerate(tags)
    ]
    assert write_tags(spans, 4, scheme="words") == tags
    assert list_tags((span.label for span in spans), scheme="words") == ("B-52", "DET", "O")


@pytest.mark.parametrize("scheme", ["iob2", "iobes", "words"])
def test_a_span_of_no_words_tags_nothing(scheme):
    assert write_tags([TagSpan("PER", 1, 1)], 3, scheme=scheme) == ["O"] * 3
