"""Masks, against their definitions in loops."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from headway.layers.masks import causal_mask, document_mask, window_mask


def rows_of(elements, width: int):
    return st.lists(st.lists(elements, min_size=width, max_size=width), min_size=2, max_size=2)


@st.composite
def two_sides(draw, query, key):
    """Two rows of queries and two rows of keys, each of some width."""
    width, other = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return draw(rows_of(query, width)), draw(rows_of(key, other))


def by_loop(queries, keys, allowed) -> list[list[list[bool]]]:
    return [
        [[allowed(query, key) for key in keys[row]] for query in queries[row]]
        for row in range(len(queries))
    ]


DOCUMENTS = st.integers(0, 3)
PLACES = st.integers(0, 9)
CENTERS = st.floats(-2, 12, width=32)


@given(two_sides(DOCUMENTS, DOCUMENTS))
def test_a_document_sees_itself_and_nobody_sees_padding(sides):
    queries, keys = sides
    mask = document_mask(torch.tensor(queries), torch.tensor(keys))
    assert mask.dtype == torch.bool
    assert mask.tolist() == by_loop(queries, keys, lambda query, key: query == key and key > 0)


@given(two_sides(PLACES, PLACES))
def test_a_token_sees_those_that_are_not_later(sides):
    queries, keys = sides
    mask = causal_mask(torch.tensor(queries), torch.tensor(keys))
    assert mask.dtype == torch.bool
    assert mask.tolist() == by_loop(queries, keys, lambda query, key: key <= query)


@given(two_sides(PLACES, PLACES), st.integers(0, 5))
def test_a_window_around_a_place_reaches_equally_far_both_ways(sides, window):
    queries, keys = sides
    mask = window_mask(torch.tensor(queries), torch.tensor(keys), window=window)
    assert mask.tolist() == by_loop(
        queries, keys, lambda query, key: query - window <= key <= query + window
    )


@given(two_sides(CENTERS, PLACES), st.integers(0, 5))
def test_a_window_may_be_centered_between_two_places(sides, window):
    queries, keys = sides
    queries = torch.tensor(queries).double()
    mask = window_mask(queries, torch.tensor(keys), window=window)
    assert mask.tolist() == by_loop(
        queries.tolist(), keys, lambda query, key: abs(query - key) <= window
    )


@given(st.lists(DOCUMENTS, min_size=1, max_size=6), st.lists(DOCUMENTS, min_size=1, max_size=6))
def test_masks_of_one_row_of_keys_serve_a_batch(first, second):
    # Recurrent attention passes the places (1, S) once for all rows.
    queries = torch.tensor([first[:1], second[:1]])
    places = torch.arange(5)[None]
    mask = window_mask(queries, places, window=2)
    assert torch.equal(mask, window_mask(queries, places.expand(2, -1), window=2))
