"""A store in a directory, with the methods of `tegakari.client.Client`."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# Arrow and pandas ship no types.

from __future__ import annotations

import getpass
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from tegakari.schemas import api
from tegakari.schemas.analysis import AnalysisDetail, AnalysisRow
from tegakari.schemas.analysis_kinds import VARIANTS_ANALYSIS, AnalysisKind
from tegakari.schemas.api import Page
from tegakari.schemas.attribution import Attribution, AttributionSettings
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.errors import NotFoundError, QueryError, StoreError
from tegakari.schemas.explanations import Explanation, NewExplanation, VoteChange
from tegakari.schemas.inference import Classification, EncodedText, EncodeRequest
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.notes import Note, NoteChange
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.sql import SqlValue
from tegakari.schemas.study import ClassificationResult, Comparison, FeatureCues, LabelCues, SparsityResult
from tegakari.schemas.variants import VariantsResult
from tegakari.store.disk.layout import run_directory
from tegakari.store.disk.publish import published_names, read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from tegakari.analyses.engine.run_models import RunModels
    from tegakari.store import Run, Store

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

log = logging.getLogger("tegakari")

PAGE_ROWS = 1000
"""Rows of a page where `limit` does not say otherwise."""


class LocalPages(Generic[T]):
    """Rows of a query, read page by page; the local counterpart of `tegakari.client.Pages`."""

    def __init__(self, row_type: type[T], read: Callable[[str | None], Page[T]]) -> None:
        """Nothing is read yet.

        Args:
            row_type: struct of the rows.
            read: gives the page of a cursor; None: the first.
        """
        self._row_type = row_type
        self._read = read

    def page(self, cursor: str | None = None) -> Page[T]:
        """One page: the first, or the one that `next` of the page before names."""
        return self._read(cursor)

    def __iter__(self) -> Iterator[T]:
        cursor = None
        while True:
            page = self._read(cursor)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def all(self) -> list[T]:
        """All rows."""
        return list(self)

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        from tegakari.store.export.arrow import rows_table

        return rows_table(list(self), self._row_type)


class LocalStore:
    """The runs in a directory. Files of a run are opened with the first query that needs them.

    `filters` of a query are its keyword arguments in `tegakari.store.queries`; None is the default.
    """

    def __init__(self, directory: str | Path, *, device: str = "auto", progress: Progress | None = None) -> None:
        """Nothing is opened yet.

        Args:
            directory: the store's directory.
            device: where classifiers run for `classify`, `encode` and `knock_out`: auto, cpu, cuda or cuda:N.
            progress: of knockouts; None: not shown.
        """
        self.directory = Path(directory)
        self._device = device
        self._progress = progress or NoProgress()
        self._store: Store | None = None
        self._models: dict[str, RunModels] = {}

    def _opened_store(self) -> Store:
        if self._store is None:
            from tegakari.store import Store

            self._store = Store(self.directory)
        return self._store

    def _run(self, name: str) -> Run:
        return self._opened_store().run(name)

    def _models_of(self, run: Run) -> RunModels:
        """The classifier and SAEs of a run; those of one run stay in memory."""
        if run.manifest.fingerprint not in self._models:
            from tegakari.analyses.engine.run_models import load_run_models

            self._models.clear()  # before the next is loaded: both may not fit
            self._models[run.manifest.fingerprint] = load_run_models(run, self._device)
        return self._models[run.manifest.fingerprint]

    def _summaries(self) -> Iterator[api.RunSummary]:
        """Summaries of the runs that can be read; read from run.json alone, so that listing runs is fast."""
        for name in published_names(self.directory):
            try:
                manifest = read_manifest(run_directory(self.directory, name))
            except FileNotFoundError:  # deleted since it was listed
                continue
            except StoreError as error:  # a damaged run must not hide the others
                log.warning("run left out: %s", error.message)
                continue
            yield msgspec.convert(manifest, api.RunSummary, from_attributes=True)

    def runs(self) -> LocalPages[api.RunSummary]:
        """Published runs by name."""
        return LocalPages(api.RunSummary, lambda _: Page(list(self._summaries())))

    def run(self, run: str) -> api.RunSummary:
        """Inputs of a run and scores of its classifier."""
        from tegakari.store.queries import run_summary

        return run_summary(self._run(run))

    def labels(self, run: str) -> LocalPages[api.LabelRow]:
        """Labels of a run in class order."""
        return self._list(api.LabelRow, "labels", run)

    def label(self, run: str, label: str) -> api.LabelDetail:
        """A label and the predictions of its documents."""
        return self._query("label")(self._run(run), label)

    def specificity(self, run: str, **filters: Any) -> LocalPages[api.LayerSpecificity]:
        """Specificity of the features of each layer."""
        return self._list(api.LayerSpecificity, "specificity", run, **filters)

    def label_features(self, run: str, label: str, **filters: Any) -> LocalPages[api.LabelFeature]:
        """Features by Cohen's d for a label, largest first."""
        return self._pages(api.LabelFeature, "label_features", run, label, **filters)

    def features(self, run: str, **filters: Any) -> LocalPages[api.FeatureRow]:
        """Features of a run that pass every filter."""
        return self._pages(api.FeatureRow, "features", run, **filters)

    def feature(self, run: str, layer: int, feature: int, **filters: Any) -> api.FeatureDetail:
        """A feature: statistics, labels by d, strongest positions in context."""
        return self._query("feature")(self._run(run), layer, feature, **_given(filters))

    def feature_labels(self, run: str, layer: int, feature: int, **filters: Any) -> LocalPages[api.FeatureLabel]:
        """Labels by Cohen's d for a feature."""
        return self._pages(api.FeatureLabel, "feature_labels", run, layer, feature, **filters)

    def feature_effects(self, run: str, layer: int, feature: int, **filters: Any) -> LocalPages[api.FeatureEffect]:
        """Labels by the effect of a feature on their logits."""
        return self._pages(api.FeatureEffect, "feature_effects", run, layer, feature, **filters)

    def label_effects(self, run: str, label: str, **filters: Any) -> LocalPages[api.LabelEffect]:
        """Features by their effect on the logit of a label."""
        return self._pages(api.LabelEffect, "label_effects", run, label, **filters)

    def feature_tokens(self, run: str, layer: int, feature: int, **filters: Any) -> LocalPages[api.TopToken]:
        """The strongest positions of a feature, in context."""
        return self._pages(api.TopToken, "feature_tokens", run, layer, feature, **filters)

    def feature_contexts(self, run: str, layer: int, feature: int, **filters: Any) -> LocalPages[api.FeatureContext]:
        """Windows of tokens around positions of a feature, of all strengths, with its activation at every token."""
        return self._pages(api.FeatureContext, "feature_contexts", run, layer, feature, **filters)

    def feature_documents(self, run: str, layer: int, feature: int, **filters: Any) -> LocalPages[api.TopDocument]:
        """The documents in which a feature is strongest."""
        return self._list(api.TopDocument, "feature_documents", run, layer, feature, **filters)

    def feature_neighbours(
        self, run: str, layer: int, feature: int, *, in_run: str | None = None, **filters: Any
    ) -> LocalPages[api.FeatureNeighbour]:
        """Features whose decoder directions are nearest by cosine, of this run or of another."""
        within = None if in_run is None else self._run(in_run)
        return self._list(api.FeatureNeighbour, "feature_neighbours", run, layer, feature, within=within, **filters)

    def feature_histogram(self, run: str, layer: int, feature: int) -> api.ActivationHistogram:
        """Distribution of a feature's pooled activations over documents."""
        return self._query("feature_histogram")(self._run(run), layer, feature)

    def documents(self, run: str, **filters: Any) -> LocalPages[api.DocumentRow]:
        """Documents of a run by id."""
        return self._pages(api.DocumentRow, "documents", run, **filters)

    def document(self, run: str, document: str, **filters: Any) -> api.DocumentDetail:
        """A document: text, label, prediction, strongest features."""
        return self._query("document")(self._run(run), document, **_given(filters))

    def document_features(self, run: str, document: str, **filters: Any) -> LocalPages[api.DocumentFeature]:
        """The strongest features of a document."""
        return self._pages(api.DocumentFeature, "document_features", run, document, **filters)

    def similar_documents(self, run: str, document: str, **filters: Any) -> LocalPages[api.DocumentMatch]:
        """Documents whose embeddings are nearest to a document's, by cosine."""
        return self._list(api.DocumentMatch, "similar_documents", run, document, **filters)

    def search(self, run: str, words: str, **filters: Any) -> LocalPages[api.DocumentMatch]:
        """Documents that contain the words, best first."""
        return self._list(api.DocumentMatch, "search", run, words, **filters)

    def notes(self, run: str, **filters: Any) -> LocalPages[Note]:
        """Notes on features of a run that pass every filter."""
        from tegakari.store.notes import notes

        opened = self._run(run)
        given: dict[str, Any] = {"limit": PAGE_ROWS, **_given(filters)}
        return LocalPages(Note, lambda cursor: notes(opened, cursor=cursor, **given))

    def write_note(self, run: str, layer: int, feature: int, change: NoteChange) -> Note:
        """Write a note on a feature, or change the fields of it that are given; default author: the login name."""
        from tegakari.store.notes import write_note

        return write_note(self._run(run), layer, feature, _author(change.author), change)

    def delete_note(self, run: str, layer: int, feature: int, *, author: str | None = None) -> Note:
        """Delete the note of an author, default: the login name, on a feature, and return it."""
        from tegakari.store.notes import delete_note

        return delete_note(self._run(run), layer, feature, _author(author))

    def explanations(self, run: str, **filters: Any) -> LocalPages[Explanation]:
        """Explanations of features of a run that pass every filter."""
        from tegakari.store.explanations import explanations

        opened = self._run(run)
        given: dict[str, Any] = {"limit": PAGE_ROWS, **_given(filters)}
        return LocalPages(Explanation, lambda cursor: explanations(opened, cursor=cursor, **given))

    def feature_explanations(self, run: str, layer: int, feature: int) -> LocalPages[Explanation]:
        """Explanations of a feature, the best first."""
        from tegakari.store.explanations import feature_explanations

        opened = self._run(run)
        return LocalPages(Explanation, lambda _: Page(feature_explanations(opened, layer, feature)))

    def write_explanation(self, run: str, layer: int, feature: int, new: NewExplanation) -> Explanation:
        """Add an explanation of a feature; default author: the login name."""
        from tegakari.store.explanations import write_explanation

        return write_explanation(self._run(run), layer, feature, _author(new.author), new)

    def vote(self, run: str, layer: int, feature: int, explanation: str, change: VoteChange) -> Explanation:
        """Give an explanation a vote, default author: the login name, and return the explanation."""
        from tegakari.store.explanations import vote

        return vote(self._run(run), layer, feature, explanation, _author(change.author), change)

    def delete_explanation(
        self, run: str, layer: int, feature: int, explanation: str, *, author: str | None = None
    ) -> Explanation:
        """Delete the explanation of an author, default: the login name, and return it."""
        from tegakari.store.explanations import delete_explanation

        return delete_explanation(self._run(run), layer, feature, explanation, _author(author))

    def classification(self, run: str) -> ClassificationResult:
        """Scores of a run's classifier with intervals."""
        from tegakari.analyses.classification import classification

        return classification(self._run(run))

    def sparsity(self, run: str) -> SparsityResult:
        """Active features per document, layer by layer."""
        from tegakari.analyses.sparsity import sparsity

        return sparsity(self._run(run))

    def cues(self, run: str, label: str, *, layer: int | None = None, k: int = 20) -> LabelCues:
        """Tokens on which a label's features fire."""
        from tegakari.analyses.cues import label_cues

        return label_cues(self._run(run), label, layer=layer, k=k)

    def feature_cues(self, run: str, layer: int, feature: int) -> FeatureCues:
        """Tokens on which a feature fires.

        Raises:
            NotFoundError: no such feature, or one that never fires.
        """
        from tegakari.analyses.cues import feature_cues

        cues = feature_cues(self._run(run), layer, feature)
        if cues is None:
            raise NotFoundError(
                f"feature {feature} of layer {layer} never fires", field="feature", fix="choose another"
            )
        return cues

    def circuit(self, run: str, *, analysis: str | None = None) -> CircuitResult:
        """The circuit of a run: by the default settings, or that of an analysis."""
        from tegakari.store.queries.circuit import selected_circuit

        return selected_circuit(self.directory, self._run(run).manifest, analysis)

    def variants(self, run: str, *, analysis: str | None = None) -> VariantsResult:
        """Survival of features over written variants: by the default settings, or that of an analysis."""
        return self._selected(VARIANTS_ANALYSIS, run, analysis)

    def analyses(
        self, run: str | None = None, *, kind: str | None = None, limit: int | None = None
    ) -> LocalPages[AnalysisRow]:
        """Stored analyses of the published runs, or of one run, newest first."""
        from tegakari.store.queries import analyses

        opened, rows = None if run is None else self._run(run), limit or PAGE_ROWS
        return LocalPages(
            AnalysisRow,
            lambda cursor: analyses(self._opened_store(), run=opened, kind=kind, limit=rows, cursor=cursor),
        )

    def analysis(self, analysis: str) -> AnalysisDetail:
        """A stored analysis by its id, with its settings and its result."""
        return self._query("analysis")(self._opened_store(), analysis)

    def delete_analysis(self, analysis: str) -> None:
        """Delete a stored analysis; the same request computes it again."""
        from tegakari.store.results import analysis_with_id, delete_analysis

        delete_analysis(self.directory, analysis_with_id(self.directory, analysis))

    def compare(self, a: str, b: str, *, analysis: str | None = None) -> Comparison:
        """Figures of two runs and their differences, of the study with the default settings or of an analysis."""
        return self._query("compare")(self._run(a), self._run(b), analysis=analysis)

    def compare_features(self, a: str, b: str) -> MatchingResult:
        """Features that two runs share, and those that only one has."""
        from tegakari.analyses.matching import match_features

        return match_features(self._run(a), self._run(b))

    def classify(self, run: str, texts: list[str]) -> list[Classification]:
        """Predictions of a run's classifier for texts; runs the model."""
        from tegakari.analyses.inference import classify_texts

        return list(classify_texts(self._models_of(self._run(run)), texts, self._progress))

    def encode(self, run: str, texts: list[str], **options: Any) -> list[EncodedText]:
        """Active features of texts, by the fields of `EncodeRequest`; runs the model."""
        from tegakari.analyses.inference import encode_request

        opened = self._run(run)
        request = EncodeRequest(texts=texts, **options)
        return encode_request(self._models_of(opened), opened, request, self._progress)

    def attribution(self, run: str, settings: AttributionSettings) -> Attribution:
        """Tokens and features that the label of a document or a text depends on; runs the model."""
        from tegakari.analyses.attribution.settings import attribution_input

        opened = self._run(run)
        inputs = attribution_input(opened, settings)  # before torch is imported
        from tegakari.analyses.attribution.compute import attribution

        return attribution(self._models_of(opened), opened, inputs, self._progress)

    def knock_out(self, run: str, settings: KnockoutSettings) -> KnockoutResult:
        """Ablate features and re-run the classifier; a stored result is read. Runs the model otherwise."""
        from tegakari.analyses.knockout import knock_out_all

        opened = self._run(run)
        (result,) = knock_out_all(
            self.directory, opened, lambda: self._models_of(opened), [settings], progress=self._progress
        )
        return result

    def sql_table(
        self, query: str, parameters: dict[str, SqlValue] | None = None, *, runs: list[str] | None = None
    ) -> pa.Table:
        """One query over the tables of runs; `$name` in it stands for a parameter.

        Raises:
            SqlError: the query is wrong.
        """
        from tegakari.store.sql.query import run_query

        names = [run.name for run in self._opened_store().runs()] if runs is None else runs
        return run_query(self.directory, names, query, parameters).read_all()

    def _query(self, name: str) -> Callable[..., Any]:
        from tegakari.store import queries

        return getattr(queries, name)

    def _pages(self, row_type: type[T], query: str, run: str, *keys: Any, **filters: Any) -> LocalPages[T]:
        """A list that the query gives page by page."""
        opened, read, given = self._run(run), self._query(query), {"limit": PAGE_ROWS, **_given(filters)}
        return LocalPages(row_type, lambda cursor: read(opened, *keys, cursor=cursor, **given))

    def _list(self, row_type: type[T], query: str, run: str, *keys: Any, **filters: Any) -> LocalPages[T]:
        """A list that the query gives as a whole."""
        opened, read, given = self._run(run), self._query(query), _given(filters)
        return LocalPages(row_type, lambda _: Page(read(opened, *keys, **given)))

    def _selected(self, kind: AnalysisKind[Any, R], run: str, analysis: str | None) -> R:
        from tegakari.store.results import selected_result

        return selected_result(self.directory, kind, [self._run(run).manifest], analysis)


def _author(name: str | None) -> str:
    """The name, else that with which the user is logged in.

    Raises:
        QueryError: there is neither.
    """
    if name is not None:
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise QueryError("there is no author", field="author", fix="give a name") from None


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    """Filters that are set; the others have the defaults of the query."""
    return {name: value for name, value in filters.items() if value is not None}
