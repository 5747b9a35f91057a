"""One layer of a shard: its tally while batches arrive, and its contribution to the run's tables at the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer.arrivals import Arrival, Arrivals
from tegakari.indexer.candidates import Candidates
from tegakari.indexer.context_entries import context_entries, drawn_first, in_windows
from tegakari.indexer.drawn_pairs import drawn_pairs
from tegakari.indexer.moments import label_moments
from tegakari.indexer.partial import LayerPartial
from tegakari.indexer.priority import NEVER, pair_priorities
from tegakari.indexer.shard import Shard
from tegakari.indexer.strongest_survivors import strongest_survivors
from tegakari.kernels import Encoder, Survivors, add_to_tally, finish_tally, new_tally
from tegakari.kernels.types import CandidateList, Drawn
from tegakari.models.head import pooled_by
from tegakari.models.outliers import ordinary_positions
from tegakari.models.tokens import Head
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.activations import DROPPED_BITS, Activations, rounded
from tegakari.store.contexts import POOL_DOCUMENTS, WINDOW

MANY = 2**16
"""New candidates of a layer on a CPU that are worth a selection."""


class Bounds(NamedTuple):
    """What can still be among the strongest positions and the drawn documents of the corpus.

    Bounds only save work: the merged result is the same.
    """

    floor: Tensor
    """[d_sae] float32: at most the `top_tokens`-th strongest activation in the corpus."""
    drawn: Tensor
    """[d_sae] int64: at least the POOL_DOCUMENTS-th smallest priority of the documents in which a feature is active."""

    def narrowed(self, other: Bounds) -> Bounds:
        """What both of two bounds leave, on one device."""
        return Bounds(torch.maximum(self.floor, other.floor), torch.minimum(self.drawn, other.drawn))

    def to(self, device: torch.device) -> Bounds:
        """The bounds on a device."""
        return Bounds(self.floor.to(device), self.drawn.to(device))


class Union(NamedTuple):
    """The strongest activations and the smallest priorities of each feature in the shards so far."""

    strongest: Tensor
    """[d_sae, top_tokens] float32, descending; 0 beyond the last."""
    drawn: Tensor
    """[d_sae, POOL_DOCUMENTS] int64, ascending; NEVER beyond the last."""

    @classmethod
    def empty(cls, d_sae: int, top_tokens: int, device: torch.device) -> Union:
        """The union of no shard."""
        drawn = torch.full((d_sae, POOL_DOCUMENTS), NEVER, device=device)
        return cls(torch.zeros(d_sae, top_tokens, device=device), drawn)

    def with_strongest(self, table: Tensor) -> Union:
        """The union with the strongest activations of another shard, [d_sae, top_tokens], 0 beyond the last."""
        together = torch.cat([self.strongest, table], dim=1).sort(dim=1, descending=True).values
        return self._replace(strongest=together[:, : table.shape[1]].contiguous())

    def bounds(self) -> Bounds:
        """Bounds of the next shard."""
        return Bounds(self.strongest[:, -1].contiguous(), self.drawn[:, -1].contiguous())


class LayerTally:
    """Sums and candidates of one layer over the batches of a shard; nothing leaves the device before `finish`."""

    def __init__(
        self,
        encoder: Encoder,
        max_norm: float | None,
        documents: int,
        top_tokens: int,
        bounds: Bounds,
        seeds: Tensor | None,
        capacity: int,
    ) -> None:
        """Start without documents.

        Args:
            encoder: of the layer's SAE.
            max_norm: limit of norms of its SAE.
            documents: of the shard.
            top_tokens: positions per feature.
            bounds: from earlier shards.
            seeds: int64 [d_sae], from `feature_seeds`; None: without contexts.
            capacity: candidates that a GPU has room for.
        """
        self._encoder = encoder
        self._max_norm = max_norm
        self._top_tokens = top_tokens
        self._seeds = seeds
        self.kept = 0
        """candidates that the last `prune` left"""
        self.bounds = bounds
        self.tally = new_tally(encoder, documents, capacity)

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self._encoder.weight.shape[1]

    def add(self, residual: Tensor, arrival: Arrival) -> None:
        """Encode the residuals of a batch, [T, d_model], and add them; the host does not wait for a GPU."""
        ordinary = ordinary_positions(residual, self._max_norm)
        batch, floor = arrival.batch, self.bounds.floor
        drawn = None
        if self._seeds is not None:
            drawn = Drawn(drawn_pairs(self._seeds, arrival.numbers, self.bounds.drawn), WINDOW, DROPPED_BITS)
        add_to_tally(self.tally, residual, self._encoder, batch, floor, ordinary, drawn)
        candidates = self.tally.candidates
        if drawn is None or not isinstance(candidates, CandidateList) or floor.is_cuda or not floor.any():
            return  # without a floor, all are centres of windows
        # At once, so that memory holds no more than windows: a GPU would wait.
        feature, position, activation = candidates.take_last()
        maximum = self.tally.pooled.max[batch.document : batch.document + len(drawn.pairs)]
        last = Survivors(feature, position - batch.position, activation)
        feature, position, activation = in_windows(last, drawn.pairs & (maximum > 0), maximum, floor, arrival.places())
        candidates.append(Survivors(feature, position + batch.position, activation))

    def _priorities(self, seeds: Tensor, numbers: Tensor) -> Tensor:
        """Priorities of the pairs of these documents, int64 [D, d_sae]."""
        return pair_priorities(seeds, numbers[:, None])

    def has_grown(self) -> bool:
        """Whether the last `prune` left fewer candidates than are new; the host waits for a GPU."""
        return self.tally.candidates.size() - self.kept > max(MANY, self.kept)

    def prune(self, arrivals: Arrivals) -> None:
        """Drop candidates that are in no window of the strongest positions and drawn documents; narrow the bounds.

        The host waits for a GPU.

        Raises:
            CandidateOverflowError: as of `finish`.
        """
        candidates = self.tally.candidates
        places = arrivals.places(self.bounds.floor.device)
        survivors = candidates.survivors()
        best = strongest_survivors(_at_least(survivors, self.bounds.floor), self._top_tokens, self.d_sae, places.rank)
        last = best.rank == self._top_tokens - 1
        floor = torch.zeros_like(self.bounds.floor)
        floor[best.survivors.feature[last].long()] = best.survivors.activation[last]
        bounds = Bounds(torch.maximum(self.bounds.floor, floor), self.bounds.drawn)
        kept = best.survivors
        if self._seeds is not None:
            maximum = self.tally.pooled.max[: len(arrivals.documents)]
            priorities = self._priorities(self._seeds, _numbers(arrivals, maximum.device))
            first = drawn_first(Union.empty(self.d_sae, 1, maximum.device).drawn, priorities, maximum > 0)
            bounds = bounds._replace(drawn=torch.minimum(bounds.drawn, first[:, -1]))
            drawn = (priorities <= bounds.drawn) & (maximum > 0)
            kept = in_windows(survivors, drawn, maximum, bounds.floor, places)
        self.bounds = bounds
        candidates.replace(kept)
        self.kept = len(kept.feature)

    def finish(
        self, shard: Shard, arrivals: Arrivals, order: Tensor, union: Union, pooling: Pooling, head: Head
    ) -> tuple[LayerPartial, Union]:
        """The layer's contribution, on the CPU, and the union with the shard's strongest activations and priorities.

        Args:
            shard: whose documents all have been added.
            arrivals: of the shard.
            order: `arrivals.order` on the device.
            union: of other shards.
            pooling: of the run.
            head: positions that the classification head reads.

        Raises:
            CandidateOverflowError: there were more candidates than the buffer has room for.
        """
        survivors = self.tally.candidates.survivors()
        tally = finish_tally(self.tally)
        row = {document.number: row for row, document in enumerate(arrivals.documents)}
        by_label = torch.tensor([row[document.number] for document in shard.documents], device=order.device)
        pooled = torch.stack([pooled_by(tally.pooled, kind, head) for kind in POOLINGS], dim=1)[by_label]
        moments = label_moments(pooled, shard.labels.values())
        active = torch.stack(
            [(part > 0).sum(0, dtype=torch.int32) for part in pooled.split(list(shard.labels.values()))]
        )
        best = strongest_survivors(_at_least(survivors, self.bounds.floor), self._top_tokens, self.d_sae, order)
        union = union.with_strongest(best.table(self.d_sae, self._top_tokens))
        # Those of the shard's strongest that the union of all shards so far leaves in the running.
        candidates = _at_least(best.survivors, union.strongest[:, -1])
        partial = LayerPartial(
            mean=torch.stack([part.mean for part in moments]).cpu().numpy(),
            m2=torch.stack([part.m2 for part in moments]).cpu().numpy(),
            documents_active=active.cpu().numpy(),
            active=tally.active.cpu().numpy().astype(np.int64),
            total=tally.total.cpu().numpy(),
            candidates=_candidates(candidates, arrivals),
            activations=_activations(pooled_by(tally.pooled, pooling, head), arrivals),
            outliers=len(order) - int(tally.positions.sum()),
        )
        if self._seeds is None:
            return partial, union
        return self._with_contexts(partial, union, self._seeds, tally.pooled.max, survivors, shard, arrivals)

    def _with_contexts(
        self,
        partial: LayerPartial,
        union: Union,
        seeds: Tensor,
        maximum: Tensor,
        survivors: Survivors,
        shard: Shard,
        arrivals: Arrivals,
    ) -> tuple[LayerPartial, Union]:
        """The contribution with entries of contexts and with probes, and the union with the shard's priorities."""
        priorities = self._priorities(seeds, _numbers(arrivals, maximum.device))
        union = union._replace(drawn=drawn_first(union.drawn, priorities, maximum > 0))
        # Of what is beyond the shard's bounds, which can be narrower than the union, not all is among the survivors.
        bounds = union.bounds().narrowed(self.bounds)
        drawn = (priorities <= bounds.drawn) & (maximum > 0)
        places = arrivals.places(maximum.device)
        contexts = context_entries(in_windows(survivors, drawn, maximum, bounds.floor, places), arrivals)
        row = {document.number: row for row, document in enumerate(arrivals.documents)}
        probes = torch.tensor([row[number] for number in shard.probes], dtype=torch.int64, device=maximum.device)
        active = (maximum[probes] > 0).cpu().numpy()
        return partial._replace(contexts=contexts, probes=active), union


