"""Which activations of a shard its partial needs for contexts: selected on the device that holds them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tegakari.indexer import window_loops
from tegakari.indexer.arrivals import Arrivals, Places
from tegakari.indexer.candidates import ContextEntries
from tegakari.indexer.priority import NEVER
from tegakari.kernels import Survivors
from tegakari.kernels.tally import of_pairs
from tegakari.store.blocks.activations import rounded_bits
from tegakari.store.contexts import WINDOW


def drawn_first(drawn: Tensor, priorities: Tensor, active: Tensor) -> Tensor:
    """The smallest priorities of each feature, of those drawn before and of a shard's active pairs.

    Args:
        drawn: int64 [d_sae, n], ascending; NEVER beyond the last.
        priorities: int64 [D, d_sae]
        active: bool [D, d_sae]
    """
    together = torch.cat([drawn, torch.where(active, priorities, NEVER).T], dim=1)
    return together.topk(drawn.shape[1], dim=1, largest=False, sorted=True).values


def in_windows(survivors: Survivors, drawn: Tensor, maximum: Tensor, cut: Tensor, places: Places) -> Survivors:
    """The survivors near a centre of their pair of feature and document; those of a feature in an order of documents.

    Centres are the survivors at or above the cut of their feature and the strongest position of each drawn pair: as
    stored, so that of positions that are equal but for rounding the first is the strongest.

    Args:
        survivors: in any order, with the windows of all centres.
        drawn: bool [D, d_sae], active pairs.
        maximum: float32 [D, d_sae], largest activation of each pair.
        cut: float32 [d_sae]
        places: of the positions that `survivors.position` counts.
    """
    pairs = drawn | ((maximum >= cut) & (maximum > 0))
    if drawn.device.type != "cpu":
        return _in_windows(of_pairs(survivors, pairs, places.row), drawn, maximum, cut, places)
    entries = tuple(column.numpy() for column in survivors)
    feature, position, _ = entries
    if not window_loops.ascends(feature, position, len(cut)):
        by_position = np.argsort(position, kind="stable")
        entries = tuple(column[by_position] for column in entries)
    row, token = places.row.numpy(), places.token.numpy()
    at, values, starts = window_loops.by_feature(entries, row, pairs.numpy())
    bits = rounded_bits(values.view(np.int32))
    feature = window_loops.in_windows(at, values, bits, starts, row, token, drawn.numpy(), cut.numpy(), WINDOW)
    # Copies, so that the memory of what was not selected is free.
    return Survivors(*(torch.from_numpy(column[: len(feature)].copy()) for column in (feature, at, values)))


def _bits(activation: Tensor) -> Tensor:
    return rounded_bits(activation.view(torch.int32))


def _in_windows(survivors: Survivors, drawn: Tensor, maximum: Tensor, cut: Tensor, places: Places) -> Survivors:
    """`in_windows` by operations of whole tensors, for a GPU."""
    feature, position, activation = survivors
    _, by_key = torch.sort(feature.long() << 32 | places.rank[position].long())
    feature, position, activation = feature[by_key], position[by_key], activation[by_key]
    if not len(feature):
        return survivors
    document, token = places.row[position], places.token[position]
    starts = torch.ones_like(feature, dtype=torch.bool)  # of a pair
    starts[1:] = (feature[1:] != feature[:-1]) | (document[1:] != document[:-1])
    strongest = drawn[document, feature] & (_bits(activation) == _bits(maximum[document, feature]))
    before = strongest.cumsum(0) - strongest.long()
    in_pair = before - torch.where(starts, before, 0).cummax(0).values
    centre = (activation >= cut[feature]) | (strongest & (in_pair == 0))
    near = _near(centre, starts.cumsum(0), token)
    near |= _near(centre.flip(0), starts.cumsum(0).flip(0), token.flip(0)).flip(0)
    kept = near.nonzero()[:, 0]
    return Survivors(feature[kept], position[kept], activation[kept])


def _near(centre: Tensor, pair: Tensor, token: Tensor) -> Tensor:
    """Whether the last centre up to each entry is of the same pair and at most WINDOW tokens away, bool [n]."""
    places = torch.arange(len(centre), device=centre.device)
    last = torch.where(centre, places, -1).cummax(0).values
    at = last.clamp_min(0)
    return (last >= 0) & (pair[at] == pair) & ((token[at] - token).abs() <= WINDOW)


def context_entries(survivors: Survivors, arrivals: Arrivals) -> ContextEntries:
    """Survivors with the numbers of documents and tokens, by (feature, document, position)."""
    columns = [column.cpu().numpy() for column in survivors]
    if survivors.feature.device.type == "cpu":
        feature, position, _ = columns
        ranks = arrivals.order.numpy()
        features = int(feature.max(initial=-1)) + 1
        order = window_loops.order_by_rank(feature, ranks[position], features, len(ranks))
        columns = [column[order] for column in columns]
    feature, position, activation = columns
    return ContextEntries(feature, arrivals.document[position], arrivals.position[position], activation)
