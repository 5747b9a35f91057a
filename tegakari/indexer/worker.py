"""Worker: runs the documents of a shard through the classifier and the SAEs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer.moments import Moments, label_moments, merge, zero_moments
from tegakari.indexer.partial import DocumentPartial, LayerPartial, in_document_order
from tegakari.indexer.shard import IndexedDocument, Shard, documents_per_label
from tegakari.indexer.top_tokens import TopTokens
from tegakari.kernels import Encoded, Encoder
from tegakari.models.classifier import Classifier
from tegakari.models.head import pooled_by
from tegakari.models.outliers import encode_ordinary, ordinary_positions
from tegakari.models.sae import Sae
from tegakari.models.tokens import Head, bucketed
from tegakari.schemas.config import POOLINGS, Config, Pooling
from tegakari.store.blocks.activations import Activations, ordered


class ShardResult(NamedTuple):
    """Content of a partial."""

    positions: int
    """countable positions of the shard's documents."""
    layers: dict[int, LayerPartial]
    documents: DocumentPartial


class Worker:
    """Indexes shards with the loaded models; its result for a shard depends on the shard alone.

    The floors of `TopTokens` rise from shard to shard. They save work and leave the merged result unchanged.
    """

    def __init__(
        self,
        classifier: Classifier,
        saes: Mapping[int, Sae],
        *,
        pooling: Pooling,
        top_tokens: int,
        batch_tokens: int,
    ) -> None:
        self._classifier = classifier
        self._saes = {layer: sae.to(classifier.device) for layer, sae in saes.items()}
        self._encoders = {layer: sae.encoder(classifier.dtype) for layer, sae in self._saes.items()}
        self._pooling: Pooling = pooling
        self._top_tokens = top_tokens
        self._batch_tokens = batch_tokens
        self._floors: dict[int, np.ndarray] = {}

    def index(self, shard: Shard) -> ShardResult:
        """Index one shard.

        Raises:
            KernelError: a residual is not finite.
        """
        layers = {
            layer: _LayerWork(
                encoder,
                self._saes[layer].max_norm,
                self._classifier.head,
                self._pooling,
                self._top_tokens,
                list(shard.labels),
                self._floors.get(layer),
            )
            for layer, encoder in self._encoders.items()
        }
        predictions: list[DocumentPartial] = []
        lengths = [len(document.tokens) for document in shard.documents]
        for group in bucketed(lengths, self._batch_tokens):
            predictions.append(self._run_batch([shard.documents[index] for index in sorted(group)], layers))
        self._floors = {layer: work.top.floor for layer, work in layers.items()}
        return ShardResult(
            sum(len(document.tokens.positions) for document in shard.documents),
            {layer: work.result() for layer, work in layers.items()},
            in_document_order(predictions),
        )

    def _run_batch(self, documents: Sequence[IndexedDocument], layers: dict[int, _LayerWork]) -> DocumentPartial:
        batch = self._classifier.batch([document.tokens for document in documents])
        labels = documents_per_label(documents)
        encoded: dict[int, Encoded] = {}

        def on_residual(layer: int, residual: Tensor) -> None:
            encoded[layer] = layers[layer].encode(residual, batch.offsets, labels)

        output = self._classifier.run(batch, on_residual, layers=list(layers))
        numbers = np.array([document.number for document in documents], np.int32)
        row_document = np.repeat(numbers, [len(document.tokens.positions) for document in documents])
        row_position = np.array([p for document in documents for p in document.tokens.positions], np.int32)
        for layer, work in layers.items():
            work.add(encoded.pop(layer), numbers, row_document, row_position)
        logits = output.logits.cpu()
        predicted = logits.argmax(1)
        label_ids = torch.tensor([document.label_id for document in documents])
        return DocumentPartial(
            numbers,
            predicted.numpy().astype(np.int32),
            logits.gather(1, label_ids[:, None])[:, 0].numpy(),
            logits.gather(1, predicted[:, None])[:, 0].numpy(),
            output.embeddings.cpu().numpy(),
        )


def make_worker(config: Config, classifier: Classifier, saes: Mapping[int, Sae]) -> Worker:
    """A worker with the configured settings, on the classifier's device and in its dtype."""
    return Worker(
        classifier,
        saes,
        pooling=config.index.pooling,
        top_tokens=config.index.top_tokens,
        batch_tokens=config.index.batch_tokens,
    )


