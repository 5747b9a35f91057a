"""What the labels can be told by without a language model: character n-grams and a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

NGRAMS = (1, 3)
"""Characters, not words: Japanese has no spaces between words, and a word list would be one more thing to choose."""

BUCKETS = 2**18
"""N-grams are hashed, so that memory is bounded whatever the corpus; more buckets did not score better."""


def predict_with_tfidf(train_texts: Sequence[str], train: np.ndarray, texts: Sequence[str], seed: int) -> np.ndarray:
    """Train on one set of texts and classify another; nothing of the latter enters the weights of the n-grams.

    Args:
        train_texts: whole texts, not cut at the classifier's `max_length`.
        train: int [train_texts]; their classes.
        texts: what to classify.
        seed: of the solver's order.

    Returns:
        int [texts]; classes.
    """
    ngrams = HashingVectorizer(analyzer="char", ngram_range=NGRAMS, n_features=BUCKETS, alternate_sign=False)
    ngrams.set_params(norm=None)  # counts as they are: the next step takes their logarithm
    pipeline = make_pipeline(ngrams, TfidfTransformer(sublinear_tf=True), LinearSVC(random_state=seed))
    return pipeline.fit(train_texts, train).predict(texts)
