"""Forward passes of a circuit analysis: documents unmodified, with patched components, and with ablated ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch

from tegakari.analyses.circuit.effects import Effects, patch_changes
from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.models.classifier import Classifier
from tegakari.models.finite import check_finite
from tegakari.models.memory import free_bytes
from tegakari.models.rerun.ablate_features import GPU_MEMORY_SHARE
from tegakari.models.rerun.components import Components, run_components
from tegakari.models.rerun.patching import Ablation, run_ablations, run_patches
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.queries.pairs import Pairs

PAIRS_PER_PASS = 16
"""Pairs whose patches run in one pass: each holds copies of its document's keys and values of one layer."""

GPU_PAIRS_PER_PASS = 64
"""The same on a GPU, where a small pass takes as long to issue as a large one; fewer if memory is short."""


class LabelledTexts(Protocol):
    """Documents of a run: `run.blocks.documents`."""

    @property
    def text(self) -> pa.Array: ...

    @property
    def label_id(self) -> np.ndarray: ...


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


def pair_effects(
    classifier: Classifier, documents: LabelledTexts, pairs: Pairs, progress: Progress = NoProgress()
) -> Effects:
    """Effects of all components in all pairs; each document is run at most once as clean and once as corrupted.

    Args:
        classifier: a decoder.
        documents: that the pairs number.
        pairs: of documents.
        progress: advanced by the documents of each pass; the caller begins the stage.

    Raises:
        MemoryShortError: the components of the clean documents do not fit in free memory.
    """
    clean_numbers, clean_row = np.unique(pairs.clean, return_inverse=True)
    corrupted_numbers, corrupted_row = np.unique(pairs.corrupted, return_inverse=True)
    bytes_per_document = classifier.layers * 2 * classifier.d_model * classifier.dtype.itemsize
    refuse_beyond_memory(len(clean_numbers) * bytes_per_document, classifier.device, "choose fewer pairs")
    added = torch.empty(
        len(clean_numbers), classifier.layers, 2, classifier.d_model, dtype=classifier.dtype, device=classifier.device
    )
    logits = torch.empty(len(clean_numbers), len(classifier.labels), device=classifier.device)
    for members, components in _passes(classifier, documents, clean_numbers, keys=False):
        added[members], logits[members] = components.added, components.prefix.logits
        progress.advance(len(members))

    change = np.empty((len(pairs.clean), classifier.layers, 2))
    gain = np.empty(len(pairs.clean))
    label = torch.from_numpy(np.asarray(documents.label_id)[pairs.clean].astype(np.int64))
    for members, components in _passes(classifier, documents, corrupted_numbers, keys=True):
        place = np.full(len(corrupted_numbers), -1)
        place[members] = np.arange(len(members))
        in_batch = np.flatnonzero(place[corrupted_row] >= 0)
        of_batch: list[tuple[np.ndarray, torch.Tensor, torch.Tensor]] = []
        size = _pairs_per_pass(classifier, components.prefix.batch.input_ids.shape[1])
        for start in range(0, len(in_batch), size):
            pair = in_batch[start : start + size]
            owner = torch.from_numpy(place[corrupted_row[pair]]).to(classifier.device)
            clean = torch.from_numpy(clean_row[pair]).to(classifier.device)
            patched = run_patches(classifier, components, owner, added[clean])
            pair_label = label[pair].to(classifier.device)
            changes, gains = patch_changes(logits[clean], components.prefix.logits[owner], patched, pair_label)
            of_batch.append((pair, changes, gains))
        for pair, changes, gains in of_batch:  # after all passes are issued: a copy waits for a GPU
            change[pair], gain[pair] = changes.cpu().numpy(), gains.cpu().numpy()
        progress.advance(len(members))
    spread = float(logits.double().var(0, unbiased=False).mean().sqrt())
    return Effects(change, gain, spread)


def _pairs_per_pass(classifier: Classifier, tokens: int) -> int:
    """Pairs whose patches run in one pass over documents of up to `tokens` tokens.

    Of keys and values of a layer a pass holds up to four copies each: of the pair's document, with those of the
    alternatives, and repeated for the heads that share them.
    """
    if classifier.device.type == "cpu":
        return PAIRS_PER_PASS
    pair_bytes = 2 * 4 * classifier.d_model * tokens * classifier.dtype.itemsize
    fitting = int(GPU_MEMORY_SHARE * free_bytes(classifier.device) / pair_bytes)
    return max(1, min(GPU_PAIRS_PER_PASS, fitting))


def rounding_change(classifier: Classifier, documents: LabelledTexts, numbers: np.ndarray) -> float:
    """Largest change of a logit when one component is replaced by its own output: 0 but for rounding.

    Args:
        classifier: a decoder.
        documents: of which some are run.
        numbers: int [D], of the documents.
    """
    largest = 0.0
    for members, components in _passes(classifier, documents, numbers, keys=True):
        logits = components.prefix.logits
        owner = torch.arange(len(members), device=logits.device)
        patched = run_patches(classifier, components, owner, components.added)
        largest = max(largest, float((patched - logits[:, None, None]).abs().max()))
    return largest


def ablation_accuracies(
    classifier: Classifier,
    documents: LabelledTexts,
    numbers: np.ndarray,
    circuit: np.ndarray,
    progress: Progress = NoProgress(),
) -> Accuracies:
    """Correctness of predictions with only the circuit kept and with it removed, ablated by mean and by zero.

    Args:
        classifier: a decoder.
        documents: that `numbers` number.
        numbers: int [D], of the documents, over which the means are taken too.
        circuit: bool [layers, 2], components of the circuit.
        progress: advanced by the documents of each pass; the caller begins the stage.
    """
    total = torch.zeros(classifier.layers, 2, classifier.d_model, dtype=torch.float64, device=classifier.device)
    for members, components in _passes(classifier, documents, numbers, keys=False):
        total += components.added.double().sum(0)
        progress.advance(len(members))
    mean = (total / len(numbers)).to(classifier.dtype)
    in_circuit = torch.from_numpy(circuit).to(classifier.device)
    ablations = [
        Ablation(ablated, values) for values in (mean, torch.zeros_like(mean)) for ablated in (~in_circuit, in_circuit)
    ]
    label = np.asarray(documents.label_id)[numbers]
    correct = np.empty((1 + len(ablations), len(numbers)), bool)
    for members, components in _passes(classifier, documents, numbers, keys=True):
        logits = torch.cat([components.prefix.logits[None], run_ablations(classifier, components, ablations)])
        correct[:, members] = logits.argmax(2).cpu().numpy() == label[members]
        progress.advance(len(members))
    return Accuracies(*correct)


def _passes(
    classifier: Classifier, documents: LabelledTexts, numbers: np.ndarray, *, keys: bool
) -> Iterator[tuple[list[int], Components]]:
    """Passes over batches of documents, each with the places of its documents in `numbers`.

    Raises:
        ModelError: a logit is not finite.
    """
    texts = [documents.text[number].as_py() for number in numbers.tolist()]
    tokens = tokenized(classifier, texts)
    for members, batch in batches(classifier, tokens):
        components = run_components(classifier, batch, keys=keys)
        of_batch = [tokens[member] for member in members]
        check_finite(classifier, components.prefix.logits, of_batch, [repr(texts[member][:40]) for member in members])
        yield members, components
