"""Tally: pools, counts and strongest activations of one SAE over the batches of a shard, without a wait for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from tegakari.kernels.dispatch import backend, tallies_on_gpu
from tegakari.kernels.ordinary import encode_ordinary
from tegakari.kernels.types import (
    CandidateBuffer,
    CandidateList,
    Drawn,
    Encoder,
    Survivors,
    Tally,
    TallyBatch,
    empty_tally,
)
from tegakari.kernels.validation import check_encoder


def new_tally(encoder: Encoder, documents: int, capacity: int) -> Tally:
    """An empty tally for documents of an SAE, on the SAE's device.

    Args:
        encoder: of the SAE.
        documents: maximum of documents.
        capacity: candidates that a GPU has room for; a CPU has room for all.

    Raises:
        KernelError: a wrong shape, dtype or device of the encoder.
    """
    check_encoder(encoder)
    device, d_sae = encoder.weight.device, encoder.weight.shape[1]
    candidates = CandidateBuffer(capacity, device) if tallies_on_gpu(device) else CandidateList()
    return empty_tally(documents, d_sae, device, candidates)


@torch.inference_mode(False)
@torch.no_grad()
def add_to_tally(
    tally: Tally,
    residual: Tensor,
    encoder: Encoder,
    batch: TallyBatch,
    floor: Tensor,
    ordinary: Tensor | None = None,
    drawn: Drawn | None = None,
) -> None:
    """Encode the residuals of one layer and batch, and add them to the layer's tally.

    Args:
        tally: of the layer.
        residual: [T, d_model], as of `encode`.
        encoder: of the layer.
        batch: the documents of the residual, and their rows in the tally.
        floor: [d_sae] float32. Activations that are > 0 and >= `floor[feature]` become candidates.
        ordinary: bool [T], the positions that count; None: all.
        drawn: pairs of a document and a feature. With it, the activations in windows of the centres of all pairs become
            candidates. A CPU, where the caller can select at once, brings all activations of the pairs that have a
            centre.

    Raises:
        KernelError: NaN or infinity. On a GPU `tally.fault` is set instead, so that no layer waits.
    """
    if tallies_on_gpu(residual.device):
        from tegakari.kernels.gpu.encode import gpu_tally

        gpu_tally(residual, encoder, batch, floor, ordinary, tally, drawn)
        return
    # With drawn pairs, a document's maxima decide, which are known when all its positions have been encoded.
    least = floor if drawn is None else torch.zeros_like(floor)
    encoded = encode_ordinary(residual, encoder, batch.offsets, ordinary, rows="none", floor=least, ordered=False)
    assert isinstance(tally.candidates, CandidateList)
    assert encoded.survivors is not None
    rows = slice(batch.document, batch.document + len(batch.ends) - 1)
    for table, values in zip(tally.pooled, encoded.pooled, strict=True):
        table[rows] = values
    ends = batch.offsets if ordinary is None else torch.nn.functional.pad(ordinary.cumsum(0), (1, 0))[batch.offsets]
    tally.positions[rows] = ends.diff().int()
    tally.active.add_(encoded.columns.count)
    tally.total.add_(encoded.columns.total)
    feature, position, activation = encoded.survivors.trimmed()
    if drawn is not None:
        feature, position, activation = of_pairs(
            Survivors(feature, position, activation), drawn.pairs | (encoded.pooled.max >= floor), batch.owner
        )
    tally.candidates.append(
        encoded.survivors._replace(feature=feature, position=position + batch.position, activation=activation)
    )


def of_pairs(survivors: Survivors, pairs: Tensor, owner: Tensor) -> Survivors:
    """The survivors of some pairs of a document and a feature; the host waits for a GPU.

    Args:
        survivors: in any order.
        pairs: bool [D, d_sae]
        owner: int64 [T], document of each position.
    """
    if backend(pairs.device) == "numba":
        from tegakari.kernels.cpu.loops import select_pairs

        arrays = (tensor.numpy() for tensor in (*survivors, owner, pairs))
        return Survivors(*map(torch.from_numpy, select_pairs(*arrays)))
    entries = pairs[owner.index_select(0, survivors.position), survivors.feature].nonzero()[:, 0]
    return Survivors(*(column.index_select(0, entries) for column in survivors))


def finish_tally(tally: Tally) -> Tally:
    """The tally after its last batch, with all tables in their final form."""
    if tallies_on_gpu(tally.active.device):
        from tegakari.kernels.gpu.encode import gpu_finish

        return gpu_finish(tally)
    return tally
