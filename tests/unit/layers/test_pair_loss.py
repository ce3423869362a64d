"""Pairs of start and end: their probability, the joint loss, the threshold below which none is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from encoders import make_encoder
from headway.files.folder import make_body
from headway.layers.losses import IGNORE, pair_log_probs
from headway.metrics.answers import answer_f1
from headway.tasks._model import Model
from headway.tasks.answering import Answering


def brute_force(scores, first: int, place: tuple[int, int], longest: int) -> float:
    """Write the softmax over all valid pairs of one row out, in double precision."""
    starts, ends = np.asarray(scores, np.float64).T
    valid = {
        (i, j): starts[i] + ends[j]
        for i in range(len(starts))
        for j in range(i, min(len(ends), i + longest))
        if i != first or j == first
    }
    if place not in valid or valid[place] == -math.inf:
        return -math.inf
    highest = max(valid.values())
    total = sum(math.exp(value - highest) for value in valid.values())
    return valid[place] - highest - math.log(total)


@st.composite
def cases(draw, low: float = -8, high: float = 8):
    """Draw rows of scores, some of them -inf, with a wanted pair each and a longest answer."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    score = st.one_of(st.floats(low, high, width=32), st.just(-math.inf))
    scores = [[[draw(score), draw(score)] for _ in range(width)] for _ in range(rows)]
    firsts = [draw(st.integers(0, width - 1)) for _ in range(rows)]
    places = [
        tuple(sorted((draw(st.integers(0, width - 1)), draw(st.integers(0, width - 1)))))
        for _ in range(rows)
    ]
    return scores, firsts, places, draw(st.integers(1, width + 2))


def ours(scores, firsts, places, longest: int, *, requires_grad: bool = False):
    tensor = torch.tensor(scores, dtype=torch.float32, requires_grad=requires_grad)
    found = pair_log_probs(tensor, torch.tensor(firsts), torch.tensor(places), longest)
    return (found, tensor) if requires_grad else found.tolist()


def starts_elsewhere(case) -> bool:
    """Say whether no wanted answer begins at the first token and ends after it."""
    _, firsts, places, _ = case
    return all(
        place[0] != first or place[1] == first for first, place in zip(firsts, places, strict=True)
    )


# the probability of a pair


@given(cases())
def test_a_pair_has_its_share_of_all_valid_pairs(case):
    assume(starts_elsewhere(case))
    scores, firsts, places, longest = case
    for row, found in enumerate(ours(*case)):
        wanted = brute_force(scores[row], firsts[row], places[row], longest)
        assert found == pytest.approx(wanted, abs=1e-4)


@given(cases())
def test_the_probabilities_of_all_pairs_sum_to_one(case):
    scores, firsts, _, longest = case
    width = len(scores[0])
    pairs = [(i, j) for i in range(width) for j in range(i, width) if i != firsts[0] or i == j]
    count = len(pairs)
    found = ours([scores[0]] * count, [firsts[0]] * count, pairs, longest)
    total = sum(math.exp(value) for value in found)
    possible = any(brute_force(scores[0], firsts[0], p, longest) > -math.inf for p in pairs)
    assert total == pytest.approx(1.0 if possible else 0.0, abs=1e-4)


@given(cases())
def test_gradients_are_finite_whatever_is_not_allowed(case):
    found, scores = ours(*case, requires_grad=True)
    kept = found[found.isfinite()]
    assume(len(kept))
    kept.sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


def test_a_gradient_is_one_for_the_pair_less_the_expected_counts():
    scores = [[[0.5, 0.1], [1.0, -0.5], [-math.inf, 0.3], [0.2, 2.0]]]
    found, tensor = ours(scores, [0], [(1, 2)], 3, requires_grad=True)
    found.sum().backward()
    probs = {
        (i, j): math.exp(brute_force(scores[0], 0, (i, j), 3)) for i in range(4) for j in range(4)
    }
    wanted = np.zeros((4, 2))
    for (i, j), p in probs.items():
        wanted[i, 0] -= p
        wanted[j, 1] -= p
    wanted[1, 0] += 1
    wanted[2, 1] += 1
    assert tensor.grad is not None
    assert np.abs(tensor.grad[0].numpy() - wanted).max() < 1e-5