def _numbers(arrivals: Arrivals, device: torch.device) -> Tensor:
    """Numbers of the documents that have arrived, int64 [D]."""
    return torch.tensor([document.number for document in arrivals.documents], device=device)


def _at_least(survivors: Survivors, floor: Tensor) -> Survivors:
    """Survivors at or above the floor of their feature."""
    reaches = (survivors.activation >= floor.index_select(0, survivors.feature)).nonzero()[:, 0]
    return Survivors(*(column.index_select(0, reaches) for column in survivors))


def _candidates(survivors: Survivors, arrivals: Arrivals) -> Candidates:
    feature, position, activation = (column.cpu().numpy() for column in survivors)
    return Candidates(feature, activation, arrivals.document[position], arrivals.position[position])


def _activations(pooled: Tensor, arrivals: Arrivals) -> Activations:
    """Active pairs of documents in the order of arrival, [D, d_sae], by (feature, document number), rounded."""
    numbers = np.array([document.number for document in arrivals.documents], np.int32)
    by_number = np.argsort(numbers)
    dense = pooled[torch.from_numpy(by_number).to(pooled.device)].T
    feature, place = dense.nonzero(as_tuple=True)
    activation = dense[feature, place].cpu().numpy()
    return Activations(feature.int().cpu().numpy(), numbers[by_number][place.int().cpu().numpy()], rounded(activation))
