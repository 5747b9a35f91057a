"""Responses of a run carry a strong ETag; a repeated request gets a 304; another run or request has another tag."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tegakari.service.http import etags
from tegakari.store import queries
from tegakari.store.disk.publish import delete_run
from tests.support.factories import LABELS, make_run
from tests.support.service import RUN, client_of, segment

PATHS = [
    f"/v1/runs/{RUN}",
    f"/v1/runs/{RUN}/labels",
    f"/v1/runs/{RUN}/labels/{segment(LABELS[1])}",
    f"/v1/runs/{RUN}/labels/{segment(LABELS[1])}/features?limit=3",
    f"/v1/runs/{RUN}/labels/{segment(LABELS[1])}/features?limit=4",
    f"/v1/runs/{RUN}/layers/0/features/1/labels",
    f"/v1/runs/{RUN}/layers/0/features/1",
    f"/v1/runs/{RUN}/layers/0/features/2",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_repeated_request_gets_a_304(server: httpx.Client, path: str):
    first = server.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert "max-age" in first.headers["cache-control"]
    for matching in (tag, f"W/{tag}", f'"other", {tag}'):
        again = server.get(path, headers={"If-None-Match": matching})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"]
    for other in ('"other"', tag.strip('"'), ""):
        assert server.get(path, headers={"If-None-Match": other}).content == first.content


def test_every_request_has_its_own_tag(server: httpx.Client):
    tags = [server.get(path).headers["etag"] for path in PATHS]
    assert len(set(tags)) == len(PATHS)


def test_a_304_reads_nothing_from_the_store(client, monkeypatch):
    tag = client.get(PATHS[1]).headers["etag"]
    monkeypatch.setattr(queries, "labels", None)
    assert client.get(PATHS[1], headers={"If-None-Match": tag}).status_code == 304


def test_the_list_of_runs_is_not_cached(client):
    response = client.get("/v1/runs")
    assert response.headers["cache-control"] == "no-cache"
    assert "etag" not in response.headers


def test_problems_are_not_cached(client):
    response = client.get(f"/v1/runs/{RUN}/labels/nope")
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers


def test_another_run_of_the_same_name_has_another_tag(tmp_path: Path):
    make_run(tmp_path, RUN, layers=1)
    with client_of(tmp_path) as client:
        first = client.get(PATHS[1])
        with (tmp_path / "runs" / RUN / "run.json").open():  # held open, so that its inode is not given away again
            delete_run(tmp_path, RUN)
            make_run(tmp_path, RUN, layers=1, seed=5)
            second = client.get(PATHS[1], headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.json() != first.json()


def test_another_version_of_the_program_has_another_tag(client, monkeypatch):
    first = client.get(PATHS[0]).headers["etag"]
    monkeypatch.setattr(etags, "__version__", "99")
    assert client.get(PATHS[0]).headers["etag"] != first
