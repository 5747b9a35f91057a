"""Live inference: texts through the classifier and the SAEs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tegakari.analyses.encode_query import EncodeQuery, encode_query
from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.run_models import RunModels
from tegakari.kernels import Encoded
from tegakari.models.finite import check_finite
from tegakari.models.head import pooled_by
from tegakari.models.tokens import Batch, Head, Tokenized
from tegakari.schemas.errors import QueryError
from tegakari.schemas.inference import (
    MAX_ACTIVATIONS,
    Active,
    Classification,
    EncodedText,
    EncodedToken,
    EncodeRequest,
    LabelScore,
)
from tegakari.schemas.progress import NoProgress, OnStep, Progress
from tegakari.store import Run


def classify_texts(models: RunModels, texts: Sequence[str], progress: Progress = NoProgress()) -> list[Classification]:
    """Classify texts.

    Args:
        models: of the run.
        texts: title, newline, body; each is cut at the classifier's max_length.
        progress: counts texts.

    Returns:
        label, logits and probabilities of each text, in order.

    Raises:
        QueryError: a text has no token.
        ModelError: a logit is not finite.
    """
    labels = models.classifier.labels
    progress.stage("classifying texts", len(texts))
    on_step = partial(progress.advance, 0)
    tokens = tokenized(models.classifier, texts, on_step)
    logits = torch.empty(len(texts), len(labels))
    for members, batch in batches(models.classifier, tokens, models.batch_tokens):
        batch_logits = models.classifier.run(batch, on_step=on_step).logits.cpu()
        check_finite(models.classifier, batch_logits, [tokens[member] for member in members], _names(members))
        logits[members] = batch_logits
        progress.advance(len(members))
    classifications = []
    for text_tokens, text_logits, probabilities in zip(tokens, logits, logits.softmax(1), strict=True):
        best = int(text_logits.argmax())
        scores = zip(labels, text_logits.tolist(), probabilities.tolist(), strict=True)
        classifications.append(
            Classification(
                predicted=labels[best],
                probability=float(probabilities[best]),
                tokens=len(text_tokens.input_ids),
                truncated=text_tokens.truncated,
                labels=[
                    LabelScore(label=label, logit=logit, probability=probability)
                    for label, logit, probability in scores
                ],
            )
        )
    return classifications


def encode_texts(
    models: RunModels, queries: Sequence[EncodeQuery], progress: Progress = NoProgress()
) -> list[list[EncodedText]]:
    """Active features of texts; the texts of all queries share forward passes.

    Args:
        models: of the run.
        queries: texts and settings.
        progress: counts texts.

    Returns:
        per query its texts, in order.

    Raises:
        QueryError: a text has no token, or the result could exceed MAX_ACTIVATIONS.
        KernelError, ModelError: a residual or a logit is not finite.
    """
    progress.stage("encoding texts", sum(len(query.texts) for query in queries))
    on_step = partial(progress.advance, 0)
    tokens_by_query = [tokenized(models.classifier, query.texts, on_step) for query in queries]
    for query, tokens in zip(queries, tokens_by_query, strict=True):
        _check_size(query, tokens)
    texts = [
        _TextFeatures(query, text, text_tokens, models.classifier.head)
        for query, tokens in zip(queries, tokens_by_query, strict=True)
        for text, text_tokens in zip(query.texts, tokens, strict=True)
    ]
    layers = sorted({layer for query in queries for layer in query.layers})
    by_position = any(query.pooling == "none" for query in queries)
    for members, batch in batches(models.classifier, [text.tokens for text in texts], models.batch_tokens):
        of_batch = [texts[member] for member in members]
        logits = _run_batch(models, layers, by_position, of_batch, batch, on_step)
        check_finite(models.classifier, logits, [text.tokens for text in of_batch], _names(members))
        progress.advance(len(members))
    encoded = iter([text.encoded() for text in texts])
    return [[next(encoded) for _ in query.texts] for query in queries]


def encode_request(
    models: RunModels, run: Run, request: EncodeRequest, progress: Progress = NoProgress()
) -> list[EncodedText]:
    """Active features of the texts of one request, in order.

    Args:
        models: of the run.
        run: published.
        request: texts, and which of their features are returned.
        progress: counts texts.

    Raises:
        NotFoundError, QueryError: as of `encode_query` and `encode_texts`.
        KernelError: a residual is not finite.
    """
    (texts,) = encode_texts(models, [encode_query(run, request)], progress)
    return texts


class _TextFeatures:
    """Prediction and features of one text, collected layer by layer."""

    def __init__(self, query: EncodeQuery, text: str, tokens: Tokenized, head: Head) -> None:
        self.query = query
        self._head: Head = head
        self.text = text
        self.tokens = tokens
        self.predicted = ""
        self._pooled: list[Active] = []
        self._by_position: dict[int, list[Active]] = {position: [] for position in tokens.positions}

    def add_layer(self, layer: int, encoded: Encoded, document: int, start: int) -> None:
        """Add the features of one layer.

        Args:
            layer: of the run.
            encoded: a batch that holds this text.
            document: number of this text in the batch.
            start: number of its first position in the batch.
        """
        if self.query.pooling != "none":
            dense = pooled_by(encoded.pooled, self.query.pooling, self._head)[document].cpu().numpy()
            feature = np.flatnonzero(dense)
            self._pooled += self._strongest(layer, feature, dense[feature])
            return
        assert encoded.rows is not None
        indptr, features, activations = (tensor.cpu().numpy() for tensor in encoded.rows.trimmed())
        for row, position in enumerate(self.tokens.positions, start):
            of_row = slice(indptr[row], indptr[row + 1])
            self._by_position[position] += self._strongest(layer, features[of_row], activations[of_row])

    def _strongest(self, layer: int, feature: np.ndarray, activation: np.ndarray) -> list[Active]:
        if self.query.features is not None:
            requested = np.isin(feature, self.query.features)
            feature, activation = feature[requested], activation[requested]
        order = np.lexsort((feature, -activation))[: self.query.top]
        return [
            Active(layer=layer, feature=int(feature[place]), activation=float(activation[place])) for place in order
        ]

    def encoded(self) -> EncodedText:
        tokens = self.tokens
        return EncodedText(
            predicted=self.predicted,
            truncated=tokens.truncated,
            pooling=self.query.pooling,
            features=self._pooled,
            tokens=[
                EncodedToken(
                    position=position,
                    token_id=token_id,
                    token=self.text[start:end],
                    start=start,
                    end=end,
                    special=special,
                    features=self._by_position.get(position, []),
                )
                for position, (token_id, (start, end), special) in enumerate(
                    zip(tokens.input_ids, tokens.spans, tokens.special, strict=True)
                )
            ],
        )


def _run_batch(
    models: RunModels,
    layers: Sequence[int],
    by_position: bool,
    texts: Sequence[_TextFeatures],
    batch: Batch,
    on_step: OnStep,
) -> Tensor:
    """Add the features and the prediction of each text; returns the logits, [texts, labels]."""
    offsets = batch.offsets.tolist()

    def on_residual(layer: int, residual: Tensor) -> None:
        rows = "all" if by_position else "none"
        encoded = models.encode(layer, residual, batch.offsets, rows=rows)
        for document, text in enumerate(texts):
            on_step()
            if layer in text.query.layers:
                text.add_layer(layer, encoded, document, offsets[document])

    output = models.classifier.run(batch, on_residual, layers=layers, on_step=on_step)
    for text, best in zip(texts, output.logits.argmax(1).tolist(), strict=True):
        text.predicted = models.classifier.labels[best]
    return output.logits


def _names(members: Sequence[int]) -> list[str]:
    return [f"text {member}" for member in members]


def _check_size(query: EncodeQuery, tokens: Sequence[Tokenized]) -> None:
    """Refuse a query whose result could exceed MAX_ACTIVATIONS."""
    rows = len(tokens) if query.pooling != "none" else sum(len(text_tokens.positions) for text_tokens in tokens)
    features = query.top if query.features is None else min(query.top, len(query.features))
    if rows * len(query.layers) * features > MAX_ACTIVATIONS:
        raise QueryError(
            f"the result could hold {rows} x {len(query.layers)} x {features} activations; "
            f"the maximum is {MAX_ACTIVATIONS:,}",
            field="top",
            fix="give fewer texts or layers, a smaller `top`, or a pooling",
        )
