"""Plans of examples: within the budget, inside documents, half of the pairs false."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import headway.data.pairs as planning
from headway.data.pairs import Plan, plan_pairs, plan_texts
from headway.data.store import Store, StoreInfo
from limits import seconds_at_most

KINDS = ("next-sentence", "sentence-order")


def store_of(documents: list[list[int]], ids: list[int] | None = None) -> Store:
    """Make a store from the lengths of the segments of each document; ids are places."""
    lengths = [length for document in documents for length in document]
    total = sum(lengths)
    return Store(
        ids=np.arange(total) if ids is None else np.array(ids),
        segments=np.cumsum([0, *lengths]),
        documents=np.cumsum([0, *map(len, documents)]),
        lines=np.empty(0, np.uint64),
        info=StoreInfo(files=[]),
    )


def corpus(count: int, *, seed: int = 0) -> list[list[int]]:
    """Draw documents of 1 to 12 segments of 1 to 20 tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(1, 21, random.integers(1, 13)).tolist() for _ in range(count)]


def pairs(store: Store, kind: str, *, budget: int = 32, seed: int = 0, epoch: int = 0) -> Plan:
    return plan_pairs(store, budget=budget, kind=kind, seed=seed, epoch=epoch)


def documents_of(store: Store, ranges: np.ndarray) -> np.ndarray:
    """Say in which document each token range begins and ends, (N, 2) ranges to (N, 2)."""
    ends = store.segments[store.documents[1:]]
    first = np.searchsorted(ends, ranges[:, 0], side="right")
    return np.stack([first, np.searchsorted(ends, ranges[:, 1] - 1, side="right")], axis=1)


def assert_within_documents(store: Store, ranges: np.ndarray) -> None:
    places = documents_of(store, ranges)
    assert (places[:, 0] == places[:, 1]).all()


