"""One document of a run."""

from __future__ import annotations

from functools import cached_property
from html import escape

from tegakari.access.rows import Rows
from tegakari.access.source import Source
from tegakari.schemas.api import DocumentDetail, DocumentFeature, DocumentMatch
from tegakari.schemas.attribution import Attribution, AttributionSettings


class Document:
    """A document: its text, label, prediction and strongest features."""

    def __init__(self, source: Source, run: str, id_: str) -> None:
        self._source = source
        self._run = run
        self.id = id_

    @cached_property
    def detail(self) -> DocumentDetail:
        """Text, label, prediction and the strongest features of each layer."""
        return self._source.document(self._run, self.id)

    def features(self, *, layer: int | None = None) -> Rows[DocumentFeature]:
        """The strongest features of each layer, by the run's pooling."""
        listing = self._source.document_features(self._run, self.id, layer=layer)
        return Rows(f"Features of document {self.id} in {self._run}", listing)

    def similar(self, *, limit: int = 20) -> Rows[DocumentMatch]:
        """Documents with the nearest embeddings by cosine."""
        listing = self._source.similar_documents(self._run, self.id, limit=limit)
        return Rows(f"Documents like {self.id} in {self._run}", listing)

    def attribution(self, *, label: str | None = None, layers: list[int] | None = None) -> Attribution:
        """Tokens and features that the document's label depends on; runs the model.

        Args:
            label: whose margin is attributed; default: the predicted one.
            layers: of the features; default: all of the run.
        """
        settings = AttributionSettings(document=self.id, label=label, layers=layers)
        return self._source.attribution(self._run, settings)

    def __repr__(self) -> str:
        detail = self.detail
        verdict = "correctly" if detail.correct else f"as {detail.predicted}"
        return f"<Document {self.id} of {self._run}: {detail.label}, predicted {verdict}, {detail.tokens} tokens>"

    def _repr_html_(self) -> str:
        return f'<p>{escape(repr(self)[1:-1])}</p><pre style="white-space:pre-wrap">{escape(self.detail.text)}</pre>'
