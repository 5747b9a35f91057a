"""The API against its own OpenAPI document, with whatever can be drawn, alone and in sequences; and under overload."""

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

from tegakari.service.app import create_app
from tests.service.conftest import RUN, segment, serving
from tests.support.factories import LABELS, make_run
from tests.support.soak_length import SOAK

CASES = 5000 if SOAK else 120
SEQUENCES = 200 if SOAK else 30
OVERLOAD_SECONDS = 60 if SOAK else 4

DROPPED = 0
"""In place of a status: the connection was closed."""

EXCLUDED = [positive_data_acceptance]
"""A cursor is any text by its type, but only those that a page ended with are accepted."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


@pytest.fixture(scope="module")
def schema(store: Path) -> Any:
    return schemathesis.openapi.from_asgi("/schema/openapi.json", create_app(store))


def test_whatever_is_asked_the_answer_is_as_documented(schema: Any):
    """All of schemathesis' checks. Half of what is drawn is aimed at things that are there."""
    there = {"run": RUN, "label": segment(LABELS[1]), "layer": 1, "feature": 1, "document": segment(f"{LABELS[1]}-001")}
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    statuses: Counter[tuple[str, int]] = Counter()
    for operation in operations:

        @given(case=operation.as_strategy(), aimed=st.booleans())
        @settings(
            max_examples=max(3, CASES // len(operations)),
            derandomize=not SOAK,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: schemathesis.Case, aimed: bool) -> None:
            if aimed and case.path_parameters and case.path_parameters.keys() <= there.keys():
                case.path_parameters = {name: there[name] for name in case.path_parameters}
            response = case.call(timeout=60)
            statuses[case.operation.label, response.status_code] += 1
            case.validate_response(response, excluded_checks=EXCLUDED)

        ask()
    assert sum(statuses.values()) >= CASES * 0.8
    assert not [asked for asked in statuses if asked[1] >= 500]


def test_sequences_of_questions_are_answered_as_documented(schema: Any):
    """Stateful: what one answer holds is asked for in the next."""
    asked: Counter[tuple[str, bool]] = Counter()

    class Sequences(schema.as_state_machine()):
        def call(self, case: schemathesis.Case, **named: Any) -> Any:
            response = super().call(case, **named)
            asked[case.operation.label, response.status_code == 200] += 1
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
    assert sum(asked.values()) >= SEQUENCES * 5
    # Links are followed; in few sequences it is chance how far.
    assert len({label for label, good in asked if good}) > (3 if SOAK else 1)


@pytest.fixture(scope="module")
def address(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("overloaded")
    (directory / "tegakari.toml").write_text(f"[service]\nmax_requests = 16\nlog = 'off'\n[index]\nstore = '{store}'\n")
    with serving("--config", directory / "tegakari.toml") as (url, _):
        yield url


async def _ask(address: str, path: str, clients: int, seconds: float) -> list[tuple[int, float, str | None]]:
    """Status, seconds and Retry-After of all answers to so many clients that ask without a pause."""
    answers: list[tuple[int, float, str | None]] = []
    end = time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:

        async def keep_asking() -> None:
            while time.perf_counter() < end:
                start = time.perf_counter()
                try:
                    answer = await client.get(path)
                except httpx.ReadError:  # a connection that had been idle was closed as the request was sent
                    answers.append((DROPPED, time.perf_counter() - start, None))
                    continue
                answers.append((answer.status_code, time.perf_counter() - start, answer.headers.get("retry-after")))

        await asyncio.gather(*(keep_asking() for _ in range(clients)))
    return answers


def test_too_much_load_is_refused_and_leaves_nothing_behind(address: str):
    path = f"/v1/runs/{RUN}/specificity"  # a question that a thread answers

    def alone() -> float:
        return statistics.median(took for status, took, _ in asyncio.run(_ask(address, path, 1, 1.5)) if status == 200)

    alone()
    before = alone()
    answers = asyncio.run(_ask(address, path, 160, OVERLOAD_SECONDS))
    statuses = Counter(status for status, _, _ in answers)
    assert statuses.pop(DROPPED, 0) < 0.01 * len(answers)
    assert statuses.keys() <= {200, 304, 429, 503}, statuses
    assert statuses[200] > 0
    assert statuses[503] > 0
    assert all(retry_after for status, _, retry_after in answers if status in (429, 503))
    assert min(alone() for _ in range(3)) < 2 * before
