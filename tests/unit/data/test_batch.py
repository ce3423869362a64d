"""Padded and packed rows hold the same examples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.data.batch import Example, lay_out, pack_rows, pad_rows
from headway.layers.losses import IGNORE
from headway.layers.masks import causal_mask, document_mask

IDS = st.lists(st.integers(3, 50), min_size=1, max_size=12)
EXAMPLES = st.lists(st.tuples(IDS, IDS), min_size=1, max_size=20).map(
    lambda pairs: [Example(i, source, target) for i, (source, target) in enumerate(pairs)]
)
PAD = 0


def documents_of(side) -> list[list[int]]:
    """Read the documents back from a side, row by row."""
    found = []
    for ids, numbers in zip(side.ids.tolist(), side.documents.tolist(), strict=True):
        for number in range(1, max(numbers) + 1):
            found.append([i for i, n in zip(ids, numbers, strict=True) if n == number])
    return found


@given(examples=EXAMPLES, room=st.integers(12, 40))
def test_packing_loses_nothing_and_keeps_to_its_room(examples, room):
    rows = pack_rows(examples, row_tokens=room)
    assert sorted(e.index for row in rows for e in row) == [e.index for e in examples]
    for row in rows:
        assert sum(len(e.input_ids) for e in row) <= room
        assert sum(len(e.target_ids) for e in row) <= room


@given(examples=EXAMPLES, room=st.integers(12, 40))
def test_packed_rows_hold_every_document_whole(examples, room):
    rows = pack_rows(examples, row_tokens=room)
    batch = lay_out(rows, pad_id=PAD, start_id=2)
    flat = [example for row in rows for example in row]
    assert documents_of(batch.source) == [e.input_ids for e in flat]
    assert documents_of(batch.target) == [[2, *e.target_ids[:-1]] for e in flat]
    assert batch.indices == tuple(e.index for e in flat)


@given(examples=EXAMPLES)
def test_positions_restart_and_padding_is_document_zero(examples):
    batch = lay_out(pack_rows(examples, row_tokens=30), pad_id=PAD, start_id=2)
    side = batch.source
    for numbers, positions in zip(side.documents.tolist(), side.positions.tolist(), strict=True):
        seen: dict[int, int] = {}
        for number, position in zip(numbers, positions, strict=True):
            if number:
                assert position == seen.get(number, 0)
                seen[number] = position + 1
    assert batch.num_tokens == sum(e.num_tokens for e in examples)


@given(examples=EXAMPLES)
def test_labels_are_the_targets_and_ignored_elsewhere(examples):
    batch = lay_out(pad_rows(examples), pad_id=PAD, start_id=2)
    for example, labels in zip(examples, batch.labels.tolist(), strict=True):
        length = len(example.target_ids)
        assert labels[:length] == example.target_ids
        assert set(labels[length:]) <= {IGNORE}


@given(examples=EXAMPLES)
def test_source_and_target_of_a_pair_share_row_and_number(examples):
    batch = lay_out(pack_rows(examples, row_tokens=30), pad_id=PAD, start_id=2)
    assert batch.source.documents.max(1).values.equal(batch.target.documents.max(1).values)


@given(examples=EXAMPLES)
def test_masks_of_packed_rows_open_a_document_to_itself_only(examples):
    side = lay_out(pack_rows(examples, row_tokens=30), pad_id=PAD, start_id=2).target
    mask = document_mask(side.documents, side.documents)
    mask = mask & causal_mask(side.positions, side.positions)
    for row in range(len(mask)):
        numbers, positions = side.documents[row].tolist(), side.positions[row].tolist()
        for t, number in enumerate(numbers):
            for s, other in enumerate(numbers):
                allowed = bool(other) and number == other and positions[s] <= positions[t]
                assert bool(mask[row, t, s]) == allowed


def test_sources_alone_have_no_target_side():
    batch = lay_out([[Example(0, [5, 1])]], pad_id=PAD, start_id=2)
    assert batch.target is None
    assert batch.labels is None
