"""Order of the training documents, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

WINDOW = 50
"""Batches per window, within which documents are sorted by length: enough to save most padding, few enough to mix."""


class LengthGroupedOrder(Sampler[int]):
    """Indices of documents in batches of `batch_size` with similar lengths, shuffled again for every epoch.

    The order of an epoch depends on (seed, epoch) alone, so that a resumed training reads the same batches.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._epoch])
        drawn = rng.permutation(len(self))
        window = WINDOW * self._batch_size
        cuts = range(window, len(drawn), window)
        grouped = np.concatenate(
            [part[np.argsort(self._lengths[part], kind="stable")] for part in np.split(drawn, cuts)]
        )
        whole = len(grouped) // self._batch_size * self._batch_size
        batches = rng.permutation(grouped[:whole].reshape(-1, self._batch_size))
        yield from batches.ravel().tolist()
        yield from grouped[whole:].tolist()
