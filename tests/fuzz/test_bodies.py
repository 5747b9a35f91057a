"""Drawn bodies and queries: the types of `schemas/` decide, refusals name a field, and nothing fails."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tegakari.schemas.attribution import AttributionSettings
from tegakari.schemas.inference import ClassifyRequest, EncodeRequest
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.sql import SqlRequest
from tests.support.asgi import AsgiClient
from tests.support.factories import LABELS
from tests.support.fuzzing import NESTED, NUMBERS, TEXTS, VALUES, changed, changed_bytes, drawn
from tests.support.service import RUN, segment

JSON = ((b"host", b"127.0.0.1"), (b"content-type", b"application/json"))

BODIES: dict[str, tuple[str, type[msgspec.Struct], list[Any]]] = {
    "classify": (f"/v1/runs/{RUN}/classify", ClassifyRequest, [{"texts": ["a", "車"]}]),
    "encode": (
        f"/v1/runs/{RUN}/encode",
        EncodeRequest,
        [{"texts": ["a"], "layers": [1], "features": [2, 3], "pooling": "none", "top": 5}],
    ),
    "attribution": (
        f"/v1/runs/{RUN}/attribution",
        AttributionSettings,
        [
            {"document": f"{LABELS[0]}-000", "label": LABELS[1], "layers": [0, 2], "candidates": 3, "max_set": 2},
            {"text": "車", "draws": 1, "seed": 3},
        ],
    ),
    "knockouts": (
        f"/v1/runs/{RUN}/knockouts?wait=30",
        KnockoutSettings,
        [
            {"label": LABELS[0], "layer": 1, "k": 3, "pooling": "max", "draws": 1, "seed": 3, "holdout": True},
            {"features": [{"layer": 0, "feature": 1}], "documents": [f"{LABELS[0]}-000"], "mode": "reconstruction"},
            {"features": [{"layer": 2, "feature": 0}], "texts": ["a"], "positions": "head", "details": "logits"},
            {"label": LABELS[1], "layer": 0, "documents_of": LABELS[2]},
        ],
    ),
}
"""Path, type and valid bodies of the routes that compute. The run's models are not on this machine: 409 at best."""


def decodes(body: bytes, kind: type[msgspec.Struct]) -> bool:
    try:
        msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("name", BODIES)
def test_drawn_bodies_are_refused_by_their_type(client: AsgiClient, name: str):
    path, kind, valid = BODIES[name]
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]

    @drawn(120)
    @given(
        st.one_of(
            st.sampled_from(valid).flatmap(changed).map(lambda value: json.dumps(value).encode()),
            st.sampled_from(valid).flatmap(lambda value: changed_bytes(json.dumps(value).encode())),
            st.dictionaries(st.one_of(st.sampled_from(fields), TEXTS), VALUES, max_size=4).map(
                lambda value: json.dumps(value).encode()
            ),
            NESTED.map(lambda text: b'{"texts": ' + text.encode()),
        )
    )
    def check(body: bytes) -> None:
        response = client.request("POST", path.encode(), JSON, body)
        assert response.header("content-type") == "application/problem+json", response.body
        problem = json.loads(response.body)
        assert response.status == problem["status"]
        if decodes(body, kind):
            assert response.status in (400, 404, 409), response.body
        else:
            assert response.status in (400, 413), response.body
        assert "Traceback" not in problem["detail"]

    check()


def test_drawn_bodies_of_sql_are_refused_by_their_type(client: AsgiClient):
    """Those that are right would start a process each: only wrong ones are sent."""
    valid = {"sql": "SELECT 1", "runs": [RUN], "parameters": {"a": 1}, "limit": 5, "seconds": 1.5}

    @drawn(120)
    @given(
        st.one_of(
            changed(valid).map(lambda value: json.dumps(value).encode()),
            changed_bytes(json.dumps(valid).encode()),
            NESTED.map(lambda text: b'{"sql": "SELECT 1", "parameters": ' + text.encode()),
        )
    )
    def check(body: bytes) -> None:
        if not decodes(body, SqlRequest):
            response = client.request("POST", b"/v1/sql", JSON, body)
            assert response.status in (400, 413), response.body
            assert response.header("content-type") == "application/problem+json"

    check()


LISTS = {
    f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features": {
        "layer",
        "pooling",
        "min_cohens_d",
        "variety",
        "limit",
        "cursor",
    },
    f"/v1/runs/{RUN}/features": {
        *("layer", "token", "variety", "min_density", "max_density", "min_cohens_d", "order", "limit", "cursor"),
    },
    f"/v1/runs/{RUN}/documents": {"label", "predicted", "correct", "limit", "cursor"},
    f"/v1/runs/{RUN}/layers/0/features/1/tokens": {"limit", "cursor"},
    f"/v1/runs/{RUN}/layers/0/features/1/contexts": {"quantile", "limit", "cursor"},
    f"/v1/runs/{RUN}/search": {"q", "limit"},
    f"/v1/runs/{RUN}/layers/0/features/1/neighbours": {"in", "in_layer", "limit"},
}
"""Parameters of some lists, beside `format` and `fields`."""

WORDS = st.one_of(
    NUMBERS.map(str),
    TEXTS,
    st.sampled_from(["specific", "shared", "true", "false", "max", "d", "json", "csv", "arrow", "parquet", RUN, "1.0"]),
    st.sampled_from(
        ["+5", "0x1", "1_0", "５", "1e2", "nan", "-inf", "layer,feature", "d,d", "*", '"a" AND', "a*", "(("]
    ),
)


@pytest.mark.parametrize("path", LISTS)
def test_drawn_parameters_are_applied_or_refused(client: AsgiClient, path: str):
    known = sorted({*LISTS[path], "format", "fields"})

    @drawn(100)
    @given(st.lists(st.tuples(st.one_of(st.sampled_from(known), st.sampled_from(known), TEXTS), WORDS), max_size=4))
    def check(pairs: list[tuple[str, str]]) -> None:
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
        response = client.request("GET", f"{path}?{query}".encode())
        assert response.status in (200, 400, 404), response.body
        if response.status == 200:
            names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
            assert set(names) <= set(known)
            assert len(names) == len(set(names))
        else:
            problem = json.loads(response.body)
            assert problem["detail"]
            assert problem["field"] is not None

    check()


@drawn(80)
@given(query=st.binary(max_size=25))
def test_raw_bytes_in_a_query_never_fail(client: AsgiClient, query: bytes):
    for path in LISTS:
        response = client.request("GET", path.encode() + b"?" + query)
        assert response.status in (200, 400, 404), (query, response.body)
