"""One layer of a shard: its tally while batches arrive, and its contribution to the run's tables at the end."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer.arrivals import Arrivals
from tegakari.indexer.candidates import Candidates
from tegakari.indexer.moments import label_moments
from tegakari.indexer.partial import LayerPartial
from tegakari.indexer.shard import Shard
from tegakari.indexer.strongest_survivors import strongest_survivors
from tegakari.kernels import Encoder, Survivors, add_to_tally, finish_tally, new_tally
from tegakari.kernels.types import TallyBatch
from tegakari.models.head import pooled_by
from tegakari.models.outliers import ordinary_positions
from tegakari.models.tokens import Head
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.activations import Activations, rounded


class LayerTally:
    """Sums and candidates of one layer over the batches of a shard; nothing leaves the device before `finish`."""

    def __init__(
        self, encoder: Encoder, max_norm: float | None, documents: int, top_tokens: int, floor: Tensor, capacity: int
    ) -> None:
        """Start without documents.

        Args:
            encoder: of the layer's SAE.
            max_norm: limit of norms of its SAE.
            documents: of the shard.
            top_tokens: positions per feature.
            floor: [d_sae] float32; a lower bound of the `top_tokens`-th strongest activation in the whole corpus. It
                only saves work: the merged result is the same.
            capacity: candidates that a GPU has room for.
        """
        self._encoder = encoder
        self._max_norm = max_norm
        self._top_tokens = top_tokens
        self._kept = 0
        self.floor = floor
        self.tally = new_tally(encoder, documents, capacity)

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self._encoder.weight.shape[1]

    def add(self, residual: Tensor, batch: TallyBatch) -> None:
        """Encode the residuals of a batch and add them; the host does not wait for a GPU."""
        ordinary = ordinary_positions(residual, self._max_norm)
        add_to_tally(self.tally, residual, self._encoder, batch, self.floor, ordinary)

    def prune(self, arrivals: Arrivals, most: int) -> None:
        """Drop candidates that are not among the strongest, if there are more than `most` new ones; raises the floor.

        The host waits for a GPU.
        """
        candidates = self.tally.candidates
        if candidates.size() - self._kept <= max(most, self._kept):
            return
        order = arrivals.order.to(self.floor.device)
        best = strongest_survivors(candidates.survivors(), self._top_tokens, self.d_sae, order)
        candidates.replace(best.survivors)
        self._kept = len(best.rank)
        last = best.rank == self._top_tokens - 1
        floor = torch.zeros_like(self.floor)
        floor[best.survivors.feature[last].long()] = best.survivors.activation[last]
        self.floor = torch.maximum(self.floor, floor)

    def finish(
        self, shard: Shard, arrivals: Arrivals, order: Tensor, union: Tensor, pooling: Pooling, head: Head
    ) -> tuple[LayerPartial, Tensor]:
        """The layer's contribution, on the CPU, and the union with the shard's strongest activations.

        Args:
            shard: whose documents all have been added.
            arrivals: of the shard.
            order: `arrivals.order` on the device.
            union: [d_sae, top_tokens] float32, the strongest activations of each feature in other shards.
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
        best = strongest_survivors(survivors, self._top_tokens, self.d_sae, order)
        union = torch.cat([union, best.table(self.d_sae, self._top_tokens)], dim=1)
        union = union.sort(dim=1, descending=True).values[:, : self._top_tokens].contiguous()
        partial = LayerPartial(
            mean=torch.stack([part.mean for part in moments]).cpu().numpy(),
            m2=torch.stack([part.m2 for part in moments]).cpu().numpy(),
            documents_active=active.cpu().numpy(),
            active=tally.active.cpu().numpy().astype(np.int64),
            total=tally.total.cpu().numpy(),
            candidates=_candidates(best.survivors, union[:, -1], arrivals),
            activations=_activations(pooled_by(tally.pooled, pooling, head), arrivals),
            outliers=len(order) - int(tally.positions.sum()),
        )
        return partial, union


def _candidates(survivors: Survivors, floor: Tensor, arrivals: Arrivals) -> Candidates:
    """Those of the strongest survivors that the union of all shards so far leaves in the running."""
    fits = survivors.activation >= floor[survivors.feature.long()]
    feature, position, activation = (column[fits].cpu().numpy() for column in survivors)
    return Candidates(feature, activation, arrivals.document[position], arrivals.position[position])


def _activations(pooled: Tensor, arrivals: Arrivals) -> Activations:
    """Active pairs of documents in the order of arrival, [D, d_sae], by (feature, document number), rounded."""
    numbers = np.array([document.number for document in arrivals.documents], np.int32)
    by_number = np.argsort(numbers)
    dense = pooled[torch.from_numpy(by_number).to(pooled.device)].T
    feature, place = dense.nonzero(as_tuple=True)
    activation = dense[feature, place].cpu().numpy()
    return Activations(feature.int().cpu().numpy(), numbers[by_number][place.int().cpu().numpy()], rounded(activation))


def capacity_of(batch_positions: int, d_sae: int, top_tokens: int) -> int:
    """Candidates that a GPU keeps room for in a shard: an eighth of a batch's entries, and four times the strongest.

    Args:
        batch_positions: of the largest batch before floors have risen; 0 afterwards.
        d_sae: number of features.
        top_tokens: positions per feature.
    """
    return max(2**16, batch_positions * d_sae // 8, 4 * top_tokens * d_sae)
