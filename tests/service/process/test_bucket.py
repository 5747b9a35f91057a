"""`tegakari serve --store s3://...` as a user runs it, and the commands that push, list, pull and delete."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.cli.app import app
from tegakari.schemas.errors import ConfigError
from tegakari.store import Store
from tests.support.factories import make_run
from tests.support.serving import serving


def tegakari(*arguments: str | Path) -> str:
    """Standard output of a command that must succeed; in this process, which has imported what it needs."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def waited(client: httpx.Client, path: str, run: str, seconds: float = 60) -> dict:
    """The row of a run in the list once a request for it succeeds."""
    until = time.monotonic() + seconds
    while (response := client.get(path)).status_code != 200:
        assert time.monotonic() < until, response.text
        time.sleep(0.1)
    (row,) = (row for row in client.get("/v1/runs").json()["items"] if row["run"] == run)
    return row


def test_a_bucket_is_filled_listed_and_served_with_a_cache_for_one_run(s3_bucket: str, tmp_path: Path):
    origin, cache = tmp_path / "origin", tmp_path / "cache"
    for seed, name in enumerate(("large", "small")):
        time.sleep(seed)  # the newer run is pulled in advance, and times of runs have seconds
        make_run(origin, name, seed=seed, layers=1, d_sae=700 if name == "large" else 60)
        published = tegakari("runs", "push", name, s3_bucket, "--store", origin)
        assert f"run {name} published in {s3_bucket}" in published
    listed = json.loads(tegakari("runs", "list", "--store", s3_bucket, "--json"))["items"]
    assert [row["run"] for row in listed] == ["large", "small"]
    assert "every file matches" in tegakari("runs", "verify", "large", "--store", s3_bucket)
    assert json.loads(tegakari("runs", "show", "large", "--store", s3_bucket, "--json"))["run"] == "large"
    assert "no garbage" in tegakari("runs", "gc", "--store", s3_bucket)
    for arguments, words in (
        (("labels", "--run", "large", "--store", s3_bucket), "is a bucket"),
        (("serve", "--store", s3_bucket), "needs a directory"),
        (("runs", "delete", "large", "--store", s3_bucket), "deleted for good"),
    ):
        with pytest.raises(ConfigError, match=words):
            tegakari(*arguments)
    sizes = {run.name: sum(entry.size for entry in run.manifest.files) for run in Store(origin).runs()}
    limit = max(sizes.values()) + min(sizes.values()) // 2
    assert limit > 1_000_000
    options = ("--store", s3_bucket, "--cache", cache, "--cache-gb", str(limit / 1e9), "--poll-seconds", "0.2")
    with serving(*options, "--log", "off") as (address, _), httpx.Client(base_url=address, timeout=60) as client:
        assert waited(client, "/v1/runs/small/labels", "small")["state"] == "ready"  # the newer one, in advance
        states = {row["run"]: row["state"] for row in client.get("/v1/runs").json()["items"]}
        assert states == {"large": "remote", "small": "ready"}
        refused = client.get("/v1/runs/large/labels")
        assert (refused.status_code, refused.json()["type"]) == (503, "/docs/errors/run-not-pulled")
        assert int(refused.headers["Retry-After"]) > 0
        until = time.monotonic() + 60
        while "are in use" not in client.get("/v1/runs/large").text and time.monotonic() < until:
            time.sleep(0.1)
        detail = client.get("/v1/runs/large").json()["detail"]
        assert f"of the {int(limit):,} of the cache, {sizes['small']:,} are in use" in detail
        assert str(tmp_path) not in detail
        page = client.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "/runs/large" in page.text
        assert client.get("/runs/large", headers={"Accept": "text/html"}).status_code == 503
        make_run(origin, "later", seed=5, layers=1)
        tegakari("runs", "push", "later", s3_bucket, "--store", origin)
        tegakari("runs", "delete", "small", "--yes", "--store", s3_bucket)
        until = time.monotonic() + 60
        while [row["run"] for row in client.get("/v1/runs").json()["items"]] != ["large", "later"]:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert client.get("/v1/runs/small").status_code == 404
    tegakari("runs", "pull", "large", "--from", s3_bucket, "--store", tmp_path / "pulled")
    assert Store(tmp_path / "pulled").run("large").manifest == Store(origin).run("large").manifest
