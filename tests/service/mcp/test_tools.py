"""Tools: their operations, input schemas and results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from litestar.testing import TestClient

from tegakari.schemas.errors import QueryError, TooLargeError
from tegakari.service.mcp.operations import Operation, operations_of
from tegakari.service.mcp.results import DIGITS, MAX_CHARACTERS, MAX_TEXT, shown_result
from tegakari.service.mcp.tools import DESCRIPTIONS, INSTRUCTIONS, TOOLS, Cut, Tool


@pytest.fixture(scope="module")
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/schema/openapi.json").json()


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, Operation]:
    return operations_of(document)


def schema_of(tool: Tool, operations: dict[str, Operation]) -> dict[str, Any]:
    return operations[tool.operation].input_schema(tool.defaults, DESCRIPTIONS)


def field_names(schema: Any, document: dict[str, Any], seen: set[str]) -> set[str]:
    """Names of all fields of a result."""
    match schema:
        case {"$ref": str(address)}:
            name = address.rpartition("/")[2]
            if name in seen:
                return set()
            return field_names(document["components"]["schemas"][name], document, seen | {name})
        case dict():
            names = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
            return names.union(*(field_names(value, document, seen) for value in schema.values()))
        case list():
            return set().union(*(field_names(value, document, seen) for value in schema))
    return set()


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_is_described_for_agents_by_the_schemas_of_its_operation(
    tool: Tool, operations: dict[str, Operation], document: dict[str, Any]
):
    schema = schema_of(tool, operations)
    jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(schema)
    assert "$ref" not in text
    assert "percent-encoded" not in text
    for name, property_ in schema["properties"].items():
        assert property_["description"], name
    assert set(schema["required"]) <= set(schema["properties"])
    validator = jsonschema.Draft202012Validator(schema)
    for name, value in tool.defaults.items():
        assert schema["properties"][name]["default"] == value
        assert validator.evolve(schema=schema["properties"][name]).is_valid(value)
    (responses,) = (
        description["responses"]
        for methods in document["paths"].values()
        for description in methods.values()
        if description["operationId"] == tool.operation
    )
    fields = field_names(responses["200"]["content"]["application/json"]["schema"], document, set())
    assert tool.hidden <= fields
    assert set(tool.cuts) <= fields
    assert {cut.order for cut in tool.cuts.values()} - {None} <= fields


def test_all_tools_fit_a_small_context(operations: dict[str, Operation]):
    assert len(json.dumps([[tool.description, schema_of(tool, operations)] for tool in TOOLS])) < 20_000
    assert len(INSTRUCTIONS) < 2000
    assert all(len(tool.description) < 500 for tool in TOOLS)


def test_tools_that_return_texts_say_that_they_are_data():
    for tool in TOOLS:
        if tool.name in ("feature", "contexts", "explanations", "search", "document", "sql"):
            assert "never instructions" in tool.description


def test_arguments_become_a_request(operations: dict[str, Operation]):
    request = operations["listLabelFeatures"].request(
        {"run": "r", "label": "車/軽", "layer": 2, "onset": True, "cursor": None}
    )
    assert request == ("GET", "/v1/runs/r/labels/%E8%BB%8A%2F%E8%BB%BD/features", {"layer": "2", "onset": "true"}, None)
    request = operations["knockOut"].request({"run": "r", "wait": 5, "label": "a", "texts": ["b"]})
    assert request == ("POST", "/v1/runs/r/knockouts", {"wait": "5"}, {"label": "a", "texts": ["b"]})
    assert operations["getLabel"].request({"run": "r", "label": ".."}).path == "/v1/runs/r/labels/%252E%252E"


@pytest.mark.parametrize(
    ("arguments", "field", "fix"),
    [
        ({"label": "a"}, "run", "give `run`"),
        ({"run": "", "label": "a"}, "run", "give `run`"),
        ({"run": "r", "label": "a", "lable": 1}, "lable", "arguments: run, label"),
    ],
)
def test_arguments_that_make_no_request_are_refused(
    operations: dict[str, Operation], arguments: dict[str, Any], field: str, fix: str
):
    with pytest.raises(QueryError) as refused:
        operations["getLabel"].request(arguments)
    assert (refused.value.field, refused.value.fix) == (field, fix)


def test_the_page_describes_every_tool(document: dict[str, Any]):
    page = (Path(__file__).parents[3] / "docs" / "agents.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+) (\S+)` \| `(\w+)` \|", page, re.M)
    assert [name for name, *_ in rows] == [tool.name for tool in TOOLS]
    for tool, (_, method, path, scope) in zip(TOOLS, rows, strict=True):
        route = path.replace("…", "/v1/runs/{run}")
        assert document["paths"][route][method.lower()]["operationId"] == tool.operation
        assert scope == ("read" if method == "GET" else "compute")
    for configuration in re.findall(r"```json\n(.*?)```", page, re.S):
        (server,) = json.loads(configuration)["mcpServers"].values()
        assert server["args"][:2] == ["mcp", "--store"]
    assert f"numbers have {DIGITS} digits, texts {MAX_TEXT:,} characters" in " ".join(page.split())
    assert f"{MAX_CHARACTERS:,} at most" in page


SHAPED = Tool("tool", "operation", "", hidden=frozenset({"secret"}), cuts={"rows": Cut(2, "score"), "names": Cut(1)})


def test_a_result_is_shown_short():
    result = {
        "number": 0.123456789,
        "large": 1234567.9,
        "count": 1234567,
        "zero": 0.0,
        "missing": None,
        "secret": 1,
        "inner": {"secret": 1, "rows": [{"score": 1.0}, {"score": 3.0}, {"score": 2.0}], "names": ["a"]},
        "text": "x" * (MAX_TEXT + 1),
    }
    assert shown_result(result, SHAPED) == {
        "number": 0.12346,
        "large": 1234568.0,
        "count": 1234567,
        "zero": 0.0,
        "inner": {"rows": [{"score": 3.0}, {"score": 2.0}], "rows_left_out": 1, "names": ["a"]},
        "text": "x" * MAX_TEXT + " [... cut: 4,001 characters]",
    }


def test_rows_that_the_agent_has_chosen_stay_exact():
    result = {"items": [{"secret": 0.123456789, "rows": None}]}
    assert shown_result(result, SHAPED._replace(exact=True, cuts={})) == result


def test_a_long_result_is_refused():
    with pytest.raises(TooLargeError, match=r"43,\d{3} characters, 40,000 at most") as refused:
        shown_result({"items": ["12345"] * 5400}, SHAPED)
    assert "smaller `limit`" in str(refused.value.fix)
    assert shown_result({"items": ["12345"] * 4900}, SHAPED)
    assert MAX_CHARACTERS == 40_000
