"""One run of a store."""

from __future__ import annotations

from functools import cached_property
from html import escape
from typing import Literal, Unpack

from tegakari.access.document import Document
from tegakari.access.feature import Feature
from tegakari.access.label import Label
from tegakari.access.rows import Rows
from tegakari.access.source import Source
from tegakari.schemas.analysis import AnalysisRow
from tegakari.schemas.api import DocumentMatch, DocumentRow, FeatureRow, LabelRow, LayerSpecificity, RunSummary
from tegakari.schemas.attribution import Attribution, AttributionSettings
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.config import Pooling
from tegakari.schemas.explanations import Explanation, ExplanationFilters
from tegakari.schemas.filters import FeatureFilters
from tegakari.schemas.inference import Classification, EncodedText
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.notes import Note, NoteFilters
from tegakari.schemas.study import ClassificationResult, SparsityResult
from tegakari.schemas.variants import VariantsResult


class Run:
    """A published run: one classifier, one set of SAEs and one corpus split, indexed."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self.name = name

    @cached_property
    def summary(self) -> RunSummary:
        """Inputs of the run and scores of its classifier."""
        return self._source.run(self.name)

    def labels(self) -> Rows[LabelRow]:
        """Labels in class order, with scores and numbers of features."""
        return Rows(f"Labels of {self.name}", self._source.labels(self.name))

    def label(self, name: str) -> Label:
        """One label; it is looked up when it is first used."""
        return Label(self._source, self.name, name)

    def features(self, **filters: Unpack[FeatureFilters]) -> Rows[FeatureRow]:
        """Features that pass every filter.

        Args:
            filters: `layer`, `token`, `variety`, `min_density`, `max_density`, `min_cohens_d` and `order`, as
                `tegakari.schemas.filters.FeatureFilters` describes them.

        Raises:
            TegakariError: no such layer, or a filter out of range.
        """
        return Rows(f"Features of {self.name}", self._source.features(self.name, **filters))

    def feature(self, layer: int, index: int) -> Feature:
        """One feature; it is looked up when it is first used."""
        return Feature(self._source, self.name, layer, index)

    def documents(
        self, *, label: str | None = None, predicted: str | None = None, correct: bool | None = None
    ) -> Rows[DocumentRow]:
        """Documents by id that pass every filter."""
        listing = self._source.documents(self.name, label=label, predicted=predicted, correct=correct)
        return Rows(f"Documents of {self.name}", listing)

    def document(self, id_: str) -> Document:
        """One document; it is looked up when it is first used."""
        return Document(self._source, self.name, id_)

    def search(self, words: str, *, limit: int = 20) -> Rows[DocumentMatch]:
        """Documents that contain all the words, best first."""
        return Rows(f"Documents of {self.name} with {words}", self._source.search(self.name, words, limit=limit))

    def notes(self, **filters: Unpack[NoteFilters]) -> Rows[Note]:
        """Notes on features that pass every filter, by layer, feature and author."""
        return Rows(f"Notes on {self.name}", self._source.notes(self.name, **filters))

    def explanations(self, **filters: Unpack[ExplanationFilters]) -> Rows[Explanation]:
        """Explanations of features that pass every filter, by layer and feature."""
        return Rows(f"Explanations in {self.name}", self._source.explanations(self.name, **filters))

    def specificity(self, *, pooling: Pooling | None = None, analysis: str | None = None) -> Rows[LayerSpecificity]:
        """Weak, label-specific and shared features of each layer.

        Args:
            pooling: pooling of the counts; default: the run's.
            analysis: id of the stored analysis of permuted labels; default: that with the default settings.
        """
        listing = self._source.specificity(self.name, pooling=pooling, analysis=analysis)
        return Rows(f"Specificity of {self.name}", listing)

    def classification(self) -> ClassificationResult:
        """Macro-F1 and accuracy with intervals, beside the baseline."""
        return self._source.classification(self.name)

    def sparsity(self) -> SparsityResult:
        """Active features per document and the share of the 20 strongest, layer by layer."""
        return self._source.sparsity(self.name)

    def circuit(self, *, analysis: str | None = None) -> CircuitResult:
        """The stored circuit: with the default settings, or that of the analysis with this id."""
        return self._source.circuit(self.name, analysis=analysis)

    def variants(self, *, analysis: str | None = None) -> VariantsResult:
        """Stored survival of features over written variants: with the default settings, or that of an analysis."""
        return self._source.variants(self.name, analysis=analysis)

    def analyses(self, *, kind: str | None = None) -> Rows[AnalysisRow]:
        """Stored analyses of the run, newest first: knockouts, circuits, studies and others."""
        return Rows(f"Analyses of {self.name}", self._source.analyses(self.name, kind=kind))

    def knockout(
        self,
        settings: KnockoutSettings | None = None,
        *,
        label: str | None = None,
        layer: int | None = None,
        k: int = 20,
    ) -> KnockoutResult:
        """Ablate features and re-run the classifier.

        Args:
            settings: everything that a knockout takes; or, in its place:
            label: the label whose features of largest d are ablated, and whose documents are read.
            layer: the layer of the features.
            k: number of features.
        """
        if settings is None:
            settings = KnockoutSettings(label=label, layer=layer, k=k)
        return self._source.knock_out(self.name, settings)

    def attribution(self, settings: AttributionSettings | None = None, *, text: str | None = None) -> Attribution:
        """Tokens and features that the label of a document or a text depends on; runs the model.

        Args:
            settings: everything that an attribution takes; or, in its place:
            text: title, newline, body.
        """
        return self._source.attribution(self.name, settings or AttributionSettings(text=text))

    def classify(self, texts: list[str]) -> list[Classification]:
        """Predictions of the classifier for texts; runs the model."""
        return self._source.classify(self.name, texts)

    def encode(
        self, texts: list[str], *, pooling: Literal["head", "max", "mean", "none"] | None = None, top: int = 20
    ) -> list[EncodedText]:
        """Strongest features of texts per layer; runs the model."""
        return self._source.encode(self.name, texts, pooling=pooling, top=top)

    def __repr__(self) -> str:
        summary = self.summary
        return (
            f"<Run {self.name}: {summary.corpus.documents:,} documents, {summary.corpus.labels} labels, "
            f"{len(summary.saes.layers)} layers, macro-F1 {summary.scores.macro_f1:.3f}, pooling {summary.pooling}>"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{self.labels().to_html()}"
