"""ROUGE: how many of a reference's words, word pairs and words in order a summary has.

The numbers are those of Google's `rouge_score` with `use_stemmer=True`, which papers report; the
tests hold us to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np

from headway.metrics.generated import check_references
from headway.metrics.intervals import Statistics, mean_statistics
from headway.metrics.porter import stem_word

_NAMES = ("rouge1", "rouge2", "rougeL")
# Any other letter parts words, as in the original ROUGE: only English is scored well.
_WORD = re.compile("[a-z0-9]+")


def rouge_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> list[Statistics]:
    """Compare the stems of summaries with those of references.

    F1 = 2 * shared / (stems predicted + stems of the reference)

    for single stems, pairs of neighbors, and the longest common subsequence of the whole texts
    (of sentences one by one it would be rougeLsum). A text without a stem scores 0.

    Args:
        references: All references of each row, one or more. For each measure the best one counts.
    Returns:
        statistics: rouge1, rouge2 and rougeL, 0 to 100; rows are (rows, 2) float: F1 as a
            ratio, and 1 to count the row.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, sections 2 and 3.1.
    Differs: the paper asks for recall, or weighs it more, and of many references leaves out one
        after another; what is reported today is F1 with the best of all.
    """
    check_references(predictions, references)
    # Most words come again and again: each is stemmed once a call.
    stem = cache(stem_word)

    def split(text: str) -> list[str]:
        return [stem(word) if len(word) > 3 else word for word in _WORD.findall(text.lower())]

    rows = [
        np.max([_f1(predicted, split(text)) for text in texts], axis=0)
        for predicted, texts in zip(map(split, predictions), references, strict=True)
    ]  # (rows, 3)
    return [mean_statistics(name, f1) for name, f1 in zip(_NAMES, np.transpose(rows), strict=True)]


def _f1(first: Sequence[str], second: Sequence[str]) -> list[float]:
    """Compute the F1 of single stems, of pairs, and of the longest common subsequence."""
    stems = len(first) + len(second)
    pairs = Counter(pairwise(first)) & Counter(pairwise(second))
    return [
        2 * (Counter(first) & Counter(second)).total() / max(stems, 1),
        2 * pairs.total() / max(stems - 2, 1),
        2 * longest_common_subsequence(first, second) / max(stems, 1),
    ]


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Count the words that two texts share in the same order, with gaps.

    Bit i of `flat` is 0 where the length rises between first[:i] and first[:i + 1], so one line
    of arithmetic on long integers stands for a row of the usual table.

    Paper: Hyyro 2004, Bit-parallel LCS-length computation revisited.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    flat = everywhere = (1 << len(first)) - 1
    for word in second:
        matches = flat & places.get(word, 0)
        # Sums carry beyond the last bit: `everywhere` cuts that off.
        flat = (flat + matches | flat - matches) & everywhere
    return len(first) - flat.bit_count()
