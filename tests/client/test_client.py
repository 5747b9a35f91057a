"""The client against a real server: every route, every page, every label, and what goes wrong."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import pytest

from tegakari.client import ApiError, AsyncClient, Client, UnreachableError
from tegakari.schemas.attribution import AttributionSettings
from tegakari.schemas.explanations import Explanation, ExplanationFilters, NewExplanation, VoteChange
from tegakari.schemas.filters import FeatureFilters, LabelFeatureFilters
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.notes import Note, NoteChange, NoteFilters
from tegakari.store import Store, queries
from tests.support.factories import LABELS
from tests.support.service import RUN


def strongest(client: Client) -> int:
    return client.label_features("small", "車/軽", layer=1).page().items[0].feature


ASKED = KnockoutSettings(label="車/軽", layer=1, k=3)

"""A knockout of the run whose models are at hand."""


def analysis_id(client: Client, kind: str) -> str:
    return client.analyses("small", kind=kind).page().items[0].id


def deleted_analysis(client: Client) -> bool:
    id_ = client.start_knockout("small", msgspec.structs.replace(ASKED, seed=5), wait=30).id
    stored = client.analysis(id_)
    client.delete_analysis(id_)
    return stored.kind == "knockout" and id_ not in {row.id for row in client.analyses()}


def written_note(client: Client) -> Note:
    return client.write_note(RUN, 2, 5, NoteChange(author="Ann", starred=True))


def deleted_note(client: Client) -> Note:
    written_note(client)
    return client.delete_note(RUN, 2, 5, author="Ann")


def written_explanation(client: Client) -> Explanation:
    return client.write_explanation(RUN, 2, 5, NewExplanation(author="Ann", text="kei trucks"))


def deleted_explanation(client: Client) -> Explanation:
    return client.delete_explanation(RUN, 2, 5, written_explanation(client).id, author="Ann")


OPERATIONS: dict[str, Callable[[Client], object]] = {
    "listNotes": lambda c: written_note(c) in c.notes(RUN, layer=2, feature=5).all(),
    "writeNote": written_note,
    "deleteNote": deleted_note,
    "listExplanations": lambda c: written_explanation(c).id in {row.id for row in c.explanations(RUN, layer=2).all()},
    "listFeatureExplanations": lambda c: written_explanation(c) and c.feature_explanations(RUN, 2, 5).all(),
    "writeExplanation": written_explanation,
    "voteOnExplanation": lambda c: (
        c.vote(RUN, 2, 5, written_explanation(c).id, VoteChange(value=1, author="Bob")).votes[0].value == 1
    ),
    "deleteExplanation": deleted_explanation,
    "getIndex": lambda c: c.index().operations,
    "getHealth": lambda c: c.healthy(),
    "getReadiness": lambda c: c.ready(),
    "getMetrics": lambda c: c.metrics(),
    "listRuns": lambda c: c.runs().all(),
    "getRun": lambda c: c.run(RUN),
    "listLabels": lambda c: c.labels(RUN).all(),
    "getLabel": lambda c: c.label(RUN, LABELS[2]),
    "listLabelFeatures": lambda c: c.label_features(
        RUN, LABELS[0], layer=0, min_cohens_d=0.5, variety="specific"
    ).all(),
    "getSpecificity": lambda c: c.specificity(RUN, pooling="max").all(),
    "listFeatures": lambda c: c.features(RUN, layer=1, order="density", limit=5).page().items,
    "getFeature": lambda c: c.feature(RUN, 0, 1, tokens=2),
    "listFeatureLabels": lambda c: c.feature_labels(RUN, 0, 1).all(),
    "listFeatureTokens": lambda c: c.feature_tokens(RUN, 0, 1).all(),
    "listFeatureContexts": lambda c: c.feature_contexts(RUN, 0, 1, quantile=10).all(),
    "listFeatureDocuments": lambda c: c.feature_documents(RUN, 0, 1).all(),
    "getFeatureHistogram": lambda c: c.feature_histogram(RUN, 0, 1),
    "listDocuments": lambda c: c.documents(RUN, correct=True).all(),
    "getDocument": lambda c: c.document(RUN, f"{LABELS[1]}-000", features=3),
    "listDocumentFeatures": lambda c: c.document_features(RUN, f"{LABELS[1]}-000", layer=0).all(),
    "listFeatureEffects": lambda c: c.feature_effects(RUN, 0, 1, order="smallest").all(),
    "listLabelEffects": lambda c: c.label_effects(RUN, LABELS[0], layer=1, limit=9).page(),
    "listFeatureNeighbours": lambda c: c.feature_neighbours("small", 0, 1, in_run="small", in_layer=1, limit=3).all(),
    "listSimilarDocuments": lambda c: c.similar_documents("small", c.documents("small").page().items[0].document).all(),
    "searchDocuments": lambda c: c.search("small", "軽トラ", limit=3).all(),
    "classifyTexts": lambda c: c.classify("small", ["軽トラ"]),
    "attributePrediction": lambda c: c.attribution("small", AttributionSettings(text="軽トラ", draws=2)),
    "encodeTexts": lambda c: c.encode("small", ["軽トラ"], top=3),
    "getClassification": lambda c: c.classification(RUN),
    "getSparsity": lambda c: c.sparsity(RUN),
    "getCues": lambda c: c.cues("small", "車/軽", layer=1, k=3),
    "getFeatureCues": lambda c: c.feature_cues(
        "small", 1, c.features("small", layer=1, order="density").page().items[0].feature
    ),
    "getCircuit": lambda c: c.circuit("small", analysis=analysis_id(c, "circuit")),
    "getVariants": lambda c: c.variants("small", analysis=analysis_id(c, "variants")),
    "listAnalyses": lambda c: c.analyses().all(),
    "listRunAnalyses": lambda c: c.analyses("small", kind="study").all(),
    "getAnalysis": lambda c: c.analysis(analysis_id(c, "study")),
    "deleteAnalysis": deleted_analysis,
    "compareFeatures": lambda c: c.compare_features("small", "small"),
    "compareRuns": lambda c: c.compare("small", "small", analysis=analysis_id(c, "study")),
    "listKnockouts": lambda c: c.knock_out("small", ASKED) and c.knockouts("small", state="done").page().items,
    "knockOut": lambda c: c.knock_out("small", ASKED),
    "getKnockout": lambda c: c.knockout(c.start_knockout("small", ASKED, wait=30).id),
    "cancelKnockout": lambda c: c.cancel_knockout(c.start_knockout("small", ASKED, wait=30).id),
    "followKnockout": lambda c: list(c.follow_knockout(c.start_knockout("small", ASKED, wait=30).id)),
    "querySql": lambda c: c.sql("SELECT $a AS a", {"a": 1}),
}
"""A call for each operation of the service."""

PAGES = {"getErrorPage"}
"""Operations for people: they return a page, and the client has no method for them."""


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_can_be_asked(client: Client, operation: str):
    assert OPERATIONS[operation](client)


def test_no_operation_is_left_out(address: str):
    document = httpx.get(f"{address}/schema/openapi.json", timeout=60).json()
    operations = {method["operationId"] for item in document["paths"].values() for method in item.values()}
    assert operations - PAGES == OPERATIONS.keys()


def test_every_query_parameter_can_be_given(address: str):
    """By name, in some method of the client; cursors and formats are its own business."""
    document = httpx.get(f"{address}/schema/openapi.json", timeout=60).json()
    taken = {
        name
        for _, method in inspect.getmembers(Client, inspect.isfunction)
        for name in inspect.signature(method).parameters
    }
    taken |= FeatureFilters.__annotations__.keys() | LabelFeatureFilters.__annotations__.keys()
    taken |= NoteFilters.__annotations__.keys() | ExplanationFilters.__annotations__.keys()
    taken |= {"in", "q", "runs"}  # have other names: in_run, words, a and b
    for item in document["paths"].values():
        for operation in item.values():
            asked = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
            assert asked - {"cursor", "format", "fields"} <= taken, operation["operationId"]


def test_pages_are_one_list(client: Client, store: Path):
    found = list(client.label_features(RUN, LABELS[1], limit=7))
    page = queries.label_features(Store(store).run(RUN), LABELS[1], limit=1000)
    assert found == page.items
    assert len(found) > 14, "one page would prove nothing"


@pytest.mark.parametrize("label", LABELS)
def test_labels_of_every_kind(client: Client, label: str):
    assert client.label(RUN, label).label == label
    assert client.label_features(RUN, label).page().items
    assert {row.label for row in client.documents(RUN, label=label)} == {label}


def test_tables_hold_what_the_pages_do(client: Client):
    pages = client.label_features(RUN, LABELS[0], limit=9)
    rows = pages.all()
    table = pages.to_arrow()
    assert table.column("feature").to_pylist() == [row.feature for row in rows]
    assert table.column("top_tokens").to_pylist() == [row.top_tokens for row in rows]
    assert pages.to_pandas()["cohens_d"].tolist() == [row.cohens_d for row in rows]
    assert pages.to_polars()["cohens_d"].to_list() == [row.cohens_d for row in rows]


def test_sql_comes_as_rows_and_as_a_table(client: Client):
    query = "SELECT label FROM labels WHERE run = $run ORDER BY label_id"
    assert [row["label"] for row in client.sql(query, {"run": RUN}).items] == list(LABELS)
    assert client.sql_table(query, {"run": RUN}).column("label").to_pylist() == list(LABELS)
    with pytest.raises(ApiError, match="more than 2 rows"):
        client.sql_table("FROM range(3)", limit=2)


def test_asyncio_asks_many_at_once(address: str, client: Client):
    async def scenario() -> list[str]:
        async with AsyncClient(address) as asking:
            assert [row async for row in asking.labels(RUN)] == client.labels(RUN).all()
            assert (await asking.labels(RUN).to_arrow()).num_rows == len(LABELS)
            found = await asyncio.gather(*(asking.label(RUN, label) for label in LABELS * 5))
            return [one.label for one in found]

    assert asyncio.run(scenario()) == list(LABELS * 5)


def test_problems_are_exceptions(client: Client):
    with pytest.raises(ApiError) as missing:
        client.label(RUN, "no such label")
    assert (missing.value.status, missing.value.kind, missing.value.field) == (404, "not-found", "label")
    assert "no such label" in missing.value.message
    with pytest.raises(ApiError) as wrong:
        client.sql("SELECT nothing FROM labels")
    assert wrong.value.kind == "bad-sql"
    with pytest.raises(ApiError) as absent:
        client.classify(RUN, ["x"])
    assert (absent.value.status, absent.value.kind) == (409, "model-not-here")


def test_nobody_there_is_said():
    with Client("http://127.0.0.1:9", retries=1) as nobody:
        with pytest.raises(UnreachableError, match="does not answer"):
            nobody.run(RUN)
        assert not nobody.ready()


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, Counter[int]]]:
    """A server that gives these answers one after another, the last one for good."""
    left, given = list(statuses), Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = left.pop(0) if len(left) > 1 else left[0]
            given[status] += 1
            body = b'{"status": "ok"}' if status == 200 else b"<html>bad gateway</html>"
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", given
        server.shutdown()


def test_a_busy_service_is_asked_again():
    with answering(503, 429, 503, 200) as (url, given), Client(url) as asking:
        assert asking.healthy()
    assert given == {503: 2, 429: 1, 200: 1}


def test_not_for_ever_and_not_for_what_does_not_pass():
    with answering(503) as (url, given), Client(url, retries=2) as asking:
        assert not asking.healthy()
        assert given[503] == 3
    with answering(502) as (url, given), Client(url) as asking:
        with pytest.raises(ApiError, match="bad gateway"):
            asking.run(RUN)
        assert given[502] == 1


def test_the_key_is_sent(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"items": []})

    transport = httpx.MockTransport(answer)
    monkeypatch.delenv("TEGAKARI_KEY", raising=False)
    for key in (None, "given"):
        Client(key=key, transport=transport).runs().all()
    monkeypatch.setenv("TEGAKARI_KEY", "of the environment")
    Client(transport=transport).runs().all()
    assert seen == [None, "Bearer given", "Bearer of the environment"]


def test_it_imports_without_the_heavy_libraries():
    heavy = ("torch", "transformers", "duckdb", "pyarrow", "litestar", "lancedb", "numba", "pandas", "polars")
    program = f"import tegakari.client, sys; sys.exit(str([m for m in {heavy!r} if m in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_knockout_is_waited_for_and_followed(client: Client, address: str):
    texts = [row.text for row in client.documents("small").all()] * 5
    asked = KnockoutSettings(label="車/軽", layer=0, k=4, draws=100, texts=texts[:200])
    job = client.start_knockout("small", asked)
    assert job.state in ("queued", "loading", "running")
    said = list(client.follow_knockout(job.id))
    assert said[-1].state == "done"
    assert [each.done for each in said] == sorted(each.done for each in said)
    found = client.knockout(job.id)
    assert found.result
    assert found.result.documents == 200
    assert client.knock_out("small", asked, wait=0) == found.result
    again = msgspec.structs.replace(asked, seed=1)
    assert client.cancel_knockout(client.start_knockout("small", again).id).state == "cancelled"
    with pytest.raises(ApiError, match="not 99"):
        client.knock_out("small", KnockoutSettings(label="車/軽", layer=0, k=99))
    with pytest.raises(ApiError) as caught:
        list(client.follow_knockout("none"))
    assert caught.value.status == 404

    async def waited() -> object:
        async with AsyncClient(address) as other:
            return [each async for each in other.follow_knockout(job.id)], await other.knock_out("small", asked)

    assert asyncio.run(waited()) == (said[-1:], found.result)


def test_notes(client: Client):
    note = client.write_note(RUN, 1, 3, NoteChange(author="Ann", text="軽トラ", tags=["車"], starred=True))
    for feature in range(4, 8):
        client.write_note(RUN, 1, feature, NoteChange(author="Ann", starred=True))
    assert client.notes(RUN, q="軽トラ").all() == [note]
    assert [row.feature for row in client.notes(RUN, starred=True, layer=1, limit=2)] == [3, 4, 5, 6, 7]
    assert client.notes(RUN, layer=1, limit=2).to_arrow().num_rows == 5
    (row,) = client.sql("SELECT * FROM notes WHERE feature = 3", runs=[RUN]).items
    assert (row["run"], row["author"], row["tags"], row["text"]) == (RUN, "Ann", ["車"], "軽トラ")
    for feature in range(3, 8):
        client.delete_note(RUN, 1, feature, author="Ann")
    with pytest.raises(ApiError, match="has no note"):
        client.delete_note(RUN, 1, 3, author="Ann")
    with pytest.raises(ApiError, match="no author"):
        client.write_note(RUN, 1, 3, NoteChange(starred=True))
