"""What a fine-tuned policy is measured by, and against: accuracy and macro-F1, the most frequent
label, and a logistic regression on TF-IDF of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ClassifierScores(NamedTuple):
    """Both in [0, 1]."""

    accuracy: float
    macro_f1: float
    """Mean over all labels of F1, 0 for one that is neither predicted nor true."""


def scores(true: np.ndarray, predicted: np.ndarray, labels: int) -> ClassifierScores:
    """Of places of labels, (n,) each."""
    hits = np.bincount(true[true == predicted], minlength=labels)
    named = np.bincount(true, minlength=labels) + np.bincount(predicted, minlength=labels)
    f1 = np.divide(2.0 * hits, named, out=np.zeros(labels), where=named > 0)
    return ClassifierScores(float((true == predicted).mean()), float(f1.mean()))


def majority_class(train: np.ndarray, count: int) -> np.ndarray:
    """(count,): the most frequent label of training, each time."""
    return np.full(count, np.bincount(train).argmax())


def tf_idf_regression(
    train: Sequence[str], labels: np.ndarray, held_out: Sequence[str]
) -> np.ndarray:
    """(held_out,): multinomial logistic regression (scikit-learn's defaults) on TF-IDF of words and
    pairs of words in the state's last two utterances, the user's or the recommender's."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    known = words.fit_transform(map(_latest, train))
    model = LogisticRegression(max_iter=1000).fit(known, labels)
    return model.predict(words.transform(map(_latest, held_out)))


def _latest(state: str) -> str:
    return "\n".join(state.split("\n")[-2:]) or "nothing"
