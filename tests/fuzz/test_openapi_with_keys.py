"""Requests drawn from the OpenAPI document, to a service with keys: without a key, and with each scope."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tegakari.schemas.config import ServiceConfig
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tests.support.factories import LABELS
from tests.support.fuzzing import drawn
from tests.support.service import RUN, segment

EXISTING = {
    "run": RUN,
    "label": segment(LABELS[1]),
    "layer": 1,
    "feature": 1,
    "document": segment(f"{LABELS[1]}-001"),
}

PUBLIC = {"getHealth", "getReadiness", "getErrorPage"}

EXCLUDED = [positive_data_acceptance]
"""The type of a cursor is text, but only the `next` of a page is accepted."""


@pytest.fixture
def service(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, str]]:
    """The document of a service with keys, and keys by scope. Per test: the calls of one end its application."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    keys = {scope: create_key(file, scope, scope)[0] for scope in ("read", "compute")}
    app = create_app(store, ServiceConfig(log="off", warm="off", hosts=["*"]), keys=file)
    return schemathesis.openapi.from_asgi("/schema/openapi.json", app), keys


def responses(schema: Any, headers: dict[str, str], *, examples: int, validate: bool) -> Counter[tuple[str, str, int]]:
    """Send drawn requests to every operation, half of them about what exists.

    Args:
        schema: the OpenAPI document, loaded.
        headers: of all requests.
        examples: per operation.
        validate: compare the responses with the document.

    Returns:
        number of responses by operation id, method and status.
    """
    counts: Counter[tuple[str, str, int]] = Counter()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        operation_id = operation.definition.raw["operationId"]

        @drawn(examples)
        @given(case=operation.as_strategy(), existing=st.booleans())
        def send(case: schemathesis.Case, existing: bool) -> None:
            if existing and case.path_parameters and case.path_parameters.keys() <= EXISTING.keys():
                case.path_parameters = {name: EXISTING[name] for name in case.path_parameters}
            response = case.call(headers=headers)
            counts[operation_id, operation.method.upper(), response.status_code] += 1  # noqa: B023 - called in this turn
            if validate:
                case.validate_response(response, excluded_checks=EXCLUDED, headers=headers)

        send()
    return counts


def test_without_a_key_only_public_operations_answer(service: tuple[Any, dict[str, str]]):
    for headers in ({}, {"Authorization": "Bearer tgk_00000000_" + "a" * 43}, {"X-API-Key": "read"}):
        counts = responses(service[0], headers, examples=4, validate=False)
        assert {operation for operation, _, _ in counts} >= {"querySql", "listRuns", *PUBLIC}
        for operation, method, status in counts:
            assert status == 401 or operation in PUBLIC, (operation, method, status)
            assert status < 500


def test_a_key_that_reads_gets_documented_responses_and_computes_nothing(service: tuple[Any, dict[str, str]]):
    schema, keys = service
    counts = responses(schema, {"Authorization": f"Bearer {keys['read']}"}, examples=4, validate=True)
    assert {status for _, method, status in counts if method in ("POST", "DELETE")} <= {403}
    assert not {entry for entry in counts if entry[2] in (401, 500)}
    assert len({operation for operation, method, status in counts if method == "GET" and status == 200}) > 10


def test_a_key_that_computes_gets_documented_responses(service: tuple[Any, dict[str, str]]):
    schema, keys = service
    counts = responses(schema, {"X-API-Key": keys["compute"]}, examples=5, validate=True)
    of_admin = {"deleteAnalysis", "deleteNote", "writeNote"}  # notes and explanations: in the name of another author
    of_admin |= {"deleteExplanation", "voteOnExplanation", "writeExplanation"}
    assert {entry[0] for entry in counts if entry[2] == 403} <= of_admin
    assert not {entry for entry in counts if entry[2] == 401 or (entry[2] >= 500 and entry[2] != 503)}