class _LayerWork:
    """Sums, activations and top tokens of one layer over the batches of a shard."""

    def __init__(
        self,
        encoder: Encoder,
        max_norm: float | None,
        head: Head,
        pooling: Pooling,
        top_tokens: int,
        labels: Sequence[int],
        floor: np.ndarray | None,
    ) -> None:
        d_sae = encoder.weight.shape[1]
        device = encoder.weight.device
        self._encoder = encoder
        self._max_norm = max_norm
        self._head: Head = head
        self._pooling: Pooling = pooling
        shape = (len(POOLINGS), d_sae)
        self._moments: dict[int, Moments[Tensor]] = {label_id: zero_moments(shape, device) for label_id in labels}
        self._documents_active = {label_id: torch.zeros(shape, dtype=torch.int32, device=device) for label_id in labels}
        self._count = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self._total = torch.zeros(d_sae, dtype=torch.float64, device=device)
        self._outliers = torch.zeros((), dtype=torch.int64, device=device)
        self._activations: list[Activations] = []
        self.top = TopTokens(d_sae, top_tokens, floor)

    def encode(self, residual: Tensor, offsets: Tensor, labels: Mapping[int, int]) -> Encoded:
        """Encode one batch and add its sums; synchronises with a GPU only in layers that have a limit of norms.

        Args:
            residual: [T, d_model], of documents ordered by label.
            offsets: as of `encode_ordinary`.
            labels: number of documents of each label of the batch.
        """
        floor = torch.from_numpy(self.top.floor).to(residual.device, non_blocking=True)
        rows = "last" if self._pooling == "head" and self._head != "all" else "none"
        ordinary = ordinary_positions(residual, self._max_norm)
        encoded = encode_ordinary(residual, self._encoder, offsets, ordinary, rows=rows, floor=floor)
        if ordinary is not None:
            self._outliers += len(ordinary) - ordinary.sum()
        pooled = torch.stack([pooled_by(encoded.pooled, pooling, self._head) for pooling in POOLINGS], dim=1)
        for label_id, moments in zip(labels, label_moments(pooled, labels.values()), strict=True):
            self._moments[label_id] = merge(self._moments[label_id], moments)
        for label_id, part in zip(labels, pooled.split(list(labels.values())), strict=True):
            self._documents_active[label_id] += (part > 0).sum(0, dtype=torch.int32)
        self._count += encoded.columns.count
        self._total += encoded.columns.total
        return encoded

    def add(self, encoded: Encoded, numbers: np.ndarray, row_document: np.ndarray, row_position: np.ndarray) -> None:
        """Copy the activations and top tokens of one batch to the CPU and add them.

        Args:
            encoded: from `encode`.
            numbers: int32 [D], document numbers of the batch.
            row_document: int32 [T], document number of each row of the residual.
            row_position: int32 [T], token index of each row in its document.
        """
        self._activations.append(self._active_pairs(encoded, numbers))
        if encoded.survivors is not None:
            self.top.add(encoded.survivors.trimmed(), row_document, row_position)

    def _active_pairs(self, encoded: Encoded, numbers: np.ndarray) -> Activations:
        if encoded.rows is not None:
            rows = encoded.rows.trimmed()
            document = np.repeat(numbers, rows.indptr.diff().cpu().numpy())
            feature, activation = rows.feature.cpu().numpy(), rows.activation.cpu().numpy()
        else:
            dense = pooled_by(encoded.pooled, self._pooling, self._head).cpu().numpy()
            place, feature = np.nonzero(dense)
            document, activation = numbers[place], dense[place, feature]
        return Activations(feature.astype(np.int32), document, activation)

    def result(self) -> LayerPartial:
        return LayerPartial(
            torch.stack([moments.mean for moments in self._moments.values()]).cpu().numpy(),
            torch.stack([moments.m2 for moments in self._moments.values()]).cpu().numpy(),
            torch.stack(list(self._documents_active.values())).cpu().numpy(),
            self._count.cpu().numpy(),
            self._total.cpu().numpy(),
            self.top.result(),
            ordered(self._activations),
            int(self._outliers),
        )