def in_order(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Give the texts of sentence-order pairs as they stand in the corpus."""
    swapped = (plan.labels == 1)[:, None]
    first, second = plan.ranges[:, :2], plan.ranges[:, 2:]
    return np.where(swapped, second, first), np.where(swapped, first, second)


def lengths_of(ranges: np.ndarray) -> np.ndarray:
    return ranges[:, 1] - ranges[:, 0]


DOCUMENTS = st.lists(
    st.lists(st.integers(0, 12), min_size=1, max_size=8), min_size=1, max_size=8
).filter(lambda documents: any(map(sum, documents)))


# Single texts


def test_whole_segments_fill_an_example():
    plan = plan_texts(store_of([[3, 3, 3, 4, 6], [2, 2]]), budget=10)
    assert plan.ranges[:, :2].tolist() == [[0, 9], [9, 19], [19, 23]]
    assert plan.lengths.tolist() == [9, 10, 4]
    assert plan.labels.tolist() == [0, 0, 0]


def test_a_longer_segment_is_cut_and_its_rest_is_filled_up():
    plan = plan_texts(store_of([[3, 25, 2, 5]]), budget=10)
    assert plan.ranges[:, :2].tolist() == [[0, 3], [3, 13], [13, 23], [23, 30], [30, 35]]


def test_a_text_alone_has_no_second_one():
    plan = plan_texts(store_of([[3, 9], [4]]), budget=10)
    assert (plan.ranges[:, 2] == plan.ranges[:, 3]).all()


def test_a_corpus_without_tokens_has_no_examples():
    plan = plan_texts(store_of([[0, 0], [0]]), budget=10)
    assert (plan.ranges.shape, plan.labels.shape) == ((0, 4), (0,))


@given(documents=DOCUMENTS, budget=st.integers(1, 20))
def test_texts_cover_every_token_once_inside_one_document(documents, budget):
    store = store_of(documents)
    plan = plan_texts(store, budget=budget)
    covered = [place for a, b, *_ in plan.ranges.tolist() for place in range(a, b)]
    assert covered == list(range(len(store.ids)))
    assert plan.lengths.min() > 0
    assert plan.lengths.max() <= budget
    assert_within_documents(store, plan.ranges[:, :2])


@given(documents=DOCUMENTS, budget=st.integers(1, 20))
def test_a_segment_that_fits_is_never_cut(documents, budget):
    store = store_of(documents)
    cuts = set(plan_texts(store, budget=budget).ranges[:, 1].tolist())
    for start, end in zip(store.segments[:-1], store.segments[1:], strict=True):
        if end - start <= budget:
            assert not cuts & set(range(start + 1, end))


def test_no_room_for_any_token_ends():
    with seconds_at_most(0.05):
        assert len(plan_texts(store_of([[3, 3]]), budget=0).ranges) == 0


# Pairs


@pytest.mark.parametrize("kind", KINDS)
@given(documents=DOCUMENTS, budget=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_pair_has_two_texts_within_the_budget(kind, documents, budget, seed):
    store = store_of(documents)
    plan = pairs(store, kind, budget=budget, seed=seed)
    assert (plan.ranges[:, 1] > plan.ranges[:, 0]).all()
    assert (plan.ranges[:, 3] > plan.ranges[:, 2]).all()
    assert (plan.lengths <= budget).all()
    assert plan.ranges.shape == (len(plan.labels), 4)
    assert_within_documents(store, plan.ranges[:, :2])
    assert_within_documents(store, plan.ranges[:, 2:])


@pytest.mark.parametrize("kind", KINDS)
@given(documents=DOCUMENTS, budget=st.integers(2, 20), seed=st.integers(0, 9))
def test_a_true_pair_is_of_one_document_in_its_order(kind, documents, budget, seed):
    store = store_of(documents)
    plan = pairs(store, kind, budget=budget, seed=seed)
    true = plan.ranges[plan.labels == 0]
    assert (true[:, 1] <= true[:, 2]).all()
    assert (documents_of(store, true[:, :2]) == documents_of(store, true[:, 2:])).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [16, 64])
def test_half_of_many_pairs_are_false(kind, budget):
    plan = pairs(store_of(corpus(2000)), kind, budget=budget)
    assert len(plan.labels) > 2000
    assert np.mean(plan.labels) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_and_epoch_make_the_same_pairs(kind):
    store = store_of(corpus(30))
    plan, again = pairs(store, kind, seed=3, epoch=2), pairs(store, kind, seed=3, epoch=2)
    assert plan.ranges.tolist() == again.ranges.tolist()
    assert plan.labels.tolist() == again.labels.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}])
def test_another_seed_or_epoch_makes_other_pairs(kind, other):
    store = store_of(corpus(30))
    plan, again = pairs(store, kind, seed=3, epoch=2), pairs(store, kind, **other)
    assert plan.ranges.tolist() != again.ranges.tolist()


def test_a_tenth_of_the_pairs_are_shorter_than_they_could_be():
    # Segments of one token: every chunk is as long as was wanted.
    plan = pairs(store_of([[1] * 64_000]), "sentence-order", budget=32)
    assert len(plan.lengths) > 2000
    # Of the tenth drawn from 2 to 32, one in 31 is 32.
    assert np.mean(plan.lengths < 32) == pytest.approx(0.1 * 30 / 31, abs=0.02)
    assert set(plan.lengths.tolist()) == set(range(2, 33))


def test_true_pairs_pass_over_nothing_but_what_does_not_fit():
    plan = pairs(store_of(corpus(200)), "next-sentence", budget=32)
    true = plan.ranges[(plan.labels == 0) & (plan.lengths < 32)]
    assert 50 < len(true) < 0.9 * sum(plan.labels == 0)
    assert (true[:, 1] == true[:, 2]).all()


def test_pairs_in_either_order_pass_over_nothing_but_what_does_not_fit():
    plan = pairs(store_of(corpus(200)), "sentence-order", budget=32)
    first, second = in_order(plan)
    whole = plan.lengths < 32
    assert 50 < sum(whole) < 0.9 * len(whole)
    assert (first[whole, 1] == second[whole, 0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_of_one_segment_is_cut_in_the_middle(kind):
    plan = pairs(store_of([[8]]), kind, budget=20)
    halves = [[0, 4, 4, 8], [4, 8, 0, 4]] if kind == "sentence-order" else [[0, 4, 4, 8]]
    assert plan.ranges.tolist() in [[half] for half in halves]


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_of_one_token_makes_no_pair(kind):
    plan = pairs(store_of([[1], [1], [1]]), kind)
    assert (plan.ranges.shape, plan.labels.shape) == ((0, 4), (0,))


@pytest.mark.parametrize("kind", KINDS)
def test_documents_of_one_segment_make_as_many_false_pairs(kind):
    plan = pairs(store_of([[6 + number % 5] for number in range(3000)]), kind)
    assert len(plan.labels) == 3000
    assert np.mean(plan.labels) == pytest.approx(0.5, abs=0.03)


def test_long_segments_are_cut_into_pieces_of_which_none_is_lost():
    whole = 0
    for seed in range(40):
        plan = pairs(store_of([[30, 45]]), "sentence-order", budget=20, seed=seed)
        taken = np.concatenate([np.arange(a, b) for a, b in plan.ranges.reshape(-1, 2)])
        assert len(taken) == len(set(taken.tolist()))
        whole += len(taken) >= 60
    # In the others a text wanted was short, and its neighbor cut.
    assert whole > 25


def test_what_is_too_much_is_cut_from_the_longer_text_at_either_side():
    fronts, ends = set(), set()
    for seed in range(80):
        plan = pairs(store_of([[9, 9, 9]]), "sentence-order", budget=20, seed=seed)
        first, second = in_order(plan)
        if first.tolist() == [[0, 9]] and len(second) == 1 and second[0, 1] - second[0, 0] == 11:
            fronts.add(int(second[0, 0]) - 9)
            ends.add(27 - int(second[0, 1]))
    # Seven tokens of eighteen, each at either side by chance.
    assert len(fronts) > 3
    assert {a + b for a, b in zip(sorted(fronts), sorted(ends, reverse=True), strict=True)} == {7}


def test_the_length_of_a_second_text_says_little_of_whether_it_follows():
    plan = pairs(store_of(corpus(1500)), "next-sentence", budget=60)
    lengths = plan.ranges[:, 3] - plan.ranges[:, 2]
    best = max(
        np.mean((lengths >= bound) == (plan.labels == label))
        for bound in range(1, 60)
        for label in (0, 1)
    )
    assert best < 0.6


# Blocks


@given(documents=DOCUMENTS, longest=st.integers(1, 8))
def test_a_piece_is_found_by_its_number(documents, longest):
    store = store_of(documents)
    expected, firsts = [], []
    for start, end in zip(store.segments[:-1], store.segments[1:], strict=True):
        firsts.append(len(expected))
        count = -(-(end - start) // longest)
        expected += [(start + (end - start) * i // count, len(firsts) - 1) for i in range(count)]
    pieces = planning._Pieces(store, longest=longest)
    assert [pieces.first_of(number) for number in range(len(firsts))] == firsts
    assert pieces.first_of(len(firsts)) == len(expected)
    assert [pieces.segment_of(number) for number in range(len(expected))] == [
        segment for _, segment in expected
    ]
    starts = [*(start for start, _ in expected), len(store.ids)]
    assert [pieces.start(number) for number in range(len(starts))] == starts
    for first in range(len(starts)):
        assert pieces.starts(first, len(starts) - 1) == starts[first:]


def starts_of_blocks(store: Store) -> list[int]:
    maker = planning._PairMaker(store, budget=32, kind="sentence-order")
    return [maker.pieces.start(first) for first, _ in maker.blocks()]


def test_a_block_is_of_whole_documents_but_for_a_longer_one(monkeypatch):
    monkeypatch.setattr(planning, "_BLOCK_PIECES", 5)
    store = store_of([[4, 4], [4, 4], [4, 4], [0], [4] * 12, [4]])
    assert starts_of_blocks(store) == [0, 16, 24, 44, 64]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_does_not_depend_on_documents_of_other_blocks(kind, monkeypatch):
    monkeypatch.setattr(planning, "_BLOCK_PIECES", 40)
    first_texts = []
    for length in (3, 5):
        store = store_of([[length] * 6, *corpus(60)])
        second = starts_of_blocks(store)[1]
        plan = pairs(store, kind)
        # A false second text may be of any block.
        first = in_order(plan)[0] if kind == "sentence-order" else plan.ranges[:, :2]
        is_later = first[:, 0] >= second
        first_texts.append([(first[is_later] - second).tolist(), plan.labels[is_later].tolist()])
    assert len(first_texts[0][0]) > 50
    assert first_texts[0] == first_texts[1]


def test_false_texts_come_from_all_blocks(monkeypatch):
    monkeypatch.setattr(planning, "_BLOCK_PIECES", 40)
    store = store_of(corpus(400))
    plan = pairs(store, "next-sentence")
    false = plan.ranges[plan.labels == 1]
    away = np.abs(false[:, 2] - false[:, 0])
    # Two places drawn at random are a third of the whole apart.
    assert np.mean(away) == pytest.approx(len(store.ids) / 3, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@given(documents=DOCUMENTS, budget=st.integers(2, 20), size=st.integers(1, 6))
def test_blocks_of_any_size_make_pairs_of_one_document(kind, documents, budget, size):
    store = store_of(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "_BLOCK_PIECES", size)
        plan = pairs(store, kind, budget=budget)
    assert (plan.lengths <= budget).all()
    assert_within_documents(store, plan.ranges[:, :2])
    assert_within_documents(store, plan.ranges[:, 2:])
    places = documents_of(store, plan.ranges[:, :2]), documents_of(store, plan.ranges[:, 2:])
    if kind == "sentence-order":
        assert (places[0] == places[1]).all()


@pytest.mark.parametrize("kind", ["none", *KINDS])
def test_a_plan_takes_little_memory_beside_its_ranges(kind, monkeypatch):
    monkeypatch.setattr(planning, "_BLOCK_PIECES", 1 << 10)
    monkeypatch.setattr(planning, "_SEGMENTS_AT_ONCE", 1 << 10)
    lengths = np.random.default_rng(0).integers(5, 50, 20_000)
    store = Store(
        ids=np.random.default_rng(0).integers(5, 8000, lengths.sum()).astype(np.uint16),
        segments=np.concatenate([[0], lengths.cumsum()]),
        documents=np.arange(0, 20_001, 40),
        lines=np.empty(0, np.uint64),
        info=StoreInfo(files=[]),
    )
    tracemalloc.start()
    try:
        if kind == "none":
            plan = plan_texts(store, budget=126)
        else:
            plan = pairs(store, kind, budget=125)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = plan.ranges.nbytes + plan.labels.nbytes
    # Four to five characters a token.
    assert size < 0.15 * 4 * len(store.ids)
    # What is collected grows by an eighth at a time; a block and its chances are a constant.
    assert peak < 1.2 * size + 500_000


# Next sentences


def test_a_false_second_text_comes_from_another_document():
    store = store_of(corpus(300))
    plan = pairs(store, "next-sentence")
    false = plan.ranges[plan.labels == 1]
    assert len(false) > 300
    first, second = documents_of(store, false[:, :2]), documents_of(store, false[:, 2:])
    assert (first[:, 0] != second[:, 0]).all()


def test_every_other_document_may_give_the_second_text():
    store = store_of([[3, 3, 3]] * 8)
    drawn = set()
    for epoch in range(60):
        plan = pairs(store, "next-sentence", epoch=epoch)
        false = plan.ranges[plan.labels == 1]
        first, second = documents_of(store, false[:, :2]), documents_of(store, false[:, 2:])
        drawn |= set(zip(first[:, 0].tolist(), second[:, 0].tolist(), strict=True))
    assert drawn == {(a, b) for a in range(8) for b in range(8) if a != b}


def test_segments_whose_place_was_taken_are_used_again():
    # Segments of one token: nothing is cut of true pairs, and of those below the budget.
    plan = pairs(store_of([[1] * 64 for _ in range(200)]), "next-sentence", budget=32)
    uncut = (plan.labels == 0) | (plan.lengths < 32)
    ends, nexts = plan.ranges[:-1, 1], plan.ranges[1:, 0]
    checked = (plan.labels[:-1] == 1) & uncut[:-1] & uncut[1:] & (ends // 64 == nexts // 64)
    assert sum(checked) > 50
    assert (ends[checked] == nexts[checked]).all()


def test_no_false_text_is_what_follows():
    # Two kinds of documents only, so that many draws are what follows, elsewhere.
    kinds = ([1, 1, 2, 2, 3, 3], [1, 1, 5, 5, 6, 6])
    checked = 0
    for seed in range(30):
        chosen = [kinds[number] for number in np.random.default_rng(seed).integers(0, 2, 12)]
        ids = [token for document in chosen for token in document]
        plan = pairs(store_of([[2, 2, 2]] * 12, ids), "next-sentence", budget=40, seed=seed)
        for _, end, start, _ in plan.ranges[plan.labels == 1].tolist():
            # Half a segment is another matter; after a document's end nothing follows.
            if end % 2 == 0 and end % 6:
                assert ids[start : start + 2] != ids[end : end + 2]
                checked += 1
    assert checked > 60


def test_a_text_without_any_other_to_follow_it_stays_true():
    store = store_of([[2, 2]] * 40, ids=[7] * 160)
    plan = pairs(store, "next-sentence")
    assert len(plan.labels) == 40
    assert plan.labels.tolist() == [0] * 40


def test_no_false_text_is_the_other_half_of_the_segment():
    ids = [1, 1, 7, 7, 9, 9, 9, 9, *([7] * 80)]
    for seed in range(20):
        plan = pairs(store_of([[4]] * 22, ids), "next-sentence", seed=seed)
        first = plan.ranges[(plan.labels == 1) & (plan.ranges[:, 0] == 0)]
        assert [ids[start] for start in first[:, 2]] in ([], [9])


def test_a_corpus_of_one_document_draws_from_elsewhere_in_it():
    store = store_of([[5] * 2000])
    plan = pairs(store, "next-sentence", budget=20)
    assert np.mean(plan.labels) == pytest.approx(0.5, abs=0.05)
    false = plan.ranges[plan.labels == 1]
    assert len(false) > 200
    # What begins at the end of the first text would be true.
    assert (false[:, 1] != false[:, 2]).all()
    assert np.mean(np.abs(false[:, 2] - false[:, 1]) > 1000) > 0.5


def test_a_corpus_of_two_segments_has_only_true_pairs():
    for seed in range(20):
        assert pairs(store_of([[4, 4]]), "next-sentence", seed=seed).labels.tolist() == [0]


def test_empty_segments_make_neither_kind_of_pair_rarer():
    plan = pairs(store_of([[6, 0, 6, 0, 6, 0] for _ in range(2000)]), "next-sentence", budget=64)
    assert np.mean(plan.labels) == pytest.approx(0.5, abs=0.03)


# Sentence order


def test_pairs_in_wrong_order_are_of_one_document_too():
    store = store_of(corpus(300))
    plan = pairs(store, "sentence-order")
    swapped = plan.ranges[plan.labels == 1]
    assert len(swapped) > 200
    assert (swapped[:, 3] <= swapped[:, 0]).all()
    assert (documents_of(store, swapped[:, :2]) == documents_of(store, swapped[:, 2:])).all()


def test_chunks_of_a_document_follow_each_other():
    # Short enough that nothing is ever cut away.
    store = store_of([[1] * 64 for _ in range(50)])
    plan = pairs(store, "sentence-order", budget=16)
    first, second = in_order(plan)
    starts, ends = first[:, 0], second[:, 1]
    assert (ends - starts == plan.lengths).all()
    # A last chunk of one token makes no pair.
    same = starts[1:] % 64 != 0
    assert sum(same) > 150
    assert (starts[1:] == ends[:-1])[same].all()


@pytest.mark.parametrize("num_segments", [3, 8, 30, 300])
@pytest.mark.parametrize("kind", ["next-sentence", "sentence-order"])
def test_lengths_say_little_of_whether_a_pair_is_true(kind, num_segments):
    trees = pytest.importorskip("sklearn.tree")
    random = np.random.default_rng(0)
    num_documents = 24_000 // num_segments
    lengths = random.integers(4, 40, size=num_documents * num_segments)
    starts = np.concatenate([[0], lengths.cumsum()])
    store = Store(
        ids=random.integers(0, 5000, starts[-1]).astype(np.uint16),
        segments=starts,
        documents=np.arange(0, len(starts), num_segments),
        lines=np.empty(0, np.uint64),
        info=StoreInfo(files=[]),
    )
    plan = plan_pairs(store, budget=125, kind=kind, seed=0, epoch=0)
    first, second = (plan.ranges[:, i + 1] - plan.ranges[:, i] for i in (0, 2))
    seen = np.stack([first, second, first + second], axis=1)
    half = len(seen) // 2
    tree = trees.DecisionTreeClassifier(min_samples_leaf=100, random_state=0)
    tree.fit(seen[:half], plan.labels[:half])
    assert tree.score(seen[half:], plan.labels[half:]) < 0.57
