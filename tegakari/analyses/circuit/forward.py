"""Documents through the classifier, whole, patched and ablated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from tegakari.analyses.circuit.effects import LEAST, effects
from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.analyses.engine.run_models import RunModels
from tegakari.models.rerun.components import Components, run_components
from tegakari.models.rerun.patching import Ablation, run_ablations, run_patches
from tegakari.schemas.progress import Progress
from tegakari.store import Run
from tegakari.store.queries.pairs import Pairs

PAIRS_TOGETHER = 16
"""Pairs whose patches run together: each holds a copy of its document's keys and values of one layer."""


class PairEffects(NamedTuple):
    """Over the pairs, in their order."""

    values: np.ndarray
    """float64 [P, layers, 2]"""
    gained: np.ndarray
    """float32 [P]"""

    @property
    def no_gain(self) -> int:
        return int((self.gained < LEAST).sum())


class Accuracies(NamedTuple):
    """Whether each document is predicted correctly, bool [D]."""

    full: np.ndarray
    mean_kept: np.ndarray
    mean_removed: np.ndarray
    zero_kept: np.ndarray
    zero_removed: np.ndarray

    def of(self, by: str) -> tuple[np.ndarray, np.ndarray]:
        """With only the circuit kept, and with it removed."""
        return (self.mean_kept, self.mean_removed) if by == "mean" else (self.zero_kept, self.zero_removed)


def pair_effects(run: Run, models: RunModels, pairs: Pairs, progress: Progress) -> PairEffects:
    """Effects of all components in all pairs; each document is run once as clean and once as corrupted at most."""
    classifier = models.classifier
    clean_numbers = np.unique(pairs.clean)
    corrupted_numbers = np.unique(pairs.corrupted)
    a_document = classifier.layers * 2 * classifier.d_model * classifier.dtype.itemsize
    refuse_beyond_memory(len(clean_numbers) * a_document, classifier.device, "ask for fewer pairs")
    added = torch.empty(
        len(clean_numbers), classifier.layers, 2, classifier.d_model, dtype=classifier.dtype, device=classifier.device
    )
    logits = torch.empty(len(clean_numbers), len(classifier.labels), device=classifier.device)
    for members, documents in _runs(run, models, clean_numbers, keys=False):
        added[members], logits[members] = documents.added, documents.prefix.logits
        progress.advance(len(members))

    values = np.empty((len(pairs.clean), classifier.layers, 2))
    gained = np.empty(len(pairs.clean), np.float32)
    clean_row = torch.from_numpy(np.searchsorted(clean_numbers, pairs.clean))
    corrupted_row = np.searchsorted(corrupted_numbers, pairs.corrupted)
    label = torch.from_numpy(np.asarray(run.blocks.documents.label_id)[pairs.clean].astype(np.int64))
    for members, documents in _runs(run, models, corrupted_numbers, keys=True):
        place = np.full(len(corrupted_numbers), -1)
        place[members] = np.arange(len(members))
        mine = np.flatnonzero(place[corrupted_row] >= 0)
        for chosen in (mine[start : start + PAIRS_TOGETHER] for start in range(0, len(mine), PAIRS_TOGETHER)):
            owner = torch.from_numpy(place[corrupted_row[chosen]]).to(classifier.device)
            clean = clean_row[chosen].to(classifier.device)
            patched = run_patches(classifier, documents, owner, added[clean])
            found = effects(logits[clean], documents.prefix.logits[owner], patched, label[chosen].to(classifier.device))
            values[chosen], gained[chosen] = found.values.cpu().numpy(), found.gained.cpu().numpy()
        progress.advance(len(members))
    return PairEffects(values, gained)


def ablation_accuracies(
    run: Run, models: RunModels, numbers: np.ndarray, circuit: np.ndarray, progress: Progress
) -> Accuracies:
    """Predictions of documents with only the circuit kept and without it, ablated by the documents' mean or by zero.

    Args:
        run: the run.
        models: of the run.
        numbers: int [D], of the documents, which the means are taken over.
        circuit: bool [layers, 2].
        progress: advanced by the documents of each pass; the caller begins the stage.
    """
    classifier = models.classifier
    total = torch.zeros(classifier.layers, 2, classifier.d_model, dtype=torch.float64, device=classifier.device)
    for members, documents in _runs(run, models, numbers, keys=False):
        total += documents.added.double().sum(0)
        progress.advance(len(members))
    mean = (total / len(numbers)).to(classifier.dtype)
    kept = torch.from_numpy(circuit).to(classifier.device)
    ablations = [Ablation(which, values) for values in (mean, torch.zeros_like(mean)) for which in (~kept, kept)]
    label = np.asarray(run.blocks.documents.label_id)[numbers]
    right = np.empty((1 + len(ablations), len(numbers)), bool)
    for members, documents in _runs(run, models, numbers, keys=True):
        said = torch.cat([documents.prefix.logits[None], run_ablations(classifier, documents, ablations)])
        right[:, members] = said.argmax(2).cpu().numpy() == label[members]
        progress.advance(len(members))
    return Accuracies(*right)


def _runs(run: Run, models: RunModels, numbers: np.ndarray, *, keys: bool) -> Iterator[tuple[list[int], Components]]:
    """Batches of documents, with their places among the numbers."""
    texts = [run.blocks.documents.text[number].as_py() for number in numbers.tolist()]
    for members, batch in batches(models.classifier, tokenized(models.classifier, texts)):
        yield members, run_components(models.classifier, batch, keys=keys)
