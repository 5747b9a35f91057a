"""From logits before and after to what is reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tegakari.analyses.knockout.controls import FeatureSet
from tegakari.analyses.knockout.settings import Targets
from tegakari.analyses.statistics import macro_f1, mean_interval
from tegakari.schemas.knockout import Control, Destination, DocumentOutcome, KnockoutSettings
from tegakari.store import Run


class Outcome:
    """Predictions of documents before and after, against what is expected of them."""

    def __init__(self, run: Run, targets: Targets, before: np.ndarray) -> None:
        """Of logits before, float32 [D, labels]."""
        self._run = run
        self._targets = targets
        self.before = before
        self.predicted = before.argmax(1)
        self.expected = self.predicted if targets.expected is None else targets.expected
        self.right = self.predicted == self.expected

    @property
    def recall(self) -> float:
        return float(self.right.mean())

    def recall_after(self, after: np.ndarray) -> float:
        """Of logits after, float32 [D, labels]."""
        return float((after.argmax(1) == self.expected).mean())

    def macro_f1(self, logits: np.ndarray) -> float | None:
        """Over all documents of the run, with these documents predicted so; None for texts."""
        if self._targets.numbers is None:
            return None
        known = self._run.blocks.documents
        predicted = known.predicted_id.astype(np.int64)
        predicted[self._targets.numbers] = logits.argmax(1)
        return macro_f1(known.label_id, predicted, len(self._run.labels))

    def interval(self, after: np.ndarray, seed: int) -> tuple[float, float]:
        """Of the difference in points."""
        still = after.argmax(1) == self.expected
        low, high = mean_interval(100.0 * (still.astype(float) - self.right), seed)
        return low, high

    def control(self, draws: Sequence[FeatureSet], after: np.ndarray) -> Control | None:
        """Of the logits of each draw, float32 [draws, D, labels]."""
        if not draws:
            return None
        recalls = [self.recall_after(logits) for logits in after]
        deltas = [100 * (recall - self.recall) for recall in recalls]
        scores = [score for logits in after if (score := self.macro_f1(logits)) is not None]
        density = self._run.blocks.features["density"]
        starts = self._run.blocks.places
        drawn = [starts.slice_of(each.layer).start + each.feature for draw in draws for each in draw]
        return Control(
            recalls=recalls,
            delta_mean=float(np.mean(deltas)),
            delta_sd=_sd(deltas),
            macro_f1_mean=float(np.mean(scores)) if scores else None,
            macro_f1_sd=_sd(scores) if scores else None,
            density_mean=float(density[drawn].mean()),
        )

    def lost(self, after: np.ndarray) -> list[Destination]:
        """Where documents go that were predicted as expected."""
        predicted = after.argmax(1)
        counts = Counter(predicted[self.right & (predicted != self.expected)].tolist())
        return [
            Destination(label=self._run.labels[label], documents=count)
            for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def gained(self, after: np.ndarray) -> int:
        return int(((after.argmax(1) == self.expected) & ~self.right).sum())

    def survived(self, after: np.ndarray) -> list[str]:
        still = np.flatnonzero((after.argmax(1) == self.expected) & self.right)
        return [self._targets.ids[number] for number in still.tolist()]

    def of_each(self, after: np.ndarray, settings: KnockoutSettings) -> list[DocumentOutcome] | None:
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
                after=names[now],
                probability_before=share,
                probability_after=share_after,
                logits_before=self.before[row].tolist() if logits else None,
                logits_after=after[row].tolist() if logits else None,
            )
            for row, (id_, expected, before, now, share, share_after) in enumerate(
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
    """Softmax over the labels, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
