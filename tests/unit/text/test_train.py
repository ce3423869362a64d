"""Learning a vocabulary: the same texts make the same one."""

from __future__ import annotations

import pytest

from headway.text.train import KINDS, train_tokenizer

TEXTS = [
    "the cat sat on the mat and the dog ran to the house",
    "a bird sings in the old tree near a river",
    "unhappy people read long books about short words, don't they?",
]


UNSTABLE = ("wordpiece", "unigram")


def marked(kind: str):
    reason = "the library's trainer goes through tables in the order of a random hash"
    marks = pytest.mark.xfail(strict=True, reason=reason) if kind in UNSTABLE else ()
    return pytest.param(kind, marks=marks)


@pytest.mark.parametrize("kind", [marked(kind) for kind in KINDS])
def test_the_same_texts_make_the_same_vocabulary(kind):
    size = 300 if kind == "byte-bpe" else 90
    found = {train_tokenizer(kind, TEXTS * 5, vocab_size=size).to_json() for _ in range(4)}
    assert len(found) == 1
