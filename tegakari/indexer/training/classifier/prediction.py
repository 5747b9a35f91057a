"""Predictions of a classifier for texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tegakari.models.classifier import Classifier
from tegakari.schemas.errors import ModelError
from tegakari.schemas.progress import Progress

_CHUNK_TEXTS = 1024


def predict(classifier: Classifier, texts: Sequence[str], *, batch_tokens: int, progress: Progress) -> np.ndarray:
    """Predict the class of each text.

    Args:
        classifier: from `load_classifier`.
        texts: texts with at least one token that is not special.
        batch_tokens: tokens per forward pass, padding included.
        progress: receives the stage "evaluating".

    Returns:
        int64 [texts]; class indices.

    Raises:
        ModelError: a logit is not finite.
    """
    predicted = np.empty(len(texts), np.int64)
    progress.stage("evaluating", len(texts))
    for start in range(0, len(texts), _CHUNK_TEXTS):
        documents = classifier.tokenize(texts[start : start + _CHUNK_TEXTS])
        for indices, batch in classifier.batches(documents, batch_tokens):
            logits = classifier.run(batch).logits
            if not torch.isfinite(logits).all():
                raise ModelError(
                    "the classifier's logits are not all finite",
                    field="classifier.learning_rate",
                    fix="training diverged: lower it and train again",
                )
            predicted[np.array(indices) + start] = logits.argmax(1).cpu().numpy()
            progress.advance(len(indices))
    return predicted
