"""Baseline without a language model: TF-IDF of character n-grams and a linear support vector classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

NGRAMS = (1, 3)
"""Lengths of the n-grams in characters. Not words, because Japanese has no spaces between words."""

BUCKETS = 2**18
"""Hash buckets of the n-grams, which bound the memory for any corpus; more buckets did not score better."""


def predict_with_tfidf(train_texts: Sequence[str], train: np.ndarray, texts: Sequence[str], seed: int) -> np.ndarray:
    """Train on one set of texts and predict the classes of another, which does not affect the weights of the n-grams.

    Args:
        train_texts: whole texts, not cut at the classifier's `max_length`.
        train: int [train_texts]; classes of the training texts.
        texts: texts to classify.
        seed: seed of the solver's order.

    Returns:
        int [texts]; predicted classes.
    """
    ngrams = HashingVectorizer(analyzer="char", ngram_range=NGRAMS, n_features=BUCKETS, alternate_sign=False)
    ngrams.set_params(norm=None)  # plain counts, because the next step takes their logarithm
    pipeline = make_pipeline(ngrams, TfidfTransformer(sublinear_tf=True), LinearSVC(random_state=seed))
    return pipeline.fit(train_texts, train).predict(texts)
