"""Hiding tokens: as many as asked for, four in five behind the mask, special ones never."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.corrupt import Masking, Spans, mask_tokens
from headway.data.order import generator

# Ids 0 to 4 are special, 4 being the mask; of the others every third goes on with a word.
SIZE, MASK = 50, 4
SPECIAL = np.arange(SIZE) < 5
CONTINUES = np.array([number >= 5 and number % 3 == 0 for number in range(SIZE)])
START, END = 2, 3


def masking(ratio: float = 0.15, *, whole_words: bool = False) -> Masking:
    return Masking(
        ratio=ratio,
        mask_id=MASK,
        is_special=SPECIAL,
        continues=CONTINUES if whole_words else None,
    )


def text(length: int, *, seed: int = 0) -> np.ndarray:
    """Draw ordinary ids between a first and a last special token."""
    drawn = np.random.default_rng(seed).integers(5, SIZE, length)
    return np.concatenate([[START], drawn, [END]])


def words_of(ids: np.ndarray) -> list[list[int]]:
    """Give the places of each word, in order."""
    words: list[list[int]] = []
    for place, token in enumerate(ids):
        if SPECIAL[token]:
            continue
        if CONTINUES[token] and words and words[-1][-1] == place - 1:
            words[-1].append(place)
        else:
            words.append([place])
    return words


@pytest.mark.parametrize(
    ("length", "ratio", "expected"),
    [(100, 0.15, 15), (100, 0.4, 40), (10, 0.15, 2), (3, 0.15, 1), (1, 0.01, 1), (8, 0.99, 8)],
)
def test_the_share_asked_for_is_chosen(length, ratio, expected):
    found = mask_tokens(text(length), masking(ratio), generator(0))
    assert len(found.places) == expected


def test_special_tokens_do_not_count_into_the_share():
    ids = np.array([START, *[END] * 90, *range(5, 15), END])
    found = mask_tokens(ids, masking(0.2), generator(0))
    assert len(found.places) == 2


def test_of_the_chosen_four_in_five_are_masked_and_half_the_rest_changed():
    ids = text(40_000)
    found = mask_tokens(ids, masking(0.5), generator(0))
    new, old = found.ids[found.places], ids[found.places]
    assert len(new) == 20_000
    assert np.mean(new == MASK) == pytest.approx(0.8, abs=0.01)
    # One in 45 random tokens is the same again.
    assert np.mean((new != MASK) & (new != old)) == pytest.approx(0.1 * 44 / 45, abs=0.007)
    assert np.mean(new == old) == pytest.approx(0.1 + 0.1 / 45, abs=0.007)


def test_every_ordinary_token_and_no_special_one_is_put_in_anothers_place():
    ids = np.concatenate([[START], np.full(40_000, 7), [END]])
    found = mask_tokens(ids, masking(0.5), generator(0))
    drawn = set(found.ids[1:-1].tolist())
    assert drawn == {MASK, *range(5, SIZE)}


def test_every_place_may_be_chosen():
    chosen = set()
    for seed in range(60):
        chosen |= set(mask_tokens(text(12), masking(), generator(seed)).places.tolist())
    assert chosen == set(range(1, 13))


@pytest.mark.parametrize("whole_words", [False, True])
@given(
    ids=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=30),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_only_what_was_chosen_changes_and_nothing_special_is_chosen(whole_words, ids, ratio, seed):
    ids = np.array(ids)
    before = ids.copy()
    found = mask_tokens(ids, masking(ratio, whole_words=whole_words), generator(seed))
    assert ids.tolist() == before.tolist()
    assert found.ids.shape == ids.shape
    assert sorted(set(found.places.tolist())) == found.places.tolist()
    assert not SPECIAL[ids[found.places]].any()
    rest = np.setdiff1d(np.arange(len(ids)), found.places)
    assert (found.ids[rest] == ids[rest]).all()
    inserted = found.ids[found.places]
    assert not (SPECIAL[inserted] & (inserted != MASK)).any()


@pytest.mark.parametrize("whole_words", [False, True])
@given(
    ids=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=30),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_at_least_one_is_chosen_where_there_is_one(whole_words, ids, ratio, seed):
    ids = np.array(ids)
    found = mask_tokens(ids, masking(ratio, whole_words=whole_words), generator(seed))
    assert (len(found.places) > 0) == bool((~SPECIAL[ids]).any())


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("ids", [[START, END], [0, MASK, 1], [MASK]])
def test_where_there_is_nothing_to_choose_nothing_happens(ids, whole_words):
    found = mask_tokens(np.array(ids), masking(0.9, whole_words=whole_words), generator(0))
    assert (found.ids.tolist(), found.places.tolist()) == (ids, [])


def test_a_mask_in_the_text_is_not_asked_for():
    ids = np.array([START, MASK, 7, MASK, END])
    found = mask_tokens(ids, masking(0.9), generator(0))
    assert found.places.tolist() == [2]


@pytest.mark.parametrize("whole_words", [False, True])
def test_the_generator_decides_everything(whole_words):
    settings = masking(0.3, whole_words=whole_words)
    first, again, other = (
        mask_tokens(text(60), settings, generator(*key)) for key in ((1, 2), (1, 2), (1, 3))
    )
    assert first.ids.tolist() == again.ids.tolist()
    assert first.places.tolist() == again.places.tolist()
    assert first.places.tolist() != other.places.tolist()


# Whole words


@given(
    ids=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=40),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_a_word_is_chosen_whole_or_not_at_all_where_one_fits(ids, ratio, seed):
    ids = np.array(ids)
    found = mask_tokens(ids, masking(ratio, whole_words=True), generator(seed))
    chosen = set(found.places.tolist())
    words = words_of(ids)
    wanted = max(1, round(ratio * sum(map(len, words))))
    if any(len(word) <= wanted for word in words):
        for word in words:
            assert chosen >= set(word) or not chosen & set(word)


@given(seed=st.integers(0, 1000), ratio=st.floats(0.05, 0.9))
def test_words_fill_the_share_and_never_exceed_it(seed, ratio):
    # Words of one and of two pieces: whatever is left can be filled but for one piece.
    ids = np.array([START, *[7, 9] * 20, *[8] * 5, END])
    wanted = max(1, round(ratio * 45))
    found = mask_tokens(ids, masking(ratio, whole_words=True), generator(seed))
    assert wanted - 1 <= len(found.places) <= wanted


@pytest.mark.parametrize(("ratio", "count"), [(0.15, 1), (0.4, 2)])
def test_of_words_longer_than_the_share_pieces_are_chosen(ratio, count):
    ids = np.array([START, 7, 9, 12, 15, 18, END])
    chosen = set()
    for seed in range(60):
        found = mask_tokens(ids, masking(ratio, whole_words=True), generator(seed))
        assert len(found.places) == count
        chosen |= set(found.places.tolist())
    assert chosen == {1, 2, 3, 4, 5}


def test_a_piece_after_a_special_token_begins_a_word():
    ids = np.array([START, 9, END, 12, END])
    chosen = set()
    for seed in range(20):
        found = mask_tokens(ids, masking(0.3, whole_words=True), generator(seed))
        chosen.add(tuple(found.places.tolist()))
    assert chosen == {(1,), (3,)}


def test_pieces_of_a_word_are_hidden_each_in_its_own_way():
    ids = np.array([START, 7, *[9] * 5000, 7, *[9] * 5000, END])
    found = mask_tokens(ids, masking(0.6, whole_words=True), generator(0))
    assert len(found.places) == 5001
    assert np.mean(found.ids[found.places] == MASK) == pytest.approx(0.8, abs=0.02)


SPANS = Spans(ratio=0.15, mean_length=3.0)
SENTINEL_IDS = np.arange(1000, 1100)


@given(st.integers(2, 600), st.integers(0, 5), st.floats(0.05, 0.9), st.floats(1.0, 8.0))
def test_a_text_can_be_put_together_again_from_what_was_cut_out(length, seed, ratio, mean):
    spans = Spans(ratio=ratio, mean_length=mean)
    ids = np.arange(length)
    cut, count = spans.sizes(length)
    if count > len(SENTINEL_IDS):
        return
    source, target = spans.cut(ids, SENTINEL_IDS, generator(seed))
    assert [token for token in source if token >= 1000] == SENTINEL_IDS[:count].tolist()
    assert [token for token in target if token >= 1000] == SENTINEL_IDS[:count].tolist()
    assert (len(source), len(target)) == (length - cut + count, cut + count)
    gaps: dict[int, list[int]] = {}
    for token in target:
        gaps.setdefault(token, []) if token >= 1000 else gaps[[*gaps][-1]].append(token)
    assert all(gaps.values())
    whole = [part for token in source for part in gaps.get(token, [token])]
    assert whole == ids.tolist()


def test_the_share_and_the_number_of_spans_are_those_of_the_paper():
    cut, count = SPANS.sizes(np.array([2, 10, 100, 512]))
    assert cut.tolist() == [1, 2, 15, 77]
    assert count.tolist() == [1, 1, 5, 26]


def test_spans_depend_on_chance_alone():
    ids = np.arange(100)
    one, again, other = (SPANS.cut(ids, SENTINEL_IDS, generator(seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
