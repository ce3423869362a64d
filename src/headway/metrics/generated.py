"""Scores of generated text: BLEU, chrF, exact match and perplexity.

BLEU and chrF are sacreBLEU's, with its default settings and its signature, so that a number can
be set beside one from a paper. What they are computed from serves the score and its interval:

    statistics = bleu_statistics(predictions, references)
    statistics.value(), bootstrap(statistics)     # the text is read once
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from headway.errors import DataError, join_problems
from headway.metrics.intervals import Statistics, check_sides

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric


def perplexity(loss: float) -> float:
    """Turn a mean loss in nats into exp(loss); inf where that is too large a number."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bleu_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Count n-grams for BLEU: how many word sequences of up to four words the references have.

    Rows are detokenized text. A corpus in which no prediction has four words scores 0, whatever
    it says: sacreBLEU's corpus BLEU has no effective order.

    Args:
        references: All references of each row, one or more; their number may differ.
    Returns:
        statistics: rows are (rows, 10) float: prediction length, reference length, four counts
            of matching n-grams, four counts of n-grams.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Papineni et al. 2002; Post 2018 for the signature.
    """
    from sacrebleu.metrics.bleu import BLEU

    return _sacrebleu_statistics("bleu", BLEU(), predictions, references)


def chrf_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Count the sequences of up to six characters that are shared, for chrF2.

    Args:
        references: All references of each row, one or more; the best one counts.
    Returns:
        statistics: rows are (rows, 18) float: n-grams predicted, in the reference and matching,
            for each length from one to six.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Popovic 2015, with beta = 2 as in Popovic 2016.
    """
    from sacrebleu.metrics.chrf import CHRF

    return _sacrebleu_statistics("chrf", CHRF(), predictions, references)


def exact_match_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Statistics:
    """Mark the rows that equal one of their references but for outer white space.

    Returns:
        statistics: rows are (rows, 2) float: 1 for a match, else 0; and 1 to count the row.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    check_references(predictions, references)
    rows = [
        (prediction.strip() in {text.strip() for text in texts}, 1)
        for prediction, texts in zip(predictions, references, strict=True)
    ]
    return Statistics(
        name="exact_match",
        rows=np.array(rows, dtype=np.float64),
        score=lambda sums: 100.0 * float(sums[0]) / float(sums[1]),
    )


def _sacrebleu_statistics(
    name: str, metric: Metric, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> Statistics:
    """Let sacreBLEU boil each row down to counts.

    The two methods with an underscore are what sacreBLEU's own bootstrap is made of. It has no
    documented way to the counts of a row; the tests hold us to its `corpus_score`.
    """
    check_references(predictions, references)
    # sacreBLEU's streams: the first reference of each row, and so on. None stands where a row has
    # fewer than others, as it documents (its annotations say otherwise, hence Any).
    streams: list[Any] = list(zip_longest(*references))
    rows = metric._extract_corpus_statistics(predictions, streams)
    return Statistics(
        name=name,
        rows=np.array(rows, dtype=np.float64),
        score=lambda sums: float(metric._compute_score_from_stats(sums.tolist()).score),
        signature=str(metric.get_signature()),
    )


def check_references(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Find out whether each text has a list of references.

    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    check_sides(predictions, references)
    problems = []
    for row, texts in enumerate(references):
        # A lone string would pass as the list of its characters.
        if isinstance(texts, str):
            problems.append(f"references[{row}] is a string")
        elif not len(texts):
            problems.append(f"references[{row}] is empty")
    if problems:
        raise DataError(
            "each row needs a list of one or more references, but " + join_problems(problems)
        )
