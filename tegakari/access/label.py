"""One label of a run."""

from __future__ import annotations

from functools import cached_property
from typing import Unpack

import msgspec

from tegakari.access.html import table
from tegakari.access.rows import Rows
from tegakari.access.source import Source
from tegakari.schemas.api import DocumentRow, LabelDetail, LabelEffect, LabelFeature
from tegakari.schemas.filters import EffectOrder, LabelFeatureFilters
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.study import LabelCues


class Label:
    """A label: its scores, its features, its documents, and a knockout of its features."""

    def __init__(self, source: Source, run: str, name: str) -> None:
        self._source = source
        self._run = run
        self.name = name

    @cached_property
    def detail(self) -> LabelDetail:
        """Scores of the label and the predictions of its documents."""
        return self._source.label(self._run, self.name)

    def features(self, **filters: Unpack[LabelFeatureFilters]) -> Rows[LabelFeature]:
        """Features by Cohen's d for the label, largest first.

        Args:
            filters: `layer`, `pooling`, `min_cohens_d` and `variety`, as `tegakari.schemas.filters.LabelFeatureFilters`
                describes them.

        Raises:
            TegakariError: no such layer, or a filter out of range.
        """
        listing = self._source.label_features(self._run, self.name, **filters)
        return Rows(f"Features of {self.name} in {self._run}", listing)

    def effects(self, *, layer: int | None = None, order: EffectOrder = "largest") -> Rows[LabelEffect]:
        """Features by how much a unit of their activation adds to the label's logit, directly through norm and head.

        Raises:
            TegakariError: the run or the layer has no label effects.
        """
        listing = self._source.label_effects(self._run, self.name, layer=layer, order=order)
        return Rows(f"Effects on {self.name} in {self._run}", listing)

    def documents(self, *, predicted: str | None = None, correct: bool | None = None) -> Rows[DocumentRow]:
        """Documents of the label by id, optionally only those predicted as `predicted`, or (in)correctly."""
        listing = self._source.documents(self._run, label=self.name, predicted=predicted, correct=correct)
        return Rows(f"Documents of {self.name} in {self._run}", listing)

    def cues(self, *, layer: int | None = None, k: int = 20) -> LabelCues:
        """Tokens on which the label's k features of largest d fire, in one layer or in all."""
        return self._source.cues(self._run, self.name, layer=layer, k=k)

    def knockout(self, layer: int, *, k: int = 20, draws: int = 5, seed: int = 0) -> KnockoutResult:
        """Ablate the label's k features of largest d at a layer and re-run the classifier on its documents.

        Args:
            layer: the layer.
            k: number of features.
            draws: sets of other features in each of the two controls.
            seed: of the controls and the intervals.
        """
        settings = KnockoutSettings(label=self.name, layer=layer, k=k, draws=draws, seed=seed)
        return self._source.knock_out(self._run, settings)

    def __repr__(self) -> str:
        detail = self.detail
        return (
            f"<Label {self.name} of {self._run}: {detail.documents} documents, F1 {detail.f1:.3f}, "
            f"{detail.specific_features} specific and {detail.shared_features} shared features>"
        )

    def _repr_html_(self) -> str:
        predictions = msgspec.to_builtins(self.detail.predictions)
        return f"<p>{table(repr(self)[1:-1], predictions)}</p>"
