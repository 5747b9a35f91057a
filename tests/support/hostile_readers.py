"""Every reader of a run, on one run of a store: what it shows, or how it refuses.

A program of its own, `python -m tests.support.hostile_readers STORE RUN...`, because a run that ends its reader would
end the tests. It prints one JSON object per run: reader -> text shown, or `refused: ...`, or `failed: ...` for an error
that is not one of `schemas/errors.py`.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from urllib.parse import quote

import duckdb
import structlog
from litestar.testing import TestClient
from typer.testing import CliRunner

from tegakari.cli.app import app as cli
from tegakari.schemas.errors import TegakariError
from tegakari.service.app import create_app
from tegakari.store.disk.publish import adopt_run, damaged_files
from tegakari.store.export.tables import export_run
from tegakari.store.reader import Store
from tegakari.store.sql import sandbox, views
from tegakari.store.sql.query import run_query, write_rows
from tegakari.store.sql.sandbox import SandboxRequest, execute
from tegakari.store.sql.views import VIEWS
from tests.support.factories import LABELS
from tests.support.hostile_runs import HONEST, HOSTILE_RUNS

LABEL = quote(LABELS[0], safe="")
DOCUMENT = quote(f"{LABELS[0]}-000", safe="")

ROUTES = (
    "",
    "/labels",
    f"/labels/{LABEL}",
    f"/labels/{LABEL}/features?limit=500",
    f"/labels/{LABEL}/features?layer=1&limit=5",
    f"/labels/{LABEL}/features?pooling=max",
    f"/labels/{LABEL}/features?variety=specific",
    "/features?limit=500",
    "/features?order=cohens_d&limit=500",
    "/features?token=car",
    "/layers/0/features/1",
    "/layers/1/features/2?tokens=10",
    "/layers/1/features/2/labels",
    "/layers/1/features/2/effects",
    f"/labels/{LABEL}/effects?limit=500",
    "/layers/1/features/2/tokens",
    "/layers/1/features/2/contexts",
    "/layers/1/features/2/documents",
    "/layers/1/features/2/histogram",
    "/layers/1/features/2/neighbours",
    "/documents?limit=500",
    f"/documents?label={LABEL}&correct=true",
    f"/documents/{DOCUMENT}?features=20",
    f"/documents/{DOCUMENT}/features",
    f"/documents/{DOCUMENT}/similar",
    "/search?q=car",
    "/specificity",
    "/classification",
    "/sparsity",
    "/circuit",
)

COMMANDS = (
    ("runs", "show"),
    ("features", "--label", LABELS[0], "--json"),
    ("feature", "--feature", "1:2", "--json"),
)
"""Commands that take `--run`; `runs show` takes the run as its argument."""


def readers(store: Path, run: str, client: TestClient) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, function that returns what the reader shows) of every reader."""
    yield from ((f"GET {route}", lambda route=route: _response(client, f"/v1/runs/{run}{route}")) for route in ROUTES)
    for command in COMMANDS:
        yield " ".join(command[:2]), lambda command=command: _command(store, run, command)
    yield "sql", lambda: _query(store, run, "SELECT count(*), min(label), max(label) FROM labels")
    yield "sandbox", lambda: _sandboxed(store, run, "SELECT count(*), min(label), max(label) FROM labels")
    yield "views", lambda: _tables(views.connect(store, [run]))
    yield "views of the sandbox", lambda: _tables(sandbox.connect(store, [run]))
    yield "export", lambda: _export(store, run)
    yield "verify", lambda: str(bool(damaged_files(store, run)))
    yield "adopt", lambda: _adopt(store, run)


def _response(client: TestClient, path: str) -> str:
    response = client.get(path)
    if response.status_code == 200:
        return json.dumps(response.json(), ensure_ascii=False)
    slug = response.json()["type"].rpartition("/")[2]
    return f"{'failed' if slug == 'internal-error' else 'refused'}: {response.text}"


def _command(store: Path, run: str, command: tuple[str, ...]) -> str:
    arguments = [*command, run] if command[0] == "runs" else [*command, "--run", run]
    done = CliRunner().invoke(cli, [*arguments, "--store", str(store)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout if done.exit_code == 0 else f"failed: {done.output}"


def _tables(connection: duckdb.DuckDBPyConnection) -> str:
    with connection:
        return "".join(f"{table} {connection.sql(f'FROM {table} ORDER BY ALL').fetchall()}" for table in VIEWS)


def _query(store: Path, run: str, sql: str) -> str:
    sink = io.BytesIO()
    write_rows(sink, run_query(store, [run], sql), "json")
    return sink.getvalue().decode()


def _sandboxed(store: Path, run: str, sql: str) -> str:
    import pyarrow as pa

    request = SandboxRequest(
        store=str(store), runs=[run], sql=sql, parameters={}, rows=100_000, bytes=2**25, seconds=60
    )
    reply, rows = execute(request)
    if reply.error is not None:
        return f"refused: {reply.error}"
    return str(pa.ipc.open_stream(rows).read_all().to_pylist())


def _export(store: Path, run: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        tables = ("labels", "documents", "activations")
        export_run(Store(store).run(run), Path(directory) / "out", file_format="csv", tables=tables)
        return "".join(file.read_text() for file in sorted((Path(directory) / "out").glob("*.csv")))


def _adopt(store: Path, run: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        adopt_run(Path(directory), store / "runs" / run)
    return "adopted"


def outcome(show: Callable[[], str], run: str) -> str:
    """What a reader shows, without the run's name and cursors, which contain its hash."""
    try:
        text = show()
    except TegakariError as error:
        text = f"refused: {error}"
    except duckdb.IOException as error:  # of a connection of the tests' own
        text = f"refused: {error}"
    except Exception:  # noqa: BLE001 - whatever the reader fails with
        text = f"failed: {traceback.format_exc()}"
    return re.sub(r'"next": "[^"]*"', '"next": ""', text.replace(run, "RUN"))


ALWAYS = ("sql", "sandbox", "verify", "adopt", "GET ")
"""Readers that are tried on every run."""


def is_tried(reader: str, number: int, run: str) -> bool:
    """Whether a reader is tried on a run: all on the honest one, a third on each other one; all in `make soak`."""
    if run == HONEST or reader in ALWAYS or "TEGAKARI_SOAK" in os.environ:
        return True
    return number % 3 == list(HOSTILE_RUNS).index(run) % 3


def main() -> None:
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(io.StringIO()))
    store, runs = Path(sys.argv[1]), sys.argv[2:]
    with TestClient(create_app(store), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        for run in runs:
            with redirect_stderr(io.StringIO()):
                results = {
                    name: outcome(show, run)
                    for number, (name, show) in enumerate(readers(store, run, client))
                    if is_tried(name, number, run)
                }
            sys.stdout.write(json.dumps([run, results]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