def test_two_words_by_hand():
    # Pairs (0, 0), (1, 1), (2, 2) and (1, 2), each of the score 0.
    assert ours([[[0.0, 0.0]] * 3], [0], [(1, 2)], 5) == pytest.approx([math.log(1 / 4)])


@pytest.mark.parametrize("place", [(2, 1), (1, 3)])
def test_a_pair_backwards_or_too_long_is_impossible(place):
    assert ours([[[0.0, 0.0]] * 4], [0], [place], 2) == [-math.inf]


def test_a_pair_from_the_first_token_to_a_later_one_is_impossible():
    assert ours([[[0.0, 0.0]] * 4], [0], [(0, 1)], 3) == [-math.inf]


def test_a_start_without_an_end_counts_nothing_however_low_all_others_are():
    scores = [[[-math.inf, -math.inf], [90.0, -math.inf], [-math.inf, -math.inf], [0.0, 0.0]]]
    assert ours(scores, [0], [(3, 3)], 1) == pytest.approx([0.0], abs=1e-4)


@pytest.mark.parametrize("shift", [-5000.0, 5000.0])
def test_large_scores_neither_overflow_nor_vanish(shift):
    scores = np.array([[[0.5, 0.1], [1.0, -0.5], [0.7, 0.3], [0.2, 2.0]]])
    wanted = brute_force(scores[0], 0, (1, 2), 3)
    assert ours((scores + shift).tolist(), [0], [(1, 2)], 3) == pytest.approx([wanted], abs=1e-2)


# the joint loss

CONTEXT = "the cat sat on the mat and the dog ran to the house in the old tree near the river"
QUESTION = "a bird"


