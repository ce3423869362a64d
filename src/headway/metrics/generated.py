"""Scores of generated text: BLEU, chrF, exact match and perplexity.

BLEU and chrF are sacreBLEU's, with its default settings and its signature, so that a number can
be set beside one from a paper. Each score has a `_statistics` twin that `intervals.bootstrap`
and the paired tests take, and that holds the score as well:

    statistics = bleu_statistics(predictions, references)
    score_of(statistics), bootstrap(statistics)     # the text is read once
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headway.errors import DataError, join_problems
from headway.metrics.intervals import Statistics

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number for a whole set of rows."""

    name: str
    """"bleu", "chrf" or "exact_match"."""
    value: float
    """0 to 100, larger is better; exact_match is in per cent of rows."""
    signature: str = ""
    """sacreBLEU's signature, to be quoted with the number; empty for other scores."""


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Score how many word sequences of up to four words occur in the references.

    Rows are detokenized text. A corpus in which no prediction has four words scores 0, whatever
    it says: sacreBLEU's corpus BLEU has no effective order.

    Args:
        references: All references of each row, one or more; their number may differ.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Papineni et al. 2002; Post 2018 for the signature.
    """
    return score_of(bleu_statistics(predictions, references))


def chrf(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Score how many character sequences of up to six characters are shared (chrF2).

    Args:
        references: All references of each row, one or more; the best one counts.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    Paper: Popovic 2015, with beta = 2 as in Popovic 2016.
    """
    return score_of(chrf_statistics(predictions, references))


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Count the rows that equal one of their references but for outer white space, in per cent.

    Args:
        references: All references of each row, one or more.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    return score_of(exact_match_statistics(predictions, references))


def perplexity(total_loss: float, num_tokens: float) -> float:
    """Turn a summed loss in nats into exp(loss per token); inf where that is too large a number.

    Raises:
        DataError: if there are no tokens.
    """
    if num_tokens <= 0:
        raise DataError(
            f"the loss was summed over {num_tokens} tokens, but perplexity is a mean over at "
            "least one",
            hint="Check that the rows have labels",
        )
    try:
        return math.exp(float(total_loss) / float(num_tokens))
    except OverflowError:
        return math.inf


def score_of(statistics: Statistics) -> Score:
    """Score all rows of the statistics together."""
    return Score(name=statistics.name, value=statistics.value(), signature=statistics.signature)


def bleu_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Count n-grams for BLEU.

    Returns:
        statistics: rows are (rows, 10) float: prediction length, reference length, four counts
            of matching n-grams, four counts of n-grams.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
    """
    from sacrebleu.metrics.bleu import BLEU

    return _sacrebleu_statistics("bleu", BLEU(), predictions, references)


def chrf_statistics(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    """Count n-grams of characters for chrF.

    Returns:
        statistics: rows are (rows, 18) float: n-grams predicted, in the reference and matching,
            for each length from one to six.
    Raises:
        DataError: if predictions and references differ in number, or are empty.
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
    _check_text(predictions, references)
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
    name: str,
    metric: Metric,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
) -> Statistics:
    """Let sacreBLEU boil each row down to counts.

    The two methods with an underscore are what sacreBLEU's own bootstrap is made of. It has no
    documented way to the counts of a row; the tests hold us to its `corpus_score`.
    """
    _check_text(predictions, references)
    rows = metric._extract_corpus_statistics(predictions, _reference_streams(references))
    return Statistics(
        name=name,
        rows=np.array(rows, dtype=np.float64),
        score=lambda sums: float(metric._compute_score_from_stats(sums.tolist()).score),
        signature=str(metric.get_signature()),
    )


def _reference_streams(references: Sequence[Sequence[str]]) -> list[list[Any]]:
    """Turn all references of a row into sacreBLEU's streams: the first of each row, and so on.

    None stands where a row has fewer references than others, as sacreBLEU documents (its
    annotations say otherwise, hence Any).
    """
    most = max(len(texts) for texts in references)
    return [
        [texts[index] if index < len(texts) else None for texts in references]
        for index in range(most)
    ]


def _check_text(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(predictions) != len(references):
        raise DataError(
            f"there are {len(predictions)} predictions, but references for {len(references)} rows",
            hint="Give each prediction the list of its references, in the same order",
        )
    if not len(predictions):
        raise DataError("there are no predictions to score, but at least one row is needed")
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
