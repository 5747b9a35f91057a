"""The OpenAPI document is valid, describes results and problems, and its viewer needs no network."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.exceptions import LitestarDeprecationWarning
from litestar.testing import TestClient
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tegakari.schemas import api
from tegakari.service.app import create_app
from tegakari.store import Store
from tests.support.factories import LABELS
from tests.support.service import RUN, analysis_of, segment


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    response = client.get("/schema/openapi.json")
    assert response.headers["content-type"].startswith("application/vnd.oai.openapi+json")
    return json.loads(response.content)


def test_the_document_is_openapi_3_1(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_a_struct_with_the_name_of_another_is_not_described_by_it(store: Path):
    from tegakari.schemas import classifier, inference

    assert classifier.LabelScore.__name__ == inference.LabelScore.__name__
    with TestClient(create_app(store), base_url="http://127.0.0.1") as client:
        described = client.get("/schema/openapi.json").json()["components"]["schemas"]["LabelScore"]
    assert described["description"] == inference.LabelScore.__doc__
    assert set(described["properties"]) == set(inference.LabelScore.__struct_encode_fields__)


def test_no_deprecated_feature_of_litestar_is_used(store: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LitestarDeprecationWarning)
        assert create_app(store).openapi_schema.paths


READ_ROUTES = {
    "/healthz",
    "/readyz",
    "/v1",
    "/v1/knockouts",
    "/v1/runs",
    "/v1/runs/{run}",
    "/v1/runs/{run}/labels",
    "/v1/runs/{run}/labels/{label}",
    "/v1/runs/{run}/labels/{label}/features",
    "/v1/runs/{run}/specificity",
    "/v1/runs/{run}/features",
    "/v1/runs/{run}/layers/{layer}/features/{feature}",
    "/v1/runs/{run}/layers/{layer}/features/{feature}/labels",
    "/v1/runs/{run}/layers/{layer}/features/{feature}/tokens",
    "/v1/runs/{run}/layers/{layer}/features/{feature}/contexts",
    "/v1/runs/{run}/layers/{layer}/features/{feature}/documents",
    "/v1/runs/{run}/layers/{layer}/features/{feature}/histogram",
    "/v1/runs/{run}/documents",
    "/v1/runs/{run}/documents/{document}",
    "/v1/runs/{run}/documents/{document}/features",
    "/v1/runs/{run}/analyses",
    "/v1/analyses",
    "/v1/analyses/{analysis}",
}


def test_every_route_is_in_it(document: dict[str, Any]):
    assert {path for path, methods in document["paths"].items() if "get" in methods} >= READ_ROUTES


def test_lists_document_their_formats(document: dict[str, Any]):
    for path in READ_ROUTES:
        operation = document["paths"][path]["get"]
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        is_list = operation["operationId"].startswith("list") or path.endswith("/specificity")
        assert ({"format", "fields"} <= names) == is_list, path
        assert ("text/csv" in operation["responses"]["200"]["content"]) == is_list


def test_everything_is_described(document: dict[str, Any]):
    for operation in (operation for methods in document["paths"].values() for operation in methods.values()):
        assert operation["summary"]
        assert operation["description"]
        assert re.fullmatch("[a-z]+[A-Za-z]+", operation["operationId"])
        assert all(parameter["description"] for parameter in operation.get("parameters", []))
    schemas = document["components"]["schemas"]
    assert all(schema["description"] for name, schema in schemas.items() if not name.startswith("Page_"))
    assert schemas["LabelFeature"]["properties"]["cohens_d"]["description"].startswith("Cohen's d")
    assert schemas["LabelDetail"]["properties"]["specific_features"]["description"]  # inherited from LabelRow
    assert schemas["Problem"]["properties"]["field"]["description"]


@pytest.mark.parametrize("struct", [api.LabelFeature, api.FeatureDetail, api.LayerSpecificity, api.TopToken])
def test_fields_and_types_are_msgspecs_own(document: dict[str, Any], struct: type[msgspec.Struct]):
    _, components = msgspec.json.schema_components([struct])
    expected = components[struct.__name__]
    documented = document["components"]["schemas"][struct.__name__]
    assert documented["properties"].keys() == expected["properties"].keys()
    assert set(documented["required"]) == expected["properties"].keys()  # a response has every field
    for name, schema in expected["properties"].items():
        assert documented["properties"][name].get("type") == schema.get("type"), name


@pytest.mark.parametrize("status", [400, 404, 500])
def test_problems_are_documented_with_their_own_type(document: dict[str, Any], status: int):
    for path in READ_ROUTES:
        if path.startswith("/v1/runs/{run}"):
            assert list(document["paths"][path]["get"]["responses"][str(status)]["content"]) == [
                "application/problem+json"
            ]


def test_the_viewer_loads_nothing_from_other_servers(client: TestClient):
    page = client.get("/schema")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text)
    assert 'load-fonts="false"' in page.text  # the only thing that the viewer would fetch on its own
    for address in re.findall(r'(?:src|href|spec-url)="(/[^"]*)"', page.text):
        assert client.get(address).status_code == 200
    script = client.get("/schema/static/rapidoc-min.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 500_000
    assert "MIT License" in client.get("/schema/static/rapidoc-LICENSE.txt").text


CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def required_parameters(case: schemathesis.Case) -> set[str]:
    return {parameter.name for parameter in case.operation.query if parameter.is_required}


def test_responses_to_random_requests_conform_to_the_document(store: Path):
    """Many requests name existing resources, some of them without parameters, so that not all responses are 404."""
    host = {"Host": "127.0.0.1"}
    app = create_app(store)  # its own: schemathesis closes it
    schema = schemathesis.openapi.from_asgi("/schema/openapi.json", app, headers=host)
    existing = {
        "run": RUN,
        "label": segment(LABELS[1]),
        "layer": 1,
        "feature": 1,
        "document": segment(f"{LABELS[1]}-001"),
        "analysis": analysis_of(Store(store).run(RUN)),
    }
    seen = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.method != "get" or operation.path not in READ_ROUTES:
            continue

        @given(case=operation.as_strategy(), resource=st.sampled_from(["drawn", "existing", "existing, no parameters"]))
        @settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def check(case: schemathesis.Case, resource: str) -> None:
            if resource != "drawn" and case.path_parameters:
                case.path_parameters = {name: existing[name] for name in case.path_parameters}
            if resource == "existing, no parameters":
                case.query = {name: value for name, value in case.query.items() if name in required_parameters(case)}
            response = case.call(headers=host)
            seen.add((case.operation.label, response.status_code))
            case.validate_response(response, checks=CONFORMANCE)

        check()
    operations = {operation for operation, _ in seen}
    assert {operation for operation, status in seen if status == 200} == operations
    assert {status for _, status in seen} <= {200, 400, 404}
