"""What a classifier says of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from tegakari.models.classifier import Classifier
from tegakari.models.tokens import bucketed
from tegakari.schemas.errors import ModelError

_TOKENIZED_TOGETHER = 1024


def predict(
    classifier: Classifier, texts: Sequence[str], *, batch_tokens: int, advance: Callable[[int], None]
) -> np.ndarray:
    """Classify texts.

    Args:
        classifier: from `load_classifier`.
        texts: each with at least one token that is not special.
        batch_tokens: tokens a forward pass, padding included.
        advance: told how many more texts are done.

    Returns:
        int [texts]; class indices.

    Raises:
        ModelError: a logit is not finite.
    """
    predicted = np.empty(len(texts), np.int64)
    for start in range(0, len(texts), _TOKENIZED_TOGETHER):
        documents = classifier.tokenize(texts[start : start + _TOKENIZED_TOGETHER])
        for group in bucketed([len(document.input_ids) for document in documents], batch_tokens):
            logits = classifier.run(classifier.batch([documents[index] for index in group])).logits
            if not torch.isfinite(logits).all():
                raise ModelError(
                    "the classifier's logits are not all finite",
                    field="classifier.learning_rate",
                    fix="training diverged: lower it and train again",
                )
            predicted[np.array(group) + start] = logits.argmax(1).cpu().numpy()
            advance(len(group))
    return predicted
