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
    """`in_windows` by operations of whole tensors, for a GPU.

    One sort of keys, which hold all but the activations, so that these alone are gathered in its order. Keys of 32 bits
    take half the passes of 64, and suffice for 9,216 features and 230,000 positions.
    """
    feature, position, activation = survivors
    if not len(feature):
        return survivors
    positions = len(places.rank)
    dtype = torch.int32 if len(cut) * positions <= 2**31 else torch.int64
    keys = feature.to(dtype) * positions + places.rank.index_select(0, position)
    keys, by_key = torch.sort(keys)
    activation = activation.index_select(0, by_key)
    of_feature = keys // positions
    feature, rank = of_feature.int(), (keys - of_feature * positions).int()
    position_of = torch.empty_like(places.rank)
    position_of[places.rank.long()] = torch.arange(positions, dtype=torch.int32, device=rank.device)
    document = places.row.int().index_select(0, position_of).index_select(0, rank)
    starts = torch.ones_like(feature, dtype=torch.bool)  # of a pair
    starts[1:] = (feature[1:] != feature[:-1]) | (document[1:] != document[:-1])
    pair = starts.cumsum(0, dtype=torch.int32)
    centre = activation >= cut.index_select(0, feature)
    centre[_strongest(pair, drawn, maximum, document, feature, activation)] = True
    kept = _near(centre, pair, places.token.index_select(0, position_of).index_select(0, rank)).nonzero()[:, 0]
    position = position_of.index_select(0, rank.index_select(0, kept))
    return Survivors(feature.index_select(0, kept), position, activation.index_select(0, kept))


def _strongest(
    pair: Tensor, drawn: Tensor, maximum: Tensor, document: Tensor, feature: Tensor, activation: Tensor
) -> Tensor:
    """Entries that are the first of the strongest of their drawn pair, int64; the host waits for a GPU."""
    entries = drawn[document, feature].nonzero()[:, 0]
    document, feature = document.index_select(0, entries), feature.index_select(0, entries)
    largest = _bits(activation.index_select(0, entries)) == _bits(maximum[document, feature])
    entries = entries[largest]
    pair = pair.index_select(0, entries)
    first = torch.ones_like(entries, dtype=torch.bool)
    first[1:] = pair[1:] != pair[:-1]
    return entries[first]


def _near(centre: Tensor, pair: Tensor, token: Tensor) -> Tensor:
    """Whether the last centre up to each entry or the next is of the same pair and at most WINDOW tokens away."""
    centres = centre.nonzero()[:, 0]
    near = torch.zeros_like(centre)
    if not len(centres):
        return near
    pairs, tokens = pair.index_select(0, centres), token.index_select(0, centres)
    up_to = centre.cumsum(0, dtype=torch.int32)  # centres up to each entry
    for place in (up_to - 1).clamp_min(0), up_to.clamp_max(len(centres) - 1):
        near |= (pairs.index_select(0, place) == pair) & ((tokens.index_select(0, place) - token).abs() <= WINDOW)
    return near


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
