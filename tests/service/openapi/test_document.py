"""The document names its schemas, tags, keys and examples; every example runs against a server."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from tests.support.service import RUN, get


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return json.loads(client.get("/schema/openapi.json").content)


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """By name: path, method, description."""
    return {
        operation["operationId"]: (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_components_have_names_that_programs_can_have(document: dict[str, Any]):
    assert document["components"]["schemas"]
    assert all(name.isidentifier() for name in document["components"]["schemas"])
    assert "LabelFeaturePage" in document["components"]["schemas"]


def test_every_operation_has_one_described_tag(document: dict[str, Any], operations: dict[str, Any]):
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(tags.values())
    assert {tag for _, _, operation in operations.values() for tag in operation["tags"]} == tags.keys()
    assert all(len(operation["tags"]) == 1 for _, _, operation in operations.values())


def test_operations_without_security_are_those_that_the_gate_lets_in(client: TestClient, operations: dict[str, Any]):
    public = {
        handler.operation_id
        for route in client.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if "public" in handler.opt and handler.operation_id
    }
    assert {name for name, (_, _, operation) in operations.items() if operation.get("security") == []} == public


def test_key_and_header_are_those_of_the_service(document: dict[str, Any]):
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["components"]["securitySchemes"]["header"]["name"] == "X-API-Key"
    assert {name for way in document["security"] for name in way} == document["components"]["securitySchemes"].keys()


def test_fields_of_responses_are_required_and_defaults_of_requests_do_not_make_fields_required(
    document: dict[str, Any],
):
    schemas = document["components"]["schemas"]
    assert set(schemas["KnockoutJob"]["required"]) == set(schemas["KnockoutJob"]["properties"])
    assert schemas["EncodeRequest"]["required"] == ["texts"]
    assert "default" not in schemas["EncodeRequest"]["properties"]["top"]
    assert schemas["EncodeRequest"]["properties"]["top"]["description"].endswith("default: 20")


def test_every_required_parameter_and_every_body_has_an_example(operations: dict[str, Any]):
    for name, (_, _, operation) in operations.items():
        for parameter in operation.get("parameters", []):
            assert "example" in parameter or not parameter.get("required"), (name, parameter["name"])
        if "requestBody" in operation:
            assert "example" in operation["requestBody"]["content"]["application/json"], name


def test_examples_of_bodies_have_their_schema(document: dict[str, Any], operations: dict[str, Any]):
    for _, _, operation in operations.values():
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            Draft202012Validator({**content["schema"], "components": document["components"]}).validate(
                content["example"]
            )


STORED = "`tegakari "
"""In the fix of a problem: the operation reads what a command stores, which this store does not have."""


def test_every_example_runs(client: TestClient, operations: dict[str, Any]):
    """Against a store like the demo's, with other ids of documents, without models and stored analyses."""
    own = {
        "document": get(client, f"/v1/runs/{RUN}/documents")["items"][0]["document"],
        "runs": f"{RUN},{RUN}",
        "author": "aki",
        "knockout": _knockout(client, operations["knockOut"]),
    }
    statuses = {}
    deletions_last = sorted(operations.items(), key=lambda item: item[1][1].lower() == "delete")
    for name, (path, method, operation) in deletions_last:
        if any(parameter["name"] == "analysis" for parameter in operation.get("parameters", [])):
            continue  # the store has no analysis, of which this could be the id
        query, address = {}, path
        for parameter in operation.get("parameters", []):
            if not parameter.get("required") and not name.startswith("delete"):  # without keys the author is named
                continue
            value = own.get(parameter["name"], parameter.get("example"))
            if parameter["in"] == "path":
                address = address.replace(f"{{{parameter['name']}}}", quote(str(value), safe=""))
            else:
                query[parameter["name"]] = value
        body = (
            operation["requestBody"]["content"]["application/json"]["example"] if "requestBody" in operation else None
        )
        response = client.request(method, address, params=query, json=body)
        statuses[name] = response.status_code
        if response.status_code >= 300:
            problem = response.json()
            absent = problem["type"] == "/docs/errors/not-found" and STORED in problem["fix"]
            assert absent or problem["type"] == "/docs/errors/model-not-here", (name, problem)
    assert sum(status == 200 for status in statuses.values()) > len(statuses) * 2 / 3


def _knockout(client: TestClient, knock_out: tuple[str, str, dict[str, Any]]) -> str:
    """Id of a knockout that failed, because the run has no model here."""
    from tegakari.analyses.knockout import knockout_key, resolve
    from tegakari.schemas.knockout import KnockoutSettings

    path, _, operation = knock_out
    body = operation["requestBody"]["content"]["application/json"]["example"]
    client.post(path.replace("{run}", RUN), json=body)
    run = client.app.state.store.run(RUN)
    return knockout_key(run, resolve(run, KnockoutSettings(**body)))
