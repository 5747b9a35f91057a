"""Which activations of a shard its partial needs for contexts: selected on the device that holds them."""

from __future__ import annotations

import torch
from torch import Tensor

from tegakari.indexer.arrivals import Arrivals
from tegakari.indexer.candidates import ContextEntries
from tegakari.indexer.priority import NEVER
from tegakari.kernels import Survivors
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


def of_pairs(survivors: Survivors, pairs: Tensor, row: Tensor) -> Survivors:
    """The survivors of some pairs.

    Args:
        survivors: in any order.
        pairs: bool [D, d_sae]
        row: int64 [T], row in `pairs` of the document of each position.
    """
    places = pairs[row[survivors.position], survivors.feature].nonzero()[:, 0]
    return Survivors(*(column[places] for column in survivors))


def pairs_of(survivors: Survivors, row: Tensor, shape: torch.Size) -> Tensor:
    """The pairs that have one of the survivors, bool of this shape [D, d_sae]; `row` as of `of_pairs`."""
    pairs = torch.zeros(shape, dtype=torch.bool, device=row.device)
    pairs[row[survivors.position], survivors.feature.long()] = True
    return pairs


def context_entries(
    survivors: Survivors, candidates: Survivors, drawn: Tensor, maximum: Tensor, arrivals: Arrivals
) -> ContextEntries:
    """Activations in the windows around candidates and around the strongest positions of drawn pairs.

    Args:
        survivors: all activations of the pairs of candidates and of drawn pairs, among others; in any order.
        candidates: for the strongest positions of the corpus, which are among `survivors`.
        drawn: bool [D, d_sae], active pairs that can be among the drawn ones of the corpus.
        maximum: float32 [D, d_sae], largest activation of each pair.
        arrivals: the positions of the shard, whose documents are D.
    """
    device = drawn.device
    row, order, token = (tensor.to(device) for tensor in (arrivals.row, arrivals.order, arrivals.token))
    feature, position, activation = of_pairs(survivors, drawn | pairs_of(candidates, row, drawn.shape), row)
    keys, places = torch.sort(feature.long() << 32 | order[position].long())
    feature, position, activation = feature[places], position[places], activation[places]
    document, token = row[position], token[position]
    centre = torch.zeros(len(keys), dtype=torch.bool, device=device)
    centre[torch.searchsorted(keys, candidates.feature.long() << 32 | order[candidates.position].long())] = True
    starts = torch.ones_like(centre)  # of a pair
    starts[1:] = (feature[1:] != feature[:-1]) | (document[1:] != document[:-1])
    # Compared as stored: of positions that are equal but for rounding, the first is the strongest.
    bits = rounded_bits(activation.view(torch.int32))
    strongest = drawn[document, feature] & (bits == rounded_bits(maximum[document, feature].view(torch.int32)))
    before = strongest.cumsum(0) - strongest.long()
    in_pair = before - torch.where(starts, before, 0).cummax(0).values if len(before) else before
    centre |= strongest & (in_pair == 0)
    near = _near(centre, starts.cumsum(0), token)
    near |= _near(centre.flip(0), starts.cumsum(0).flip(0), token.flip(0)).flip(0)
    kept = near.nonzero()[:, 0]
    feature, position, activation = (column[kept].cpu().numpy() for column in (feature, position, activation))
    return ContextEntries(feature, arrivals.document[position], arrivals.position[position], activation)


def _near(centre: Tensor, pair: Tensor, token: Tensor) -> Tensor:
    """Whether the last centre up to each entry is of the same pair and at most WINDOW tokens away, bool [n]."""
    if not len(centre):
        return centre
    places = torch.arange(len(centre), device=centre.device)
    last = torch.where(centre, places, -1).cummax(0).values
    at = last.clamp_min(0)
    return (last >= 0) & (pair[at] == pair) & ((token[at] - token).abs() <= WINDOW)
