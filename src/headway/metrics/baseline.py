"""What a bag of words can tell: the line that a network should lie above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BAG_OF_WORDS = "TF-IDF, logistic regression"


def predict_classes(texts: Sequence[str], labels: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Learn classes from TF-IDF of words and pairs of words, and tell those of other texts.

    Args:
        texts: To learn from.
        labels: The class of each.
        asked: To be told.
    """
    if len(set(labels)) == 1:
        return [labels[0]] * len(asked)
    return _fit(texts, labels, several=False).predict(asked).tolist()


def predict_several(
    texts: Sequence[str], labels: Sequence[Sequence[str]], asked: Sequence[str]
) -> list[list[str]]:
    """Likewise where a text has any number of classes, each decided alone."""
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer()
    wanted = np.asarray(binarizer.fit_transform(labels))
    # What all texts have, or none, needs no learning.
    varies = (wanted.min(0) != wanted.max(0)) if len(wanted) else np.zeros(0, bool)
    found = np.repeat(wanted[:1], len(asked), axis=0)
    if varies.any():
        said = _fit(texts, wanted[:, varies], several=True).predict(asked)
        # Of a single class it is a flat array.
        found[:, varies] = said.reshape(len(asked), -1)
    return [list(names) for names in binarizer.inverse_transform(found)]


def _fit(texts: Sequence[str], wanted: Any, *, several: bool) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    # One letter is a word too: "I", "a", and the signs of many languages.
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[!?]")
    classifier = LogisticRegression(C=10.0, max_iter=300)
    last = OneVsRestClassifier(classifier) if several else classifier
    return make_pipeline(words, last).fit(texts, wanted)
