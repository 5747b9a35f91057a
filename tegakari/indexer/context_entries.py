"""Which activations of a shard its partial needs for contexts: selected on the device that holds them."""

from __future__ import annotations

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
    """The survivors near a centre of their pair of feature and document, by (feature, document, position).

    Centres are the survivors at or above the cut of their feature and the strongest position of each drawn pair: as
    stored, so that of positions that are equal but for rounding the first is the strongest.

    Args:
        survivors: in any order, with the windows of all centres.
        drawn: bool [D, d_sae], active pairs.
        maximum: float32 [D, d_sae], largest activation of each pair.
        cut: float32 [d_sae]
        places: of the positions that `survivors.position` counts.
    """
    candidates = of_pairs(survivors, drawn | ((maximum >= cut) & (maximum > 0)), places.row)
    if drawn.device.type == "cpu":
        entries = (*(column.numpy() for column in candidates), _bits(candidates.activation).numpy())
        arrays = (tensor.numpy() for tensor in (*places, drawn, cut))
        return Survivors(*map(torch.from_numpy, window_loops.in_windows(entries, *arrays, WINDOW)))
    return _in_windows(candidates, drawn, maximum, cut, places)


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
    """Survivors, by (feature, document, position), with the numbers of documents and tokens."""
    feature, position, activation = (column.cpu().numpy() for column in survivors)
    return ContextEntries(feature, arrivals.document[position], arrivals.position[position], activation)
