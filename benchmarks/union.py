"""Candidates for the strongest positions: with the floor of the union of all shards, and with that of the best shard.

    python -m benchmarks.union [--shards 120]

A floor is a bound of activations: weaker ones are no candidates. That of the best shard is the N-th strongest
activation of a feature in any single shard so far; that of the union the N-th strongest in all shards so far. Synthetic
activations (log-normal, a fixed number of active positions per shard and feature) go through the indexer's own
`strongest_survivors` and `Union`, N = 100. Workers take shards in turn; where they share bounds, they do so after every
shard. The last line is one JSON object; `candidates_over_union` is for 60 active positions per shard, over the run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import machine, rounded
from tegakari.indexer.layer_tally import Union
from tegakari.indexer.strongest_survivors import strongest_survivors
from tegakari.kernels import Survivors

FEATURES, TOP_TOKENS, POSITIONS = 300, 100, 21_760
ACTIVE = (664, 60, 20)


class Count(NamedTuple):
    """Candidates per feature, by shard, and the strongest of all of them."""

    per_shard: list[float]
    strongest: Tensor

    def late(self) -> float:
        """Candidates per feature and shard in the last quarter of the shards."""
        return float(np.mean(self.per_shard[-len(self.per_shard) // 4 :]))


def shards(count: int, active: int) -> Iterator[Survivors]:
    """All activations of each shard."""
    generator = np.random.default_rng(0)
    feature = np.repeat(np.arange(FEATURES, dtype=np.int32), active)
    for _ in range(count):
        position = generator.integers(0, POSITIONS, len(feature)).astype(np.int32)
        activation = generator.lognormal(0, 0.7, len(feature)).astype(np.float32)
        yield Survivors(*map(torch.from_numpy, (feature, position, activation)))


def counted(count: int, active: int, *, union: bool, workers: int = 1, shared: bool = False) -> Count:
    """Count the candidates of a run."""
    order = torch.arange(POSITIONS, dtype=torch.int32)
    empty = Union.empty(FEATURES, TOP_TOKENS, torch.device("cpu"))
    unions = [empty] * workers
    floors = [empty.bounds().floor] * workers
    everything, per_shard = empty, []
    for number, survivors in enumerate(shards(count, active)):
        worker = number % workers
        kept = Survivors(*(column[survivors.activation >= floors[worker][survivors.feature]] for column in survivors))
        best = strongest_survivors(kept, TOP_TOKENS, FEATURES, order)
        table = best.table(FEATURES, TOP_TOKENS)
        unions[worker] = unions[worker].with_strongest(table)
        everything = everything.with_strongest(table)
        floor = unions[worker].strongest[:, -1] if union else table[:, -1]
        floors[worker] = torch.maximum(floors[worker], floor)
        if shared:
            floors = [torch.stack(floors).amax(0)] * workers
        leaving = (
            table >= floors[worker][:, None] if union else table > 0
        )  # the union's also leaves out what it has beaten
        per_shard.append(int((leaving & (table > 0)).sum()) / FEATURES)
    return Count(per_shard, everything.strongest)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the counts and one JSON object."""
    parser = argparse.ArgumentParser(description="Candidates with the floor of the union and of the best shard.")
    parser.add_argument("--shards", type=int, default=120)
    options = parser.parse_args(arguments)
    tables_equal = True
    result: dict[str, float] = {"shards": options.shards}
    for active in ACTIVE:
        best_shard = counted(options.shards, active, union=False)
        union = counted(options.shards, active, union=True)
        four = counted(options.shards, active, union=True, workers=4)
        four_shared = counted(options.shards, active, union=True, workers=4, shared=True)
        counts = {"best shard": best_shard, "union": union, "4 workers": four, "4 workers, shared": four_shared}
        for name, count in counts.items():
            tables_equal &= torch.equal(count.strongest, best_shard.strongest)
            print(
                f"{active} active: {name}: {sum(count.per_shard):,.0f} candidates per feature, {count.late():.2f} late"
            )
        if active == 60:
            result["candidates_over_union"] = sum(best_shard.per_shard) / sum(union.per_shard)
            result["late_candidates_over_union"] = best_shard.late() / union.late()
            result["candidates_over_union_4_workers"] = sum(best_shard.per_shard) / sum(four.per_shard)
            result["candidates_over_union_4_workers_shared"] = sum(best_shard.per_shard) / sum(four_shared.per_shard)
    sys.stdout.write(json.dumps({"tables_equal": tables_equal} | rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
