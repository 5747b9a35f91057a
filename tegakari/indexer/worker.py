"""Worker: runs the documents of shards through the classifier and the SAEs.

A GPU never waits for the host: a forward pass is queued before the one before it has ended, the sums of a shard stay on
the device, and `finish` reads them on a stream of its own while the next shard's passes run.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import structlog
import torch
from torch import Tensor

from tegakari.indexer.arrivals import Arrivals
from tegakari.indexer.candidate_room import CandidateRoom, capacity_of, memory_of
from tegakari.indexer.layer_tally import Bounds, LayerTally, Union
from tegakari.indexer.partial import DocumentPartial, LayerPartial, in_document_order
from tegakari.indexer.priority import feature_seeds
from tegakari.indexer.shard import IndexedDocument, Shard
from tegakari.kernels.dispatch import tallies_on_gpu
from tegakari.kernels.types import CandidateOverflowError
from tegakari.models.classifier import Classifier, Output
from tegakari.models.finite import check_finite, first_not_finite, not_finite
from tegakari.models.sae import Sae
from tegakari.models.tokens import bucketed
from tegakari.schemas.config import Config, Pooling
from tegakari.schemas.errors import KernelError, ModelError

log = structlog.get_logger()


class ShardResult(NamedTuple):
    """Content of a partial."""

    positions: int
    """countable positions of the shard's documents."""
    layers: dict[int, LayerPartial]
    documents: DocumentPartial


class ShardWork(NamedTuple):
    """A shard whose passes are queued on the device."""

    shard: Shard
    arrivals: Arrivals
    layers: dict[int, LayerTally]
    outputs: list[Output]
    queued: torch.cuda.Event | None
    """after the last pass; None on a CPU, where nothing is queued."""


class LayerBounds(NamedTuple):
    """Bounds of all layers, on the device."""

    by_layer: dict[int, Bounds]
    ready: torch.cuda.Event | None
    """after the work that computes them; None: on the stream of the passes, or on a CPU."""


