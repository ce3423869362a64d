"""Scores of answers to questions, as SQuAD defines them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from headway.metrics.intervals import Statistics, check_sides, mean_statistics

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower the case, leave out marks and articles, and put one space between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def answer_f1(prediction: str, reference: str) -> float:
    """Compute the F1 of the words of two answers, 0 to 1; no answer equals only no answer."""
    said, wanted = normalize_answer(prediction).split(), normalize_answer(reference).split()
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


def answer_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[Statistics]:
    """Score answers against the best of their references.

    Args:
        predictions: An answer for each question, "" for none.
        references: Right answers of each question; none where it has no answer.
    Returns:
        statistics: F1 and exact match; rows are (rows, 2) float: the score, and 1.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Rajpurkar et al. 2016 (arXiv 1606.05250), section 6.1, and the official script.
    """
    check_sides(predictions, references)
    # As the official script of version 2.0: what is nothing once normalized is no right answer,
    # unless there is no other.
    pairs = [
        (said, [text for text in wanted if normalize_answer(text)] or [""])
        for said, wanted in zip(predictions, references, strict=True)
    ]
    exact = [normalize_answer(said) in map(normalize_answer, wanted) for said, wanted in pairs]
    f1 = [max(answer_f1(said, text) for text in wanted) for said, wanted in pairs]
    return [mean_statistics("answer_f1", f1), mean_statistics("exact_match", exact)]
