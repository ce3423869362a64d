"""Batches side by side: in order, on shared-out threads, and given up cleanly."""

from __future__ import annotations

import threading

import pytest
import torch

from headway.tasks._parallel import answer_batches

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_answers_come_in_order_from_several_threads(two_threads):
    meeting, seen = threading.Barrier(2), []

    def answer(number: int) -> int:
        # Two at a time, or this would wait for ever.
        meeting.wait(timeout=20)
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return number * number

    assert list(answer_batches(answer, range(8), device=CPU)) == [n * n for n in range(8)]
    assert len({thread for thread, _ in seen}) == 2
    assert {threads for _, threads in seen} == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("batches", "device"), [([3], CPU), ([3, 4], torch.device("meta"))])
def test_what_cannot_gain_stays_in_the_callers_thread(batches, device, two_threads):
    def answer(number: int) -> tuple[int, int]:
        return number, threading.get_ident()

    expected = [(number, threading.get_ident()) for number in batches]
    assert list(answer_batches(answer, batches, device=device)) == expected


def test_an_error_is_handed_on_and_the_rest_given_up(two_threads):
    asked = []

    def answer(number: int) -> int:
        asked.append(number)
        if number == 0:
            raise ValueError("no")
        return number

    with pytest.raises(ValueError, match="no"):
        list(answer_batches(answer, range(1000), device=CPU))
    assert len(asked) < 1000
    assert torch.get_num_threads() == 2


def test_giving_up_early_stops_the_threads(two_threads):
    asked = []
    answers = answer_batches(lambda number: asked.append(number), range(100_000), device=CPU)
    next(answers)
    answers.close()
    count = len(asked)
    assert count < 100_000
    assert torch.get_num_threads() == 2
    assert len(asked) == count
