"""Texts of the moment through the classifier and the SAEs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.run_models import RunModels
from tegakari.kernels import Encoded, encode
from tegakari.models.tokens import Batch, Tokenized
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import QueryError
from tegakari.schemas.inference import MAX_ACTIVATIONS, Active, Classification, EncodedText, EncodedToken, LabelScore
from tegakari.schemas.progress import NoProgress, Progress


class EncodeQuestion(NamedTuple):
    """Texts, and what is wanted of their features."""

    texts: Sequence[str]
    layers: tuple[int, ...]
    """ascending"""
    features: tuple[int, ...] | None
    """only these; None: all"""
    pooling: Pooling | Literal["none"]
    """over the positions of each text; none: position by position"""
    top: int
    """strongest features of a layer that are given"""


def classify_texts(models: RunModels, texts: Sequence[str], progress: Progress = NoProgress()) -> list[Classification]:
    """What the classifier says of each text.

    Args:
        models: of the run.
        texts: title, newline, body; each cut at its end to the classifier's max_length.
        progress: counts texts.

    Raises:
        QueryError: a text without a token.
    """
    tokens = tokenized(models.classifier, texts)
    logits = torch.empty(len(texts), len(models.classifier.labels))
    progress.stage("classifying texts", len(texts))
    for members, batch in batches(models.classifier, tokens):
        logits[members] = models.classifier.run(batch).logits.cpu()
        progress.advance(len(members))
    probabilities = logits.softmax(1)
    found = []
    for item, row, shares in zip(tokens, logits, probabilities, strict=True):
        best = int(row.argmax())
        found.append(
            Classification(
                predicted=models.classifier.labels[best],
                probability=float(shares[best]),
                tokens=len(item.input_ids),
                truncated=item.truncated,
                labels=[
                    LabelScore(label=label, logit=logit, probability=share)
                    for label, logit, share in zip(models.classifier.labels, row.tolist(), shares.tolist(), strict=True)
                ],
            )
        )
    return found


def encode_texts(
    models: RunModels, questions: Sequence[EncodeQuestion], progress: Progress = NoProgress()
) -> list[list[EncodedText]]:
    """Active features of texts, several questions in the same forward passes.

    Args:
        models: of the run.
        questions: each with layers that the run has.
        progress: counts texts.

    Returns:
        for each question, its texts in order.

    Raises:
        QueryError: a text without a token, or an answer that would be too long.
        KernelError: a residual was not finite.
    """
    parts = [tokenized(models.classifier, question.texts) for question in questions]
    for question, tokens in zip(questions, parts, strict=True):
        _check_length(models, question, tokens)
    found = [_Found(question, item) for question, tokens in zip(questions, parts, strict=True) for item in tokens]
    layers = sorted({layer for question in questions for layer in question.layers})
    by_position = any(question.pooling == "none" for question in questions)
    progress.stage("encoding texts", len(found))
    for members, batch in batches(models.classifier, [item.tokens for item in found]):
        _run_batch(models, layers, by_position, [found[member] for member in members], batch)
        progress.advance(len(members))
    answers = iter([item.answer(text) for item, text in zip(found, _texts(questions), strict=True)])
    return [[next(answers) for _ in question.texts] for question in questions]


class _Found:
    """What is gathered for one text."""

    def __init__(self, question: EncodeQuestion, tokens: Tokenized) -> None:
        self.question = question
        self.tokens = tokens
        self.predicted = ""
        self.pooled: list[Active] = []
        self.at: dict[int, list[Active]] = {position: [] for position in tokens.positions}

    def add(self, layer: int, encoded: Encoded, row: int, start: int) -> None:
        """Take this text's part of an encoded batch: its document number there, and its first position."""
        if self.question.pooling != "none":
            dense = getattr(encoded.pooled, self.question.pooling)[row].cpu().numpy()
            feature = np.flatnonzero(dense)
            self.pooled += self._strongest(layer, feature, dense[feature])
            return
        assert encoded.rows is not None
        indptr, features, activations = (tensor.cpu().numpy() for tensor in encoded.rows.trimmed())
        for index, position in enumerate(self.tokens.positions, start):
            mine = slice(indptr[index], indptr[index + 1])
            self.at[position] += self._strongest(layer, features[mine], activations[mine])

    def _strongest(self, layer: int, feature: np.ndarray, activation: np.ndarray) -> list[Active]:
        if self.question.features is not None:
            kept = np.isin(feature, self.question.features)
            feature, activation = feature[kept], activation[kept]
        order = np.lexsort((feature, -activation))[: self.question.top]
        return [
            Active(layer=layer, feature=int(feature[place]), activation=float(activation[place])) for place in order
        ]

    def answer(self, text: str) -> EncodedText:
        tokens = self.tokens
        return EncodedText(
            predicted=self.predicted,
            truncated=tokens.truncated,
            pooling=self.question.pooling,
            features=self.pooled,
            tokens=[
                EncodedToken(
                    position=position,
                    token_id=token_id,
                    token=text[start:end],
                    special=special,
                    features=self.at.get(position, []),
                )
                for position, (token_id, (start, end), special) in enumerate(
                    zip(tokens.input_ids, tokens.spans, tokens.special, strict=True)
                )
            ],
        )


def _run_batch(
    models: RunModels, layers: Sequence[int], by_position: bool, members: Sequence[_Found], batch: Batch
) -> None:
    offsets = batch.offsets.tolist()

    def on_residual(layer: int, residual: Tensor) -> None:
        rows = "all" if by_position else "none"
        encoded = encode(residual, models.encoder(layer), batch.offsets, rows=rows)
        encoded.check()
        for row, member in enumerate(members):
            if layer in member.question.layers:
                member.add(layer, encoded, row, offsets[row])

    output = models.classifier.run(batch, on_residual, layers=layers)
    for member, best in zip(members, output.logits.argmax(1).tolist(), strict=True):
        member.predicted = models.classifier.labels[best]


def _check_length(models: RunModels, question: EncodeQuestion, tokens: Sequence[Tokenized]) -> None:
    places = len(tokens) if question.pooling != "none" else sum(len(item.positions) for item in tokens)
    shown = question.top if question.features is None else min(question.top, len(question.features))
    if places * len(question.layers) * shown > MAX_ACTIVATIONS:
        raise QueryError(
            f"the answer could hold {places} x {len(question.layers)} x {shown} activations; "
            f"{MAX_ACTIVATIONS:,} is the most",
            field="top",
            fix="ask for fewer texts or layers, a smaller `top`, or a pooling",
        )


def _texts(questions: Sequence[EncodeQuestion]) -> list[str]:
    return [text for question in questions for text in question.texts]
