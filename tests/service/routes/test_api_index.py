"""The index names every operation of the OpenAPI document, and its documents are there."""

from __future__ import annotations

from litestar.testing import TestClient

from tests.support.service import get


def test_the_index_leads_to_everything(client: TestClient):
    index = get(client, "/v1")
    document = client.get(index["openapi"]).json()
    described = {
        (operation["operationId"], method.upper(), path, operation["summary"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    listed = {
        tuple(operation[key] for key in ("operation", "method", "path", "summary")) for operation in index["operations"]
    }
    assert listed == described
    assert document["info"]["version"] == index["version"]
    assert client.get(index["viewer"]).headers["content-type"].startswith("text/html")
    assert get(client, index["runs"])["items"]
