"""Holdout: the evaluation documents of each label in two halves.

Features and layer are chosen on one half, and effects are measured on the other, so that the choice cannot overstate
them.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import NamedTuple

import numpy as np

from tegakari.analyses.label_d import label_d, pooled_activations
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, queries
from tegakari.store.weak_cache import weakly_cached

MIN_DOCUMENTS = 4
"""Evaluation documents of a label: d needs two in the choice half."""


class ChosenFeature(NamedTuple):
    """A feature and its d over the choice half."""

    feature: int
    d: float


class Holdout:
    """Both halves of the evaluation documents of a run, and d over the choice half, which is computed once per layer.

    At 107 labels and 9,216 features, d takes 4 MB per layer.
    """

    def __init__(self, run: Run, seed: int) -> None:
        """Split the documents of each label in the order of a hash of seed and id.

        Runs of the same documents have the same halves.

        Raises:
            NotFoundError: the run has no evaluation documents.
        """
        self._reference = weakref.ref(run)  # a cached holdout must not keep a deleted run open
        documents = run.blocks.documents
        numbers = queries.evaluation_documents(run)
        ids = documents.id.take(numbers).to_pylist()
        keys = [hashlib.sha256(f"{seed}:{id_}".encode()).digest() for id_ in ids]
        shuffled = numbers[sorted(range(len(numbers)), key=keys.__getitem__)]
        label = np.asarray(documents.label_id)[shuffled]
        by_label = [shuffled[label == number] for number in range(len(run.labels))]
        self._choice = [np.sort(of_label[: len(of_label) // 2]) for of_label in by_label]
        self._measurement = [np.sort(of_label[len(of_label) // 2 :]) for of_label in by_label]
        self._d: dict[int, np.ndarray] = {}

    @property
    def _run(self) -> Run:
        run = self._reference()
        if run is None:
            raise ReferenceError("the run of the holdout was released: keep it while its holdout is used")
        return run

    def choice(self, label: str) -> np.ndarray:
        """Numbers of the label's documents that choices are made on; int64, ascending.

        Raises:
            NotFoundError: no such label, or it has too few evaluation documents.
        """
        return self._choice[self._label_id(label)]

    def measurement(self, label: str) -> np.ndarray:
        """Numbers of the label's documents that effects are measured on; int64, ascending.

        Raises:
            NotFoundError: no such label, or it has too few evaluation documents.
        """
        return self._measurement[self._label_id(label)]

    def strongest(self, label: str, layer: int, k: int) -> list[ChosenFeature]:
        """The k features with the largest d for a label, fewer if fewer have a d; ties by feature.

        Raises:
            NotFoundError: no such label or layer, or the label has too few evaluation documents.
        """
        d = self.d(label, layer)
        order = np.argsort(-d, kind="stable")[: min(k, np.count_nonzero(~np.isnan(d)))]
        return [ChosenFeature(feature, float(d[feature])) for feature in order.tolist()]

    def d(self, label: str, layer: int) -> np.ndarray:
        """Cohen's d of a layer's features for a label over the choice half, by the run's pooling.

        Returns:
            float32 [F]; NaN where d is undefined, and for features that are active in no document of the half.

        Raises:
            NotFoundError: no such label or layer, or the label has too few evaluation documents.
        """
        queries.check_layer(self._run, layer)
        label_id = self._label_id(label)
        if layer not in self._d:
            self._d[layer] = self._layer_d(layer)
        return self._d[layer][label_id]

    def _layer_d(self, layer: int) -> np.ndarray:
        pooled = pooled_activations(self._run, layer)
        label = np.full(pooled.documents, -1)
        for label_id, numbers in enumerate(self._choice):
            label[numbers] = label_id
        d = label_d(pooled, label, len(self._choice)).astype(np.float32)
        active = np.bincount(pooled.feature[label[pooled.document] >= 0], minlength=pooled.features) > 0
        d[:, ~active] = np.nan
        return d

    def _label_id(self, label: str) -> int:
        label_id = self._run.label_id(label)
        documents = len(self._choice[label_id]) + len(self._measurement[label_id])
        if documents < MIN_DOCUMENTS:
            raise NotFoundError(
                f"run {self._run.name!r} has {documents} evaluation documents of label {label!r}, "
                f"a holdout needs {MIN_DOCUMENTS}",
                field="holdout",
                fix="choose other labels, or measure without a holdout",
            )
        return label_id


@weakly_cached(maxsize=2)  # the runs of a study
def holdout_of(run: Run, seed: int) -> Holdout:
    """Halves of a run's evaluation documents.

    Args:
        run: published.
        seed: of the halves.
    """
    return Holdout(run, seed)
