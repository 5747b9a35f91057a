"""Outcome of a knockout: recall, macro-F1, and predictions of documents, from logits before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tegakari.analyses.knockout.controls import FeatureSet
from tegakari.analyses.knockout.margin import margin_of, tells_apart
from tegakari.analyses.knockout.settings import Targets
from tegakari.analyses.statistics import macro_f1, net_change_interval, share_change_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.knockout import Control, Destination, DocumentOutcome, KnockoutSettings, Margin
from tegakari.store import Run


class Outcome:
    """Predictions of documents with all features, to which logits after an ablation are compared."""

    def __init__(self, run: Run, targets: Targets, before: np.ndarray) -> None:
        """Keep the predictions before.

        Args:
            run: published.
            targets: the documents.
            before: float32 [D, labels], logits with all features.
        """
        self._run = run
        self._targets = targets
        self.before = before
        self.predicted = before.argmax(1)
        self.expected = self.predicted if targets.expected is None else targets.expected
        self.correct = self.predicted == self.expected

    @property
    def recall(self) -> float:
        """Share of documents predicted as expected, before."""
        return float(self.correct.mean())

    def recall_after(self, after: np.ndarray) -> float:
        """Share of documents predicted as expected, by logits float32 [D, labels]."""
        return float((after.argmax(1) == self.expected).mean())

    def macro_f1(self, logits: np.ndarray) -> float | None:
        """Macro-F1 over all documents of the run, with these documents predicted by the logits; None for texts."""
        if self._targets.numbers is None:
            return None
        documents = self._run.blocks.documents
        predicted = documents.predicted_id.astype(np.int64)
        predicted[self._targets.numbers] = logits.argmax(1)
        return macro_f1(documents.label_id, predicted, len(self._run.labels))

    def interval(self, after: np.ndarray) -> tuple[float, float]:
        """95 % interval of the change of recall, in points."""
        low, high = share_change_interval(self.correct, after.argmax(1) == self.expected)
        return 100 * low, 100 * high

    def net(self, after: np.ndarray, controls: np.ndarray) -> Interval | None:
        """Change of recall minus its mean over control sets, in points; None with fewer than 2 sets.

        Args:
            after: float32 [D, labels], logits with the features ablated.
            controls: float32 [draws, D, labels], logits with each control set ablated.
        """
        if len(controls) < 2:
            return None
        net = net_change_interval(after.argmax(1) == self.expected, controls.argmax(2) == self.expected)
        return Interval(value=100 * net.value, low=100 * net.low, high=100 * net.high)

    def margin(self, after: np.ndarray, controls: np.ndarray) -> Margin:
        """Margins before and after; arguments as of `net`."""
        labels = np.unique(self.expected)
        of_one_label = self._targets.numbers is not None and len(labels) == 1
        told_apart = tells_apart(self._run, int(labels[0])) if of_one_label else None
        return margin_of(self.before, after, controls, self.expected, told_apart)

    def control(self, draws: Sequence[FeatureSet], after: np.ndarray) -> Control | None:
        """Outcome of control sets; None without any.

        Args:
            draws: sets of features.
            after: float32 [draws, D, labels], logits with each set ablated.
        """
        if not draws:
            return None
        recalls = [self.recall_after(logits) for logits in after]
        deltas = [100 * (recall - self.recall) for recall in recalls]
        scores = [score for logits in after if (score := self.macro_f1(logits)) is not None]
        density = self._run.blocks.features["density"]
        places = self._run.blocks.places
        drawn = [places.slice_of(feature.layer).start + feature.feature for draw in draws for feature in draw]
        return Control(
            recalls=recalls,
            delta_mean=float(np.mean(deltas)),
            delta_sd=_standard_deviation(deltas),
            macro_f1_partial_ablation_mean=float(np.mean(scores)) if scores else None,
            macro_f1_partial_ablation_sd=_standard_deviation(scores) if scores else None,
            density_mean=float(density[drawn].mean()),
        )

    def lost(self, after: np.ndarray) -> list[Destination]:
        """Labels predicted after of documents that were predicted as expected before and are not after."""
        predicted = after.argmax(1)
        counts = Counter(predicted[self.correct & (predicted != self.expected)].tolist())
        return [
            Destination(label=self._run.labels[label], documents=count)
            for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def gained(self, after: np.ndarray) -> int:
        """Number of documents predicted as expected after and not before."""
        return int(((after.argmax(1) == self.expected) & ~self.correct).sum())

    def survived(self, after: np.ndarray) -> list[str]:
        """Ids of documents predicted as expected before and after."""
        numbers = np.flatnonzero((after.argmax(1) == self.expected) & self.correct)
        return [self._targets.ids[number] for number in numbers.tolist()]

    def documents(self, after: np.ndarray, settings: KnockoutSettings) -> list[DocumentOutcome] | None:
        """Predictions of every document, in as much detail as the settings say; None for no detail."""
        if settings.details == "none":
            return None
        names, logits = self._run.labels, settings.details == "logits"
        rows = np.arange(len(after))
        shares = [probabilities(values)[rows, self.expected].tolist() for values in (self.before, after)]
        return [
            DocumentOutcome(
                document=id_,
                expected=names[expected],
                before=names[before],
                after=names[predicted_after],
                probability_before=share_before,
                probability_after=share_after,
                logits_before=self.before[row].tolist() if logits else None,
                logits_after=after[row].tolist() if logits else None,
            )
            for row, (id_, expected, before, predicted_after, share_before, share_after) in enumerate(
                zip(
                    self._targets.ids,
                    self.expected.tolist(),
                    self.predicted.tolist(),
                    after.argmax(1).tolist(),
                    *shares,
                    strict=True,
                )
            )
        ]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _standard_deviation(values: Sequence[float]) -> float:
    """With ddof 1; 0 for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
