"""Modules beside the store and in the working directory are never imported, whatever process is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tegakari.store.processes import absolute_entries
from tests.support.factories import make_run
from tests.support.service import RUN

MODULES = (
    "msgspec",
    "selectors",
    "duckdb",
    "tegakari",
    "structlog",
    "uvicorn",
    "asyncio",
    "numpy",
    "encodings",
    "json",
)
"""Names that the processes of the service import."""


@pytest.fixture
def hostile_directory(tmp_path: Path) -> Path:
    """A working directory with a store and with modules that leave a trace when they are imported."""
    make_run(tmp_path / "store", RUN)
    for directory in (tmp_path, tmp_path / "store"):
        for name in MODULES:
            (directory / f"{name}.py").write_text(
                f"open({str(tmp_path / 'trace')!r}, 'a').write({name!r})\nraise SystemExit('imported {name}')\n"
            )
        (directory / "sitecustomize.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'a').write('sitecustomize')\n")
    return tmp_path


@contextmanager
def serving_in(directory: Path, script: Path, *options: str) -> Iterator[str]:
    """The address of a server that is started as the installed command is, by a script outside of the directory."""
    package = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    environment.pop("PYTHONSAFEPATH", None)
    command = [sys.executable, str(script), "serve", "--port", "0", "--store", "store", "--log", "off", *options]
    with subprocess.Popen(command, cwd=directory, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if match := re.search(r'url"?[=:] ?"?(http://[^\s"]+)', line):
                    break
            else:
                raise AssertionError("the server did not start")
            yield match[1]
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_process_imports_modules_of_the_working_directory(
    hostile_directory: Path, tmp_path_factory: pytest.TempPathFactory, workers: str
):
    script = tmp_path_factory.mktemp("bin") / "tegakari"
    script.write_text("from tegakari.cli import main\n\nif __name__ == '__main__':\n    main()\n")
    with serving_in(hostile_directory, script, "--workers", workers) as url, httpx.Client(base_url=url) as client:
        answer = client.post("/v1/sql", json={"sql": "SELECT count(*) AS n FROM runs"}, timeout=60)
        assert (answer.status_code, answer.json()["items"]) == (200, [{"n": 1}])
        if workers == "2":  # the model process answers
            status = 503
            for _ in range(300):
                status = client.post(f"/v1/runs/{RUN}/classify", json={"texts": ["a"]}, timeout=60).status_code
                if status != 503:
                    break
                time.sleep(0.1)
            assert status == 409
    trace = hostile_directory / "trace"
    assert not trace.exists(), trace.read_text()


def test_the_trace_would_be_seen(hostile_directory: Path):
    """The modules work: a child as Python starts it by default imports them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-c", "import selectors"]
    subprocess.run(command, cwd=hostile_directory, env=environment, check=False, capture_output=True)
    assert (hostile_directory / "trace").read_text() == "selectors"


@pytest.mark.parametrize(
    ("search_path", "absolute"),
    [("", ""), (":", ""), (".:/a", "/a"), ("/a::/b:", "/a:/b"), ("a/b:/c", "/c"), ("~:/c", "/c")],
)
def test_relative_entries_of_search_paths_are_left_out(search_path: str, absolute: str):
    assert absolute_entries(search_path) == absolute
