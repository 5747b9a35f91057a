"""The n strongest positions of every feature among survivors, on the device that holds them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.kernels import Survivors


class StrongestSurvivors(NamedTuple):
    """Survivors by (feature, activation descending, order), at most n per feature."""

    survivors: Survivors
    rank: Tensor
    """[k] int64, from 0: place of each among those of its feature."""

    def table(self, d_sae: int, n: int) -> Tensor:
        """Activations as float32 [d_sae, n], strongest first, 0 beyond the last."""
        table = self.survivors.activation.new_zeros(d_sae, n)
        table[self.survivors.feature.long(), self.rank] = self.survivors.activation
        return table


def strongest_survivors(survivors: Survivors, n: int, d_sae: int, order: Tensor) -> StrongestSurvivors:
    """The n strongest survivors of each feature.

    Args:
        survivors: in any order.
        n: survivors per feature.
        d_sae: number of features.
        order: [T] int32, the order of the positions that `survivors.position` counts; of equal activations the first in
            this order is the stronger.
    """
    feature, position, activation = survivors
    # The bits of positive floats have the order of the floats: feature and activation sort as one integer.
    keys = feature.long() << 31 | (0x7FFF_FFFF - activation.view(torch.int32)).long()
    keys, places = torch.sort(keys)
    same = keys[1:] == keys[:-1]
    tied = (torch.nn.functional.pad(same, (1, 0)) | torch.nn.functional.pad(same, (0, 1))).nonzero()[:, 0]
    if len(tied):
        members = places[tied]
        members = members[torch.sort(order[position[members].long()], stable=True).indices]
        member_keys = feature[members].long() << 31 | (0x7FFF_FFFF - activation[members].view(torch.int32)).long()
        places[tied] = members[torch.sort(member_keys, stable=True).indices]
    # Of the keys, in order, rather than gathered by the places.
    feature = (keys >> 31).int()
    sizes = torch.bincount(feature, minlength=d_sae)
    rank = torch.arange(len(feature), device=feature.device) - (sizes.cumsum(0) - sizes).index_select(0, feature)
    keep = (rank < n).nonzero()[:, 0]
    places = places.index_select(0, keep)
    columns = feature.index_select(0, keep), position.index_select(0, places), activation.index_select(0, places)
    return StrongestSurvivors(Survivors(*columns), rank.index_select(0, keep))
