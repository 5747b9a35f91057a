"""Errors of bodies name the field, its value and what is allowed there, on every route that has a body."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
import pytest
from litestar.routes import HTTPRoute
from litestar.testing import TestClient
from msgspec import Meta

from tegakari.service.http.body_errors import body_error
from tegakari.service.http.parameters import body_type
from tegakari.service.openapi.examples import BODIES
from tests.support.factories import LABELS
from tests.support.service import RUN


class Inner(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    layers: Annotated[list[Annotated[int, Meta(ge=0, le=9)]], Meta(max_length=3, description="layers")] = []
    mode: Literal["a", "b"] | None = None


class Outer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    settings: Inner
    parameters: dict[str, int | None] = {}


@pytest.mark.parametrize(
    ("body", "field", "detail", "fix"),
    [
        ({"settings": {"layers": [0, 1, "x"]}}, "settings.layers[2]", '"x" is not allowed', "an integer from 0 to 9"),
        ({"settings": {"layers": [0, 1, 10]}}, "settings.layers[2]", "10 is not allowed", "an integer from 0 to 9"),
        ({"settings": {"layers": [0] * 4}}, "settings.layers", "[0,0,0,0] is not", "a list of 3 items at most"),
        ({"settings": {"mode": "c"}}, "settings.mode", '"c" is not allowed', "one of: a, b or null"),
        ({"settings": {"mood": "c"}}, "settings.mood", "unknown field 'mood'", "known fields: layers, mode"),
        ({"settings": 3}, "settings", "3 is not allowed", "an object with the fields layers, mode"),
        ({}, "settings", "missing", "an object with the fields layers, mode"),
        ({"settings": {}, "parameters": {"x": 1, "y": []}}, "parameters.y", "[] is not allowed", "an integer"),
        ([], None, "[] is not allowed", "an object with the fields settings, parameters"),
    ],
)
def test_the_error_has_path_value_and_what_is_allowed(body: Any, field: str | None, detail: str, fix: str):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(body, Outer)
    message, _, path = str(caught.value).partition(" - at `$")
    error = body_error(body, Outer, path.rstrip("`").lstrip("."), message)
    assert error.field == field
    assert detail in error.message
    assert fix in str(error.fix)


def routes_with_bodies(client: TestClient) -> dict[str, tuple[str, str, type[msgspec.Struct]]]:
    """Method, path and type of the body by operation."""
    routes = {}
    for route in client.app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if handler.include_in_schema is not False and (kind := body_type(handler)):
                path = re.sub(r"\{(\w+):str\}", lambda name: {"run": RUN}.get(name[1], "0"), route.path)
                (method,) = handler.http_methods - {"OPTIONS"}
                routes[str(handler.operation_id)] = (method, path, kind)
    return routes


def refused(client: TestClient, method: str, path: str, body: Any) -> dict[str, Any]:
    response = client.request(method, path, json=body)
    assert response.status_code == 400, response.text
    problem = response.json()
    assert problem["type"] == "/docs/errors/bad-request"
    assert problem["fix"]
    assert "tegakari " not in problem["fix"], "the fix is a command line"
    return problem


def test_every_field_of_every_body_is_named_with_its_value(client: TestClient):
    routes = routes_with_bodies(client)
    assert routes.keys() >= {"classifyTexts", "encodeTexts", "knockOut", "querySql"}
    for operation, (method, path, kind) in routes.items():
        for field in msgspec.structs.fields(kind):
            name = field.encode_name
            problem = refused(client, method, path, {**BODIES[operation], name: {"no": ["such", "value"]}})
            assert problem["field"].partition(".")[0] == name, (operation, problem)
            assert "such" in problem["detail"], (operation, problem)
            if field.required:
                without = {key: value for key, value in BODIES[operation].items() if key != name}
                missing = refused(client, method, path, without)
                assert (missing["field"], missing["detail"]) == (name, "the field is missing")
        unknown = refused(client, method, path, {**BODIES[operation], "no_such_field": 1})
        assert unknown["field"] == "no_such_field"
        assert all(field.encode_name in unknown["fix"] for field in msgspec.structs.fields(kind))
        assert refused(client, method, path, [1])["field"] is None
        for content in (b"", b"{", b"\xff", b"[" * 100_000):
            headers = {"Content-Type": "application/json"}
            response = client.request(method, path, content=content, headers=headers)
            assert response.status_code == 400
            assert response.json()["fix"], (operation, content[:10])


@pytest.mark.parametrize(
    ("body", "status", "field", "fix"),
    [
        ({"label": LABELS[0], "layer": 0, "k": 1000}, 400, "k", "choose k up to"),
        ({"label": LABELS[0], "layer": 0, "k": 20, "holdout": True}, 400, "draws", "set draws to 0"),
        (
            {"features": [{"layer": 0, "feature": 5000}], "documents_of": LABELS[0]},
            404,
            "features[0].feature",
            "0 to 39",
        ),
        ({"features": [{"layer": 0, "feature": 5}], "documents": ["no"]}, 404, "documents[0]", "ids"),
        ({"label": "no", "layer": 0}, 404, "label", LABELS[0]),
    ],
)
def test_knockouts_that_a_run_cannot_make(client: TestClient, body: Any, status: int, field: str, fix: str):
    response = client.post(f"/v1/runs/{RUN}/knockouts", json=body)
    problem = response.json()
    assert (response.status_code, problem["field"]) == (status, field), problem
    assert fix in problem["fix"]
