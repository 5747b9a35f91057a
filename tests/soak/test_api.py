"""The API compared with its OpenAPI document, by drawn requests and sequences of requests; and its overload."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tegakari.schemas.config import ServiceConfig
from tegakari.service.app import create_app
from tests.support.factories import LABELS, make_run
from tests.support.service import RUN, segment
from tests.support.serving import serving
from tests.support.soak_length import SOAK

CASES = 5000 if SOAK else 120
SEQUENCES = 200 if SOAK else 30
OVERLOAD_SECONDS = 60 if SOAK else 4

DROPPED = 0
"""Instead of a status: the connection was closed."""

EXCLUDED = [positive_data_acceptance]
"""The type of a cursor is text, but only the `next` of a page is accepted."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


ANY_HOST = ServiceConfig(log="off", warm="off", hosts=["*"])
"""schemathesis names a host of its own."""


@pytest.fixture
def schema(store: Path) -> Any:
    """Of an application of its own: schemathesis shuts down the one that it has tested."""
    return schemathesis.openapi.from_asgi("/schema/openapi.json", create_app(store, ANY_HOST))


def test_responses_are_as_documented(schema: Any):
    """All checks of schemathesis. Half of the drawn requests name resources that exist."""
    existing = {
        "run": RUN,
        "label": segment(LABELS[1]),
        "layer": 1,
        "feature": 1,
        "document": segment(f"{LABELS[1]}-001"),
    }
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    statuses: Counter[tuple[str, int]] = Counter()
    for operation in operations:

        @given(case=operation.as_strategy(), existing_only=st.booleans())
        @settings(
            max_examples=max(3, CASES // len(operations)),
            derandomize=not SOAK,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def request(case: schemathesis.Case, existing_only: bool) -> None:
            if existing_only and case.path_parameters and case.path_parameters.keys() <= existing.keys():
                case.path_parameters = {name: existing[name] for name in case.path_parameters}
            response = case.call(timeout=60)
            statuses[case.operation.label, response.status_code] += 1
            case.validate_response(response, excluded_checks=EXCLUDED)

        request()
    assert sum(statuses.values()) >= CASES * 0.8
    assert not [operation for operation, status in statuses if status >= 500]


def test_responses_to_sequences_of_requests_are_as_documented(schema: Any):
    """Stateful: values of one response are parameters of the next request."""
    requests: Counter[tuple[str, bool]] = Counter()

    class Sequences(schema.as_state_machine()):
        def call(self, case: schemathesis.Case, **named: Any) -> Any:
            response = super().call(case, **named)
            requests[case.operation.label, response.status_code == 200] += 1
            return response

        def validate_response(self, response: Any, case: schemathesis.Case, **named: Any) -> None:
            case.validate_response(response, excluded_checks=EXCLUDED)

    Sequences.run(
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=10,
            derandomize=not SOAK,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )
    assert sum(requests.values()) >= SEQUENCES * 5
    # Links are followed; in a few sequences it is random how far.
    assert len({label for label, success in requests if success}) > (3 if SOAK else 1)


@pytest.fixture(scope="module")
def address(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("overloaded")
    (directory / "tegakari.toml").write_text(f"[service]\nmax_requests = 16\nlog = 'off'\n[index]\nstore = '{store}'\n")
    with serving("--config", directory / "tegakari.toml") as (url, _):
        yield url


async def _requests(address: str, path: str, clients: int, seconds: float) -> list[tuple[int, float, str | None]]:
    """Status, seconds and Retry-After of all responses to `clients` clients that send requests without a pause."""
    responses: list[tuple[int, float, str | None]] = []
    end = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:

        async def send_requests() -> None:
            while time.perf_counter() < end:
                start = time.perf_counter()
                try:
                    response = await client.get(path)
                except httpx.ReadError:  # a connection that had been idle was closed as the request was sent
                    responses.append((DROPPED, time.perf_counter() - start, None))
                    continue
                responses.append(
                    (response.status_code, time.perf_counter() - start, response.headers.get("retry-after"))
                )

        await asyncio.gather(*(send_requests() for _ in range(clients)))
    return responses


def test_overload_is_refused_and_leaves_no_slowdown(address: str):
    path = f"/v1/runs/{RUN}/specificity"  # handled by a thread

    def median_seconds() -> float:
        return statistics.median(
            seconds for status, seconds, _ in asyncio.run(_requests(address, path, 1, 1.5)) if status == 200
        )

    median_seconds()
    before = median_seconds()
    responses = asyncio.run(_requests(address, path, 160, OVERLOAD_SECONDS))
    statuses = Counter(status for status, _, _ in responses)
    assert statuses.pop(DROPPED, 0) < 0.01 * len(responses)
    assert statuses.keys() <= {200, 304, 429, 503}, statuses
    assert statuses[200] > 0
    assert statuses[503] > 0
    assert all(retry_after for status, _, retry_after in responses if status in (429, 503))
    assert min(median_seconds() for _ in range(3)) < 2 * before