class Worker:
    """Indexes shards with the loaded models; the merged result does not depend on which worker indexes which shard.

    Bounds narrow from shard to shard: what is weaker than the strongest of all shards of this worker, and drawn after
    the documents that they have drawn, is no candidate; so is what bounds of other workers exclude (`exchange`). They
    save work and leave the merged result unchanged.
    """

    def __init__(
        self,
        classifier: Classifier,
        saes: Mapping[int, Sae],
        *,
        pooling: Pooling,
        top_tokens: int,
        batch_tokens: int,
        contexts: bool = True,
    ) -> None:
        """Keep the models ready.

        Args:
            classifier: the classifier.
            saes: by layer.
            pooling: of the run.
            top_tokens: strongest positions per feature.
            batch_tokens: tokens of a batch.
            contexts: whether partials have entries of contexts and probes.
        """
        self.special_tokens: Mapping[int, str] = classifier.special_tokens
        """text of each special token, by id"""
        self._classifier = classifier
        self._max_norms = {layer: sae.max_norm for layer, sae in saes.items()}
        self._encoders = {layer: sae.to(classifier.device).encoder(classifier.dtype) for layer, sae in saes.items()}
        self._pooling: Pooling = pooling
        self._top_tokens = top_tokens
        self._batch_tokens = batch_tokens
        widths = {layer: encoder.weight.shape[1] for layer, encoder in self._encoders.items()}
        self._seeds = {
            layer: feature_seeds(layer, torch.arange(width, device=classifier.device)) if contexts else None
            for layer, width in widths.items()
        }
        self._unions = {layer: Union.empty(width, top_tokens, classifier.device) for layer, width in widths.items()}
        self._bounds = LayerBounds({layer: union.bounds() for layer, union in self._unions.items()}, None)
        self._foreign: dict[int, Bounds] = {}
        self._capacity_factor = 1
        self._cold = True
        self._model = threading.Lock()
        self._sums = threading.Lock()
        self._on_gpu = tallies_on_gpu(classifier.device)
        self._stream = None
        if classifier.device.type == "cuda":
            self._stream = torch.cuda.Stream(classifier.device)
            # `exchange` may read the unions before the first shard: their zeros are written by the other stream.
            self._stream.wait_stream(torch.cuda.current_stream(classifier.device))

    def index(self, shard: Shard) -> ShardResult:
        """Index one shard; the same as `finish(start(shard))`."""
        return self.finish(self.start(shard))

    def start(self, shard: Shard) -> ShardWork:
        """Queue the passes of a shard, of which a GPU has always one to run, but in a worker's first shard.

        Raises:
            KernelError: on a CPU, a residual is not finite.
        """
        while True:
            try:
                return self._start(shard)
            except CandidateOverflowError:
                self._double_capacity()

    def _double_capacity(self) -> None:
        """Make room for twice as many candidates in the shards to come."""
        self._capacity_factor *= 2
        self._cold = True
        log.info("candidates of a shard did not fit", room=self._capacity_factor)

    def _start(self, shard: Shard) -> ShardWork:
        with self._model, torch.no_grad(), self._on_device():
            cold = self._cold or not self._on_gpu
            self._cold = False
            bounds = self._bounds  # read once: another thread replaces them, with their event
            if bounds.ready is not None:
                torch.cuda.current_stream().wait_event(bounds.ready)
            lengths = [len(document.tokens) for document in shard.documents]
            groups = [sorted(group) for group in bucketed(lengths, self._batch_tokens, self._classifier.device.type)]
            positions = [sum(len(shard.documents[index].tokens.positions) for index in group) for group in groups]
            memory = memory_of(self._classifier.device, len(self._encoders))
            layers = {
                layer: LayerTally(
                    encoder,
                    self._max_norms[layer],
                    len(shard.documents),
                    self._top_tokens,
                    bounds.by_layer[layer],
                    self._seeds[layer],
                    self._capacity_factor
                    * capacity_of(
                        positions,
                        encoder.weight.shape[1],
                        self._top_tokens,
                        contexts=self._seeds[layer] is not None,
                        memory=memory,
                    ),
                )
                for layer, encoder in self._encoders.items()
            }
            arrivals, outputs = Arrivals(), []
            room = CandidateRoom(layers.values(), arrivals, every_batch=cold) if self._on_gpu else None
            for group in groups:
                outputs.append(self._run_batch(shard, group, arrivals, layers))
                if room is not None:
                    room.make()
            if cold:
                if room is not None:  # bounds for the next shard, which starts before this one is finished
                    room.prune()
                self._bounds = LayerBounds({layer: tally.bounds for layer, tally in layers.items()}, None)
            queued = None
            if self._stream is not None:
                queued = torch.cuda.Event()
                queued.record()
            return ShardWork(shard, arrivals, layers, outputs, queued)

    def finish(self, work: ShardWork) -> ShardResult:
        """Wait for the passes of a shard and bring its sums to the CPU; another thread may `start` the next meanwhile.

        Raises:
            KernelError: on a GPU, a residual was not finite.
        """
        try:
            with self._sums:
                return self._finish(work)
        except CandidateOverflowError:
            self._double_capacity()
            return self.index(work.shard)

    def exchange(self, foreign: Mapping[int, Bounds]) -> dict[int, Bounds]:
        """Narrow the bounds of the shards to come, and tell them to other workers.

        Args:
            foreign: by layer, of other workers of the same run, on any device.

        Returns:
            the narrowed bounds of all layers, on the CPU.
        """
        with self._sums, self._on_stream():
            self._foreign = {layer: bounds.to(self._classifier.device) for layer, bounds in foreign.items()}
            narrowed = self._narrow_bounds()  # `start` can replace those of the worker, by some of another stream
            return {layer: bounds.to(torch.device("cpu")) for layer, bounds in narrowed.items()}

    def _on_device(self) -> AbstractContextManager[object]:
        """Streams and events of the block are those of the classifier's GPU, whichever is the first."""
        return torch.cuda.device(self._classifier.device) if self._stream is not None else nullcontext()

    def _on_stream(self) -> AbstractContextManager[object]:
        """Work of the block goes to the stream of `finish`."""
        return torch.cuda.stream(self._stream) if self._stream is not None else nullcontext()

    def _narrow_bounds(self) -> Mapping[int, Bounds]:
        """Set the bounds of the shards to come, on the stream of `finish`, and return them."""
        by_layer = {layer: union.bounds() for layer, union in self._unions.items()}
        for layer, foreign in self._foreign.items():
            by_layer[layer] = by_layer[layer].narrowed(foreign)
        ready = None
        if self._stream is not None:
            for bounds in by_layer.values():
                for bound in bounds:
                    bound.record_stream(torch.cuda.default_stream(self._classifier.device))
            ready = torch.cuda.Event()
            ready.record()
        self._bounds = LayerBounds(by_layer, ready)
        return by_layer

    def _finish(self, work: ShardWork) -> ShardResult:
        shard, arrivals = work.shard, work.arrivals
        device = self._classifier.device
        with torch.no_grad(), self._on_stream():
            if self._stream is not None and work.queued is not None:
                self._stream.wait_event(work.queued)
            order = arrivals.order.to(device)
            self._refuse_faults(work)
            layers: dict[int, LayerPartial] = {}
            unions: dict[int, Union] = {}
            for layer in list(work.layers):
                # `finish` has copied the last of its results when it returns, so that nothing reads the freed memory.
                layers[layer], unions[layer] = work.layers.pop(layer).finish(
                    shard, arrivals, order, self._unions[layer], self._pooling, self._classifier.head
                )
            # Those of all layers or of none: a shard that did not fit is indexed again, and must not count twice.
            self._unions.update(unions)
            self._narrow_bounds()
            documents = self._predictions(work)
        return ShardResult(len(order), layers, documents)

    def _run_batch(self, shard: Shard, group: list[int], arrivals: Arrivals, layers: dict[int, LayerTally]) -> Output:
        documents = [shard.documents[index] for index in group]
        batch = self._classifier.batch([document.tokens for document in documents])
        arrival = arrivals.add(documents, batch.offsets)

        faults: list[tuple[int, Tensor]] = []

        def on_residual(layer: int, residual: Tensor) -> None:
            try:
                layers[layer].add(residual, arrival)
                if not self._on_gpu and layers[layer].has_grown():
                    layers[layer].prune(arrivals)
            except KernelError:
                faults.append((layer, residual))
                raise

        try:
            return self._classifier.run(batch, on_residual, layers=list(layers))
        except KernelError as error:  # after the pass, since the cause is found by another one
            raise self._located(error, *faults[0], documents, arrival.batch.ends) from error

    def _predictions(self, work: ShardWork) -> DocumentPartial:
        logits = torch.cat([output.logits for output in work.outputs]).cpu()
        embeddings = torch.cat([output.embeddings for output in work.outputs]).cpu()
        documents = work.arrivals.documents
        tokens, names = (
            [document.tokens for document in documents],
            [f"document {document.id!r}" for document in documents],
        )
        check_finite(self._classifier, torch.cat([logits, embeddings], 1), tokens, names)
        predicted = logits.argmax(1)
        label_ids = torch.tensor([document.label_id for document in documents])
        return in_document_order(
            [
                DocumentPartial(
                    np.array([document.number for document in documents], np.int32),
                    predicted.numpy().astype(np.int32),
                    logits.gather(1, label_ids[:, None])[:, 0].numpy(),
                    logits.gather(1, predicted[:, None])[:, 0].numpy(),
                    embeddings.numpy(),
                )
            ]
        )

    def _refuse_faults(self, work: ShardWork) -> None:
        """Raise the error of the first layer in which a kernel met NaN or infinity."""
        faults = torch.stack([tally.tally.fault for tally in work.layers.values()]).tolist()
        for layer, fault in zip(work.layers, faults, strict=True):
            if fault:
                raise self._not_finite(layer, work.arrivals.documents[fault - 1])

    def _located(
        self,
        error: KernelError,
        layer: int,
        residual: Tensor,
        documents: Sequence[IndexedDocument],
        ends: Sequence[int],
    ) -> KernelError | ModelError:
        """An error of encode with the layer and the document that it is about, if the residual is at fault."""
        rows = (~residual.isfinite().all(1)).nonzero()[:, 0]
        if not len(rows):
            return KernelError(f"layer {layer}: {error.message}", field=error.field, fix=error.fix)
        return self._not_finite(layer, documents[int(np.searchsorted(ends, int(rows[0]), side="right")) - 1])

    def _not_finite(self, layer: int, document: IndexedDocument) -> KernelError | ModelError:
        """The error of a document: of the classifier, if its residuals are not finite, else of the layer's SAE."""
        if first_not_finite(self._classifier, document.tokens) is not None:
            return not_finite(self._classifier, document.tokens, f"document {document.id!r}")
        return KernelError(
            f"layer {layer}: a pre-activation of document {document.id!r} is NaN or infinite",
            field="saes.path",
            fix="look for large weights in the SAE of this layer, or index in float32",
        )


def make_worker(config: Config, classifier: Classifier, saes: Mapping[int, Sae], *, contexts: bool = True) -> Worker:
    """A worker with the configured settings, on the classifier's device and in its dtype."""
    return Worker(
        classifier,
        saes,
        pooling=config.index.pooling,
        top_tokens=config.index.top_tokens,
        batch_tokens=config.index.batch_tokens,
        contexts=contexts,
    )