def make(task: Answering) -> Model:
    base = make_encoder()
    torch.manual_seed(3)
    body = make_body("bert", base.body.config, task.head).eval()
    head = task.make_head(body, ()).eval()
    with torch.no_grad():
        for parameter in [*body.parameters(), *head.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Model(body, base.tokenizer, task, task_name="answering", architecture="bert", head=head)


def ask(*answers: str) -> list[dict]:
    return [
        {
            "question": QUESTION,
            "context": CONTEXT,
            "answers": [{"text": text, "start": CONTEXT.index(text)}] if text else [],
        }
        for text in answers
    ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("longest", [3, 30])
def test_the_joint_loss_is_the_brute_force_one(packed, longest):
    task = Answering(
        loss="joint", no_answer=True, max_tokens=20, stride_tokens=6, max_answer_tokens=longest
    )
    model = make(task)
    examples = task.encode(ask("dog ran to", "mat", "", "old tree"), model.setting).examples
    assert len(examples) > 4
    rows = [[example] for example in examples]
    if packed:
        rows = [list(examples[start : start + 3]) for start in range(0, len(examples), 3)]
    batch = task.collate(rows, model.setting)
    with torch.no_grad():
        (loss,) = task.losses(model.body, model.head, batch)
    wanted = count = 0.0
    for example in examples:
        alone = task.collate([[example]], model.setting)
        with torch.no_grad():
            scores = model.head(model.body.encode(alone.source).hidden)[0].numpy().copy()
        scores[np.array(example.token_labels) == IGNORE] = -math.inf
        if example.classes[1] - example.classes[0] < longest:
            wanted -= brute_force(scores, 0, example.classes, longest)
            count += 1
    assert float(loss.total) == pytest.approx(wanted, rel=1e-4)
    assert (loss.name, loss.count) == ("pair", count)
    assert task.counts(batch) == {"pair": count}


def test_answers_that_are_too_long_are_no_part_of_the_joint_loss():
    task = Answering(loss="joint", max_answer_tokens=2)
    model = make(task)
    examples = task.encode(ask("cat sat on"), model.setting).examples
    (loss,) = task.losses(model.body, model.head, task.collate([list(examples)], model.setting))
    assert (float(loss.total.detach()), loss.count) == (0.0, 0.0)


def test_the_gradients_of_the_joint_loss_are_finite():
    model = make(Answering(loss="joint", max_tokens=20, stride_tokens=6))
    examples = model.task.encode(ask("dog ran to", "old tree"), model.setting).examples
    batch = model.task.collate([[example] for example in examples], model.setting)
    model.task.losses(model.body, model.head, batch)[0].total.backward()
    grads = [p.grad for p in [*model.body.parameters(), *model.head.parameters()]]
    assert all(grad is None or grad.isfinite().all() for grad in grads)
    assert any(grad is not None and grad.abs().max() > 1e-4 for grad in grads)


@pytest.mark.parametrize(("given", "hint"), [("joined", "joint"), ("seperate", "separate")])
def test_another_loss_is_refused(given, hint):
    (problem,) = Answering(loss=given).check()
    assert given in problem and hint in problem


# the threshold

WORDS = ("cat", "dog", "the old tree", "old tree")


def f1_at(threshold: float, predictions, rows) -> float:
    """Score what would be answered with a threshold."""
    total = 0.0
    for answer, row in zip(predictions, rows, strict=True):
        said = answer["best_text"] if answer["none_margin"] >= threshold else ""
        total += max(answer_f1(said, text) for text in [a["text"] for a in row["answers"]] or [""])
    return 100 * total / len(rows)


def best_f1(predictions, rows) -> float:
    margins = sorted({answer["none_margin"] for answer in predictions})
    return max(f1_at(t, predictions, rows) for t in [*margins, margins[-1] + 1])


def answered(margins, said, wanted):
    predictions = [
        {"prediction": text, "best_text": text, "none_margin": margin}
        for margin, text in zip(margins, said, strict=True)
    ]
    return predictions, [{"answers": [{"text": text}] if text else []} for text in wanted]


@given(
    st.lists(st.integers(-400, 400), min_size=1, max_size=12, unique=True).flatmap(
        lambda margins: st.tuples(
            st.just([margin / 100 for margin in margins]),
            st.lists(st.sampled_from(WORDS), min_size=len(margins), max_size=len(margins)),
            st.lists(st.sampled_from((*WORDS, "")), min_size=len(margins), max_size=len(margins)),
        )
    )
)
def test_the_threshold_is_the_best_there_is(case):
    predictions, rows = answered(*case)
    tuned = Answering(no_answer=True).tuned(predictions, rows)
    found = f1_at(tuned.threshold, predictions, rows)
    assert found == pytest.approx(best_f1(predictions, rows))


def test_rows_of_the_same_margin_are_answered_all_or_none():
    predictions, rows = answered([2.0] + [1.0] * 3, ["cat"] * 4, ["cat", "cat", "", ""])
    tuned = Answering(no_answer=True).tuned(predictions, rows)
    assert f1_at(tuned.threshold, predictions, rows) == best_f1(predictions, rows) == 75.0


def test_margins_as_close_as_they_are_written_are_told_apart():
    predictions, rows = answered([0.1235, 0.1236], ["cat", "cat"], ["", "cat"])
    tuned = Answering(no_answer=True).tuned(predictions, rows)
    assert f1_at(tuned.threshold, predictions, rows) == 100.0


def test_the_threshold_is_what_a_model_then_answers_by():
    model = make(Answering(no_answer=True, max_tokens=40))
    rows = ask("mat", "", "old tree", "")
    predictions = model.predict(rows)
    tuned = model.task.tuned(predictions, rows)
    again = model.predict(rows, threshold=tuned.threshold)
    f1 = tuned.statistics(again, rows)[0].value()
    assert f1 == pytest.approx(best_f1(predictions, rows))


def test_without_unanswerable_questions_nothing_is_tuned():
    task = Answering(threshold=0.5)
    predictions, rows = answered([1.0], ["cat"], ["dog"])
    assert task.tuned(predictions, rows) == task


def test_nothing_but_the_threshold_is_tuned():
    task = Answering(no_answer=True, max_tokens=100, loss="joint")
    predictions, rows = answered([1.0, 2.0], ["cat", "dog"], ["cat", ""])
    tuned = task.tuned(predictions, rows)
    assert dataclasses.replace(tuned, threshold=0.0) == task
