"""The asynchronous client of the REST API."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# Arrow and pandas ship no types.

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack

import httpx
import msgspec

from tegakari.client.calls import (
    ARROW,
    EVENT_DATA,
    RETRIED,
    Call,
    check,
    decoded,
    http_arguments,
    path,
)
from tegakari.client.errors import ApiError, UnreachableError
from tegakari.client.frames import polars_frame
from tegakari.schemas import api
from tegakari.schemas.analysis import AnalysisDetail, AnalysisRow
from tegakari.schemas.api import Page
from tegakari.schemas.api_index import ApiIndex
from tegakari.schemas.attribution import Attribution, AttributionSettings
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.config import Pooling
from tegakari.schemas.explanations import Explanation, ExplanationFilters, NewExplanation, VoteChange
from tegakari.schemas.filters import EffectOrder, FeatureFilters, LabelFeatureFilters
from tegakari.schemas.inference import Classification, ClassifyRequest, EncodedText, EncodeRequest
from tegakari.schemas.jobs import JobProgress, JobState, KnockoutJob, KnockoutRow
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.notes import Note, NoteChange, NoteFilters
from tegakari.schemas.retries import pause
from tegakari.schemas.sql import SqlRequest, SqlResult, SqlValue
from tegakari.schemas.study import ClassificationResult, Comparison, FeatureCues, LabelCues, SparsityResult
from tegakari.schemas.variants import VariantsResult

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

T = TypeVar("T")


class AsyncPages(Generic[T]):
    """The items of a list: `async for item in pages` fetches page by page; `await pages.all()` gives a list of all."""

    def __init__(self, client: AsyncClient, call: Call[Page[T]]) -> None:
        self._client = client
        self._call = call

    async def __aiter__(self) -> AsyncIterator[T]:
        cursor = None
        while True:
            page = await self.page(cursor)
            for item in page.items:
                yield item
            cursor = page.next
            if cursor is None:
                return

    async def page(self, cursor: str | None = None) -> Page[T]:
        """One page: the first, or the one that `next` of the page before names."""
        response = await self._client.send(self._call, cursor=cursor)
        return decoded(response, self._call.response_type)

    async def all(self) -> list[T]:
        """All items; a list of features can have hundreds of thousands."""
        return [item async for item in self]

    async def to_arrow(self) -> pa.Table:
        """All items as an Arrow table."""
        import pyarrow as pa

        tables = []
        cursor = None
        while True:
            response = await self._client.send(self._call, accept=ARROW, cursor=cursor)
            check(response)
            tables.append(pa.ipc.open_stream(response.content).read_all())
            next_page = response.links.get("next", {}).get("url")
            if next_page is None:
                return pa.concat_tables(tables)
            cursor = httpx.URL(next_page).params["cursor"]

    async def to_pandas(self) -> pd.DataFrame:
        """All items as a data frame of pandas, which must be installed."""
        return (await self.to_arrow()).to_pandas()

    async def to_polars(self) -> pl.DataFrame:
        """All items as a data frame of polars, which must be installed."""
        return polars_frame(await self.to_arrow())


class AsyncClient:
    """The asynchronous client of a service: `async with AsyncClient(url) as client:`, or call `aclose()` at the end.

    Every method raises ApiError with the service's problem document, or UnreachableError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8765",
        *,
        key: str | None = None,
        timeout: float = 90.0,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connections are opened when they are needed.

        Args:
            url: of the service.
            key: an API key; default: the environment variable TEGAKARI_KEY, if it is set.
            timeout: seconds for an answer.
            retries: retries after a response that says to come back (429, 503), or where the service cannot be reached.
            transport: of httpx; for proxies and tests.
        """
        self._http = httpx.AsyncClient(**http_arguments(url, key, timeout), transport=transport)
        self._retries = retries

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[Any], *, accept: str | None = None, **parameters: Any) -> httpx.Response:
        """Send a request, with retries. The response may be a problem.

        Raises:
            UnreachableError: after the last attempt.
        """
        request = call.request(**parameters)
        if accept is not None:
            request["headers"] = {**request["headers"], "accept": accept}
        attempt = 0
        while True:
            response = None
            try:
                response = await self._http.request(**request)
                if response.status_code not in RETRIED or attempt >= self._retries:
                    return response
            except httpx.TransportError as error:
                if attempt >= self._retries or isinstance(error, httpx.TimeoutException):
                    raise UnreachableError(
                        f"{self._http.base_url} does not answer: {error or type(error).__name__}",
                        fix="is the service running, and is the address right?",
                    ) from error
            retry_after = None if response is None else response.headers.get("retry-after")
            await asyncio.sleep(pause(attempt, retry_after))
            attempt += 1

    async def ask(self, call: Call[T]) -> T:
        """The decoded response of one call, for routes without a method of their own."""
        return decoded(await self.send(call), call.response_type)

    async def index(self) -> ApiIndex:
        """Version of the service, and all its operations."""
        return await self.ask(Call("GET", "/v1", ApiIndex))

    async def healthy(self) -> bool:
        """Whether the process answers."""
        return (await self.send(Call("GET", "/healthz", dict))).is_success

    async def ready(self) -> bool:
        """Whether the service can answer queries; one request, no retries."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def metrics(self) -> str:
        """Metrics in Prometheus' text format."""
        response = await self.send(Call("GET", "/metrics", dict), accept="text/plain")
        check(response)
        return response.text

    def runs(self) -> AsyncPages[api.RunSummary]:
        """Published runs by name."""
        return AsyncPages(self, Call("GET", path("runs"), Page[api.RunSummary]))

    async def run(self, run: str) -> api.RunSummary:
        """Inputs of a run and scores of its classifier."""
        return await self.ask(Call("GET", path("runs", run), api.RunSummary))

    def labels(self, run: str) -> AsyncPages[api.LabelRow]:
        """Labels of a run in class order."""
        return AsyncPages(self, Call("GET", path("runs", run, "labels"), Page[api.LabelRow]))

    async def label(self, run: str, label: str) -> api.LabelDetail:
        """A label and the predictions of its documents."""
        return await self.ask(Call("GET", path("runs", run, "labels", label), api.LabelDetail))

    def specificity(
        self, run: str, *, pooling: Pooling | None = None, analysis: str | None = None
    ) -> AsyncPages[api.LayerSpecificity]:
        """Specificity of the features of each layer."""
        parameters = {"pooling": pooling, "analysis": analysis}
        where = path("runs", run, "specificity")
        return AsyncPages(self, Call("GET", where, Page[api.LayerSpecificity], parameters))

    def label_features(
        self, run: str, label: str, *, limit: int | None = None, **filters: Unpack[LabelFeatureFilters]
    ) -> AsyncPages[api.LabelFeature]:
        """Features by Cohen's d for a label, largest first; `limit` is the size of a page."""
        parameters = {**filters, "limit": limit}
        where = path("runs", run, "labels", label, "features")
        return AsyncPages(self, Call("GET", where, Page[api.LabelFeature], parameters))

    def features(
        self, run: str, *, limit: int | None = None, **filters: Unpack[FeatureFilters]
    ) -> AsyncPages[api.FeatureRow]:
        """Features of a run that pass every filter; `limit` is the size of a page."""
        parameters = {**filters, "limit": limit}
        return AsyncPages(self, Call("GET", path("runs", run, "features"), Page[api.FeatureRow], parameters))

    async def feature(
        self,
        run: str,
        layer: int,
        feature: int,
        *,
        pooling: Pooling | None = None,
        tokens: int | None = None,
        onset: bool | None = None,
    ) -> api.FeatureDetail:
        """A feature: statistics, labels by d, strongest positions in context."""
        parameters = {"pooling": pooling, "tokens": tokens, "onset": onset}
        return await self.ask(Call("GET", _feature(run, layer, feature), api.FeatureDetail, parameters))

    def feature_labels(
        self, run: str, layer: int, feature: int, *, pooling: Pooling | None = None, limit: int | None = None
    ) -> AsyncPages[api.FeatureLabel]:
        """Labels by Cohen's d for a feature."""
        parameters = {"pooling": pooling, "limit": limit}
        return AsyncPages(
            self, Call("GET", _feature(run, layer, feature, "labels"), Page[api.FeatureLabel], parameters)
        )

    def feature_effects(
        self, run: str, layer: int, feature: int, *, order: EffectOrder | None = None, limit: int | None = None
    ) -> AsyncPages[api.FeatureEffect]:
        """Labels by the effect of a feature on their logits; largest first, or smallest."""
        parameters = {"order": order, "limit": limit}
        where = _feature(run, layer, feature, "effects")
        return AsyncPages(self, Call("GET", where, Page[api.FeatureEffect], parameters))

    def label_effects(
        self,
        run: str,
        label: str,
        *,
        layer: int | None = None,
        order: EffectOrder | None = None,
        limit: int | None = None,
    ) -> AsyncPages[api.LabelEffect]:
        """Features by their effect on the logit of a label; largest first, or smallest."""
        parameters = {"layer": layer, "order": order, "limit": limit}
        where = path("runs", run, "labels", label, "effects")
        return AsyncPages(self, Call("GET", where, Page[api.LabelEffect], parameters))

    def feature_tokens(
        self, run: str, layer: int, feature: int, *, limit: int | None = None
    ) -> AsyncPages[api.TopToken]:
        """The strongest positions of a feature, in context."""
        where = _feature(run, layer, feature, "tokens")
        return AsyncPages(self, Call("GET", where, Page[api.TopToken], {"limit": limit}))

    def feature_contexts(
        self, run: str, layer: int, feature: int, *, quantile: int | None = None, limit: int | None = None
    ) -> AsyncPages[api.FeatureContext]:
        """Windows of tokens around positions of a feature, of all strengths, with its activation at every token."""
        where = _feature(run, layer, feature, "contexts")
        return AsyncPages(self, Call("GET", where, Page[api.FeatureContext], {"quantile": quantile, "limit": limit}))

    def feature_documents(
        self, run: str, layer: int, feature: int, *, limit: int | None = None
    ) -> AsyncPages[api.TopDocument]:
        """The documents in which a feature is strongest."""
        where = _feature(run, layer, feature, "documents")
        return AsyncPages(self, Call("GET", where, Page[api.TopDocument], {"limit": limit}))

    def feature_neighbours(
        self,
        run: str,
        layer: int,
        feature: int,
        *,
        in_run: str | None = None,
        in_layer: int | None = None,
        limit: int | None = None,
    ) -> AsyncPages[api.FeatureNeighbour]:
        """Features whose decoder directions are nearest by cosine, of this run or of another."""
        parameters = {"in": in_run, "in_layer": in_layer, "limit": limit}
        where = _feature(run, layer, feature, "neighbours")
        return AsyncPages(self, Call("GET", where, Page[api.FeatureNeighbour], parameters))

    async def feature_histogram(self, run: str, layer: int, feature: int) -> api.ActivationHistogram:
        """Distribution of a feature's pooled activations over documents."""
        return await self.ask(Call("GET", _feature(run, layer, feature, "histogram"), api.ActivationHistogram))

    def documents(
        self,
        run: str,
        *,
        label: str | None = None,
        predicted: str | None = None,
        correct: bool | None = None,
        limit: int | None = None,
    ) -> AsyncPages[api.DocumentRow]:
        """Documents of a run by id; `limit` is the size of a page."""
        parameters = {"label": label, "predicted": predicted, "correct": correct, "limit": limit}
        return AsyncPages(self, Call("GET", path("runs", run, "documents"), Page[api.DocumentRow], parameters))

    async def document(
        self, run: str, document: str, *, layer: int | None = None, features: int | None = None
    ) -> api.DocumentDetail:
        """A document: text, label, prediction, strongest features."""
        parameters = {"layer": layer, "features": features}
        return await self.ask(Call("GET", path("runs", run, "documents", document), api.DocumentDetail, parameters))

    def document_features(
        self, run: str, document: str, *, layer: int | None = None, limit: int | None = None
    ) -> AsyncPages[api.DocumentFeature]:
        """The strongest features of a document."""
        where = path("runs", run, "documents", document, "features")
        return AsyncPages(self, Call("GET", where, Page[api.DocumentFeature], {"layer": layer, "limit": limit}))

    def similar_documents(self, run: str, document: str, *, limit: int | None = None) -> AsyncPages[api.DocumentMatch]:
        """Documents whose embeddings are nearest to a document's, by cosine."""
        where = path("runs", run, "documents", document, "similar")
        return AsyncPages(self, Call("GET", where, Page[api.DocumentMatch], {"limit": limit}))

    def search(self, run: str, words: str, *, limit: int | None = None) -> AsyncPages[api.DocumentMatch]:
        """Documents that contain the words, best first."""
        parameters = {"q": words, "limit": limit}
        return AsyncPages(self, Call("GET", path("runs", run, "search"), Page[api.DocumentMatch], parameters))

    def notes(self, run: str, *, limit: int | None = None, **filters: Unpack[NoteFilters]) -> AsyncPages[Note]:
        """Notes on features of a run that pass every filter; `limit` is the size of a page."""
        parameters = {**filters, "limit": limit}
        return AsyncPages(self, Call("GET", path("runs", run, "notes"), Page[Note], parameters))

    async def write_note(self, run: str, layer: int, feature: int, change: NoteChange) -> Note:
        """Write the caller's note on a feature, or change the fields of it that are given."""
        return await self.ask(Call("PATCH", _feature(run, layer, feature, "note"), Note, body=change))

    async def delete_note(self, run: str, layer: int, feature: int, *, author: str | None = None) -> Note:
        """Delete the note of an author, default: the caller's, on a feature, and return it."""
        return await self.ask(Call("DELETE", _feature(run, layer, feature, "note"), Note, {"author": author}))

    def explanations(
        self, run: str, *, limit: int | None = None, **filters: Unpack[ExplanationFilters]
    ) -> AsyncPages[Explanation]:
        """Explanations of features of a run that pass every filter; `limit` is the size of a page."""
        parameters = {**filters, "limit": limit}
        return AsyncPages(self, Call("GET", path("runs", run, "explanations"), Page[Explanation], parameters))

    def feature_explanations(self, run: str, layer: int, feature: int) -> AsyncPages[Explanation]:
        """Explanations of a feature, the best first."""
        return AsyncPages(self, Call("GET", _feature(run, layer, feature, "explanations"), Page[Explanation]))

    async def write_explanation(self, run: str, layer: int, feature: int, new: NewExplanation) -> Explanation:
        """Add the caller's explanation of a feature; the same text twice is one explanation."""
        return await self.ask(Call("POST", _feature(run, layer, feature, "explanations"), Explanation, body=new))

    async def vote(self, run: str, layer: int, feature: int, explanation: str, change: VoteChange) -> Explanation:
        """Give an explanation the caller's vote, which replaces the one before, and return the explanation."""
        where = _feature(run, layer, feature, "explanations", explanation, "vote")
        return await self.ask(Call("POST", where, Explanation, body=change))

    async def delete_explanation(
        self, run: str, layer: int, feature: int, explanation: str, *, author: str | None = None
    ) -> Explanation:
        """Delete the explanation of an author, default: the caller, and return it."""
        where = _feature(run, layer, feature, "explanations", explanation)
        return await self.ask(Call("DELETE", where, Explanation, {"author": author}))

    async def classification(self, run: str) -> ClassificationResult:
        """Scores of a run's classifier with intervals."""
        return await self.ask(Call("GET", path("runs", run, "classification"), ClassificationResult))

    async def sparsity(self, run: str) -> SparsityResult:
        """Active features per document, layer by layer."""
        return await self.ask(Call("GET", path("runs", run, "sparsity"), SparsityResult))

    async def cues(self, run: str, label: str, *, layer: int | None = None, k: int = 20) -> LabelCues:
        """Tokens on which a label's features fire."""
        parameters = {"label": label, "layer": layer, "k": k}
        return await self.ask(Call("GET", path("runs", run, "cues"), LabelCues, parameters))

    async def feature_cues(self, run: str, layer: int, feature: int) -> FeatureCues:
        """Tokens on which a feature fires."""
        return await self.ask(Call("GET", _feature(run, layer, feature, "cues"), FeatureCues))

    async def circuit(self, run: str, *, analysis: str | None = None) -> CircuitResult:
        """The circuit of a run: by the default settings, or that of an analysis."""
        return await self.ask(Call("GET", path("runs", run, "circuit"), CircuitResult, {"analysis": analysis}))

    async def variants(self, run: str, *, analysis: str | None = None) -> VariantsResult:
        """Survival of features over written variants: by the default settings, or that of an analysis."""
        return await self.ask(Call("GET", path("runs", run, "variants"), VariantsResult, {"analysis": analysis}))

    def analyses(
        self, run: str | None = None, *, kind: str | None = None, limit: int | None = None
    ) -> AsyncPages[AnalysisRow]:
        """Stored analyses of the published runs, or of one run, newest first; `limit` is the size of a page."""
        where = path("analyses") if run is None else path("runs", run, "analyses")
        return AsyncPages(self, Call("GET", where, Page[AnalysisRow], {"kind": kind, "limit": limit}))

    async def analysis(self, analysis: str) -> AnalysisDetail:
        """A stored analysis by its id, with its settings and its result."""
        return await self.ask(Call("GET", path("analyses", analysis), AnalysisDetail))

    async def delete_analysis(self, analysis: str) -> None:
        """Delete a stored analysis; the same request computes it again. Needs a key of scope `admin`."""
        check(await self.send(Call("DELETE", path("analyses", analysis), dict)))

    async def compare(self, a: str, b: str, *, analysis: str | None = None) -> Comparison:
        """Figures of two runs and their differences, of the study with the default settings or of an analysis."""
        parameters = {"runs": f"{a},{b}", "analysis": analysis}
        return await self.ask(Call("GET", path("compare"), Comparison, parameters))

    async def compare_features(self, a: str, b: str) -> MatchingResult:
        """Features that two runs share, and those that only one has."""
        return await self.ask(Call("GET", path("compare", "features"), MatchingResult, {"runs": f"{a},{b}"}))

    async def classify(self, run: str, texts: list[str]) -> list[Classification]:
        """Predictions of a run's classifier for texts; runs the model."""
        body = ClassifyRequest(texts=texts)
        response = await self.ask(Call("POST", path("runs", run, "classify"), Page[Classification], body=body))
        return response.items

    async def encode(
        self,
        run: str,
        texts: list[str],
        *,
        layers: list[int] | None = None,
        features: list[int] | None = None,
        pooling: Literal["head", "max", "mean", "none"] | None = None,
        top: int = 20,
    ) -> list[EncodedText]:
        """Active features of texts, pooled over each or position by position (`pooling="none"`); runs the model."""
        body = EncodeRequest(texts=texts, layers=layers, features=features, pooling=pooling, top=top)
        response = await self.ask(Call("POST", path("runs", run, "encode"), Page[EncodedText], body=body))
        return response.items

    async def attribution(self, run: str, settings: AttributionSettings) -> Attribution:
        """Tokens and features that the label of a document or a text depends on; runs the model."""
        return await self.ask(Call("POST", path("runs", run, "attribution"), Attribution, body=settings))

    async def start_knockout(self, run: str, settings: KnockoutSettings, *, wait: float = 0) -> KnockoutJob:
        """Start a knockout and wait for it up to `wait` seconds; runs the model."""
        return await self.ask(Call("POST", path("runs", run, "knockouts"), KnockoutJob, {"wait": wait}, settings))

    async def knock_out(self, run: str, settings: KnockoutSettings, *, wait: float = 30) -> KnockoutResult:
        """Ablate features, re-run the classifier, and wait for the result, however long that takes.

        Args:
            run: the run.
            settings: the features to ablate and the documents to re-run.
            wait: seconds that one request waits for the result before the next one is sent.
        """
        while True:
            job = await self.start_knockout(run, settings, wait=wait)
            if job.result is not None:
                return job.result

    def knockouts(
        self, run: str | None = None, *, state: JobState | None = None, limit: int | None = None
    ) -> AsyncPages[KnockoutRow]:
        """Knockouts, the last one first: those that wait or run, those that ended without a result, stored results."""
        parameters = {"run": run, "state": state, "limit": limit}
        return AsyncPages(self, Call("GET", path("knockouts"), Page[KnockoutRow], parameters))

    async def knockout(self, knockout: str) -> KnockoutJob:
        """State of a knockout by its id, with its result once it is done."""
        return await self.ask(Call("GET", path("knockouts", knockout), KnockoutJob))

    async def cancel_knockout(self, knockout: str) -> KnockoutJob:
        """Cancel a knockout that is queued or running; a finished one stays as it is."""
        return await self.ask(Call("DELETE", path("knockouts", knockout), KnockoutJob))

    async def follow_knockout(self, knockout: str) -> AsyncIterator[JobProgress]:
        """Progress of a knockout as it arrives; the last event holds its final state."""
        where = path("knockouts", knockout, "events")
        async with self._http.stream("GET", where, timeout=None) as response:
            if not response.is_success:
                await response.aread()
                check(response)
            async for line in response.aiter_lines():
                if line.startswith(EVENT_DATA):
                    yield msgspec.json.decode(line.removeprefix(EVENT_DATA), type=JobProgress)

    async def sql(
        self,
        query: str,
        parameters: dict[str, SqlValue] | None = None,
        *,
        runs: list[str] | None = None,
        limit: int = 1000,
        seconds: float = 10,
    ) -> SqlResult:
        """One SELECT over the tables of runs; `$name` in it stands for a parameter."""
        body = SqlRequest(sql=query, parameters=parameters or {}, runs=runs, limit=limit, seconds=seconds)
        return await self.ask(Call("POST", path("sql"), SqlResult, body=body))

    async def sql_table(
        self,
        query: str,
        parameters: dict[str, SqlValue] | None = None,
        *,
        runs: list[str] | None = None,
        limit: int = 100_000,
        seconds: float = 10,
    ) -> pa.Table:
        """As `sql`, as an Arrow table.

        Raises:
            ApiError: also where there are more rows than `limit`: a table must not be cut unnoticed.
        """
        import pyarrow as pa

        body = SqlRequest(sql=query, parameters=parameters or {}, runs=runs, limit=limit, seconds=seconds)
        response = await self.send(Call("POST", path("sql"), SqlResult, body=body), accept=ARROW)
        check(response)
        if "tegakari-truncated" in response.headers:
            raise ApiError(
                response.status_code, "The result was cut", f"more than {limit} rows, or too many bytes", field="limit"
            )
        return pa.ipc.open_stream(response.content).read_all()


def _feature(run: str, layer: int, feature: int, *more: str) -> str:
    return path("runs", run, "layers", layer, "features", feature, *more)
