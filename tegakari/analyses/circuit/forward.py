"""Forward passes of a circuit analysis: documents unmodified, with patched components, and with ablated ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch

from tegakari.analyses.circuit.effects import MIN_GAIN, effects
from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.analyses.engine.run_models import RunModels
from tegakari.models.rerun.components import Components, run_components
from tegakari.models.rerun.patching import Ablation, run_ablations, run_patches
from tegakari.schemas.progress import Progress
from tegakari.store import Run
from tegakari.store.queries.pairs import Pairs

PAIRS_PER_PASS = 16
"""Pairs whose patches run in one pass: each holds a copy of its document's keys and values of one layer."""


class PairEffects(NamedTuple):
    """Effects in each pair, in the order of the pairs."""

    values: np.ndarray
    """float64 [P, layers, 2]"""
    gain: np.ndarray
    """float32 [P]: clean minus corrupted logit"""

    @property
    def no_gain(self) -> int:
        """Number of pairs without an effect."""
        return int((self.gain < MIN_GAIN).sum())


class Accuracies(NamedTuple):
    """Whether each document is predicted correctly, bool [D]: by the whole classifier, and by ablated ones."""

    full: np.ndarray
    mean_kept: np.ndarray
    """only the circuit kept; the other components give their mean over the documents"""
    mean_removed: np.ndarray
    """the circuit's components give their mean"""
    zero_kept: np.ndarray
    """only the circuit kept; the other components give zero"""
    zero_removed: np.ndarray
    """the circuit's components give zero"""

    def of(self, by: Literal["mean", "zero"]) -> tuple[np.ndarray, np.ndarray]:
        """With only the circuit kept, and with it removed."""
        return (self.mean_kept, self.mean_removed) if by == "mean" else (self.zero_kept, self.zero_removed)


def pair_effects(run: Run, models: RunModels, pairs: Pairs, progress: Progress) -> PairEffects:
    """Effects of all components in all pairs; each document is run at most once as clean and once as corrupted.

    Args:
        run: published.
        models: of the run.
        pairs: of documents.
        progress: advanced by the documents of each pass; the caller begins the stage.

    Raises:
        MemoryShortError: the components of the clean documents do not fit in free memory.
    """
    classifier = models.classifier
    clean_numbers = np.unique(pairs.clean)
    corrupted_numbers = np.unique(pairs.corrupted)
    bytes_per_document = classifier.layers * 2 * classifier.d_model * classifier.dtype.itemsize
    refuse_beyond_memory(len(clean_numbers) * bytes_per_document, classifier.device, "choose fewer pairs")
    added = torch.empty(
        len(clean_numbers), classifier.layers, 2, classifier.d_model, dtype=classifier.dtype, device=classifier.device
    )
    logits = torch.empty(len(clean_numbers), len(classifier.labels), device=classifier.device)
    for members, documents in _passes(run, models, clean_numbers, keys=False):
        added[members], logits[members] = documents.added, documents.prefix.logits
        progress.advance(len(members))

    values = np.empty((len(pairs.clean), classifier.layers, 2))
    gain = np.empty(len(pairs.clean), np.float32)
    clean_row = torch.from_numpy(np.searchsorted(clean_numbers, pairs.clean))
    corrupted_row = np.searchsorted(corrupted_numbers, pairs.corrupted)
    label = torch.from_numpy(np.asarray(run.blocks.documents.label_id)[pairs.clean].astype(np.int64))
    for members, documents in _passes(run, models, corrupted_numbers, keys=True):
        place = np.full(len(corrupted_numbers), -1)
        place[members] = np.arange(len(members))
        in_batch = np.flatnonzero(place[corrupted_row] >= 0)
        for start in range(0, len(in_batch), PAIRS_PER_PASS):
            pair = in_batch[start : start + PAIRS_PER_PASS]
            owner = torch.from_numpy(place[corrupted_row[pair]]).to(classifier.device)
            clean = clean_row[pair].to(classifier.device)
            patched = run_patches(classifier, documents, owner, added[clean])
            effect = effects(logits[clean], documents.prefix.logits[owner], patched, label[pair].to(classifier.device))
            values[pair], gain[pair] = effect.values.cpu().numpy(), effect.gain.cpu().numpy()
        progress.advance(len(members))
    return PairEffects(values, gain)


def ablation_accuracies(
    run: Run, models: RunModels, numbers: np.ndarray, circuit: np.ndarray, progress: Progress
) -> Accuracies:
    """Correctness of predictions with only the circuit kept and with it removed, ablated by mean and by zero.

    Args:
        run: published.
        models: of the run.
        numbers: int [D], of the documents, over which the means are taken too.
        circuit: bool [layers, 2], components of the circuit.
        progress: advanced by the documents of each pass; the caller begins the stage.
    """
    classifier = models.classifier
    total = torch.zeros(classifier.layers, 2, classifier.d_model, dtype=torch.float64, device=classifier.device)
    for members, documents in _passes(run, models, numbers, keys=False):
        total += documents.added.double().sum(0)
        progress.advance(len(members))
    mean = (total / len(numbers)).to(classifier.dtype)
    in_circuit = torch.from_numpy(circuit).to(classifier.device)
    ablations = [
        Ablation(ablated, values) for values in (mean, torch.zeros_like(mean)) for ablated in (~in_circuit, in_circuit)
    ]
    label = np.asarray(run.blocks.documents.label_id)[numbers]
    correct = np.empty((1 + len(ablations), len(numbers)), bool)
    for members, documents in _passes(run, models, numbers, keys=True):
        logits = torch.cat([documents.prefix.logits[None], run_ablations(classifier, documents, ablations)])
        correct[:, members] = logits.argmax(2).cpu().numpy() == label[members]
        progress.advance(len(members))
    return Accuracies(*correct)


def _passes(run: Run, models: RunModels, numbers: np.ndarray, *, keys: bool) -> Iterator[tuple[list[int], Components]]:
    """Passes over batches of documents, each with the places of its documents in `numbers`."""
    texts = [run.blocks.documents.text[number].as_py() for number in numbers.tolist()]
    for members, batch in batches(models.classifier, tokenized(models.classifier, texts)):
        yield members, run_components(models.classifier, batch, keys=keys)
