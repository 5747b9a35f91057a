"""Attempts to escape the SQL sandbox: refused queries, bounds, and defence in depth."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import duckdb
import pytest
from litestar.testing import TestClient

from tegakari.schemas.errors import BusyError, DeadlineError, SqlError
from tegakari.service.engine.sql_processes import SqlProcesses
from tegakari.store.sql.sandbox import SandboxReply, SandboxRequest, check, connect, execute
from tests.support.service import RUN


def request(
    store: Path, sql: str, *, seconds: float = 5, rows: int = 100, size: int = 2**20, file_format: str = "json"
) -> SandboxRequest:
    return SandboxRequest(
        store=str(store),
        runs=[RUN],
        sql=sql,
        parameters={},
        rows=rows,
        bytes=size,
        seconds=seconds,
        format=file_format,
    )


async def run(processes: SqlProcesses, query: SandboxRequest) -> tuple[SandboxReply, bytes]:
    """The reply to a query, and its whole body."""
    body = await processes.run(query)
    try:
        return body.reply, b"".join([part async for part in body.parts()])
    finally:
        body.close()


OUTSIDE = "/etc/passwd"

NOT_A_SELECT = [
    f"COPY labels TO '{OUTSIDE}'",
    f"COPY (SELECT 1) TO '{OUTSIDE}' (FORMAT parquet)",
    f"COPY labels FROM '{OUTSIDE}'",
    "EXPORT DATABASE '/tmp/out'",
    "IMPORT DATABASE '/tmp/out'",
    "ATTACH '/tmp/other.duckdb'",
    "ATTACH ':memory:' AS other",
    "DETACH run_0",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL spatial FROM community",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "SET VARIABLE x = 1",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CALL enable_logging(storage = 'file', storage_path = '/tmp/logs')",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE MACRO f(x) AS TABLE SELECT * FROM read_text(x)",
    "CREATE SECRET s (TYPE s3)",
    "CREATE OR REPLACE TEMP VIEW labels AS SELECT 1",
    "DROP TABLE run_0.labels",
    "INSERT INTO run_0.labels SELECT * FROM run_0.labels",
    "UPDATE run_0.labels SET label = 'x'",
    "DELETE FROM run_0.labels",
    "MERGE INTO run_0.labels USING labels ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "ALTER TABLE run_0.labels DROP COLUMN label",
    "BEGIN TRANSACTION",
    "CHECKPOINT run_0",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT 1",
    "USE memory",
    "SELECT 1; COPY labels TO '/tmp/x'",
    "SELECT 1;;SELECT 2",
    "/* SELECT */ COPY labels TO '/tmp/x'",
    "-- SELECT\nCOPY labels TO '/tmp/x'",
    "\ufeffCOPY labels TO '/tmp/x'",
    "COPY\u00a0labels TO '/tmp/x'",
    "ＣＯＰＹ labels TO '/tmp/x'",
    "",
    ";",
    "\x00SELECT 1",
]
"""More than one statement, none, or other statements than SELECT, plain or disguised."""

FORBIDDEN_FUNCTIONS = [
    f"SELECT * FROM read_text('{OUTSIDE}')",
    f"SELECT * FROM read_blob('{OUTSIDE}')",
    f"SELECT * FROM READ_TEXT('{OUTSIDE}')",
    f"SELECT * FROM \"read_text\"('{OUTSIDE}')",
    f"SELECT * FROM system.main.read_text('{OUTSIDE}')",
    f"SELECT * FROM read_csv('{OUTSIDE}')",
    f"SELECT * FROM read_csv_auto('{OUTSIDE}')",
    f"SELECT * FROM read_json('{OUTSIDE}')",
    f"SELECT * FROM sniff_csv('{OUTSIDE}')",
    "SELECT * FROM read_parquet('s3://bucket/x')",
    "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
    "SELECT * FROM read_duckdb('/tmp/x.duckdb')",
    "SELECT * FROM glob('/*')",
    "SELECT (SELECT count(*) FROM glob('/*'))",
    "WITH x AS (FROM glob('/*')) SELECT * FROM x",
    "SELECT * FROM labels WHERE EXISTS (FROM glob('/*'))",
    "SELECT * FROM labels, LATERAL (SELECT * FROM glob('/' || label))",
    "SELECT list(x) FROM (SELECT 1 x UNION ALL SELECT 2 FROM glob('/*'))",
    "SELECT * FROM query('FROM glob(''/*'')')",
    "SELECT * FROM query_table('labels')",
    "SELECT * FROM json_execute_serialized_sql('{}')",
    "SELECT json_serialize_plan('FROM glob(''/*'')')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(140000000)",
    "SELECT * FROM python_map_function((SELECT 1))",
    "SELECT * FROM python_arrow_scan(1, 2, 3)",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_external_file_cache()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM register_external_resource('x')",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint('run_0')",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM pragma_storage_info('labels')",
    "SELECT * FROM duckdb_databases",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM duckdb_logs",
    "SELECT current_setting('allowed_paths')",
    "SELECT write_log('x')",
    "SELECT finalize('x'::BLOB)",
    "SELECT __internal_decompress_string(1::UBIGINT)",
]
"""Functions that read files, take addresses or SQL, or reveal the machine, anywhere in a SELECT."""


@pytest.mark.parametrize("sql", [*NOT_A_SELECT, *FORBIDDEN_FUNCTIONS])
def test_the_query_is_refused_before_it_runs(store: Path, sql: str):
    reply, rows = execute(request(store, sql))
    assert reply.error, sql
    assert rows == b""
    assert str(store) not in reply.error


@pytest.fixture(scope="module")
def locked(store: Path) -> duckdb.DuckDBPyConnection:
    """The connection without the check of queries before it."""
    return connect(store, [RUN])


BEHIND_THE_CHECK = [
    sql
    for sql in [*NOT_A_SELECT, *FORBIDDEN_FUNCTIONS]
    if any(word in sql for word in (OUTSIDE, "'/tmp/", "glob(", "s3://", "INSTALL", "LOAD", "SET ", "run_0.labels "))
    and not any(word in sql for word in ("VARIABLE", "enable_logging", "json_serialize_plan", "which_secret"))
]


@pytest.mark.parametrize("sql", BEHIND_THE_CHECK)
def test_duckdb_alone_would_refuse_too(locked: duckdb.DuckDBPyConnection, sql: str):
    with pytest.raises(duckdb.Error):
        locked.sql(sql).fetchall()  # pyright: ignore


BY_NAME = [
    f"SELECT * FROM '{OUTSIDE}'",
    f'SELECT * FROM "{OUTSIDE}"',
    "SELECT * FROM 'x.csv'",
    "SELECT * FROM 'http://127.0.0.1:1/x.parquet'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM ':memory:'",
    "SELECT * FROM connection",
    "SELECT * FROM os",
    "SELECT * FROM request",
    "SELECT * FROM other.main.labels",
    "WITH x AS (INSERT INTO run_0.labels SELECT * FROM run_0.labels RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM run_0.labels RETURNING *) SELECT * FROM x",
]
"""Files, addresses and variables of the program in place of tables; writing inside a SELECT."""


@pytest.mark.parametrize("sql", BY_NAME)
def test_only_tables_can_be_named(store: Path, sql: str):
    before = (store / "runs" / RUN / "index.duckdb").read_bytes()
    reply, rows = execute(request(store, sql))
    assert reply.error, sql
    assert rows == b""
    assert (store / "runs" / RUN / "index.duckdb").read_bytes() == before


BOMBS = [
    "SELECT count(*) FROM range(1000000000000)",
    "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
    "SELECT count(*) FROM feature_labels a, feature_labels b, feature_labels c, feature_labels d",
    "WITH RECURSIVE t AS (SELECT 1 x UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t",
    "WITH RECURSIVE t AS (SELECT 'x' x UNION ALL SELECT x || x FROM t) SELECT max(len(x)) FROM t",
    "SELECT sleep_ms(100000)",
    "SELECT * FROM range(100000000000) ORDER BY random()",
    "SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)",
    "SELECT list(range) FROM range(1000000000000)",
    "SELECT repeat('x', 4000000000)",
    "SELECT list_transform(range(2000000000), lambda x: x * 2)",
    "SELECT regexp_matches(repeat('a', 100000000), '(a*)*b')",
    "SELECT count(DISTINCT hash(range)) FROM range(100000000000)",
    "SELECT factorial(33), " + ", ".join(f"sum(a.range ^ {n}) OVER ()" for n in range(20)) + " FROM range(10000000) a",
]
"""Queries that would take all time or all memory."""


def test_bombs_end_in_time_and_harm_no_other_query(store: Path):
    async def scenario() -> None:
        processes, slots = SqlProcesses(), asyncio.Semaphore(3)

        async def run_bomb(sql: str) -> tuple[str, float, object]:
            async with slots:
                start = time.perf_counter()
                try:
                    outcome: object = await run(processes, request(store, sql, seconds=0.7))
                except (SqlError, DeadlineError) as error:
                    outcome = error
                return sql, time.perf_counter() - start, outcome

        for sql, seconds, outcome in await asyncio.gather(*map(run_bomb, BOMBS)):
            assert isinstance(outcome, (SqlError, DeadlineError)), sql
            assert seconds < 15, sql
        _, body = await run(processes, request(store, "SELECT 1 AS one"))
        assert b'"items":[{"one":1}]' in body
        processes.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT " + "+".join(["1"] * 20_000),
        "SELECT " + "NOT " * 20_000 + "true",
        "SELECT * FROM " + "(SELECT * FROM " * 2000 + "labels" + ")" * 2000,
        "SELECT " + "[" * 20_000 + "]" * 20_000,
    ],
)
def test_deep_queries_run_or_are_refused(client: TestClient, sql: str):
    response = client.post("/v1/sql", json={"sql": sql, "seconds": 5})
    assert response.status_code in (200, 400, 503), response.text
    assert client.post("/v1/sql", json={"sql": "SELECT 1 AS one"}).json()["items"] == [{"one": 1}]


WIDE = f"SELECT {','.join(['NULL'] * 1000)} FROM range(100000)"


@pytest.mark.parametrize("file_format", ["json", "csv", "arrow", "parquet"])
@pytest.mark.parametrize(
    "sql",
    [
        WIDE,
        WIDE.replace("NULL", "true"),
        f"SELECT 1 AS \"{'n' * 5000}\", range AS r, repeat('x', 100) AS x FROM range(100000)",
        "SELECT repeat(chr(1), 3_000_000)",
        "SELECT repeat('x', 1000) FROM range(100000)",
        "SELECT range(10000) FROM range(1000)",
    ],
    ids=["NULL", "boolean", "long name", "escapes", "text", "lists"],
)
def test_a_result_is_refused_once_it_is_larger_than_its_limit(store: Path, sql: str, file_format: str):
    """Whatever few bytes the rows have in DuckDB and in Arrow."""
    maximum = 500_000
    reply, body = execute(request(store, sql, rows=100_000, size=maximum, seconds=30, file_format=file_format))
    if reply.error is None:  # Arrow writes columns of NULL, and Parquet writes equal values, in few bytes
        assert file_format in ("arrow", "parquet")
        assert reply.size == len(body) <= maximum
        return
    assert reply.field == "limit"
    assert f"{maximum:,} bytes" in reply.error
    assert file_format in reply.error
    size = re.search(r"([\d,]+) bytes of", reply.error)
    assert size
    assert maximum < int(size[1].replace(",", "")) < 200_000_000
    assert body == b""
    assert reply.fix
    if fitting := re.search(r"set limit to ([\d,]+)", reply.fix):
        rows = int(fitting[1].replace(",", ""))
        reply, body = execute(request(store, sql, rows=rows, size=maximum, seconds=30, file_format=file_format))
        assert reply.error is None
        assert reply.truncated
        assert maximum / 3 < len(body) <= maximum or file_format == "parquet"


def test_harmless_queries_run(locked: duckdb.DuckDBPyConnection):
    for sql in (
        "FROM labels",
        "DESCRIBE labels",
        "SUMMARIZE features",
        "SELECT unnest(top_tokens) FROM features",
        "SELECT * FROM range(3), generate_series(1, 2)",
        "SELECT layer, histogram(feature) FROM activations GROUP BY layer",
        "SELECT * FROM labels QUALIFY row_number() OVER (PARTITION BY run ORDER BY f1) < 3",
        "SELECT 'COPY x TO y; glob(1)' AS text",
    ):
        check(locked, sql)
        locked.sql(sql).fetchall()


ENDLESS = "SELECT count(*) FROM range(1000000000000)"


async def forks(processes: SqlProcesses) -> list[Path]:
    """Directories in /proc of the running forks, once there is one."""
    assert processes._fork_server is not None
    pid = processes._fork_server.process.pid
    for _ in range(300):
        if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return [Path(f"/proc/{child}") for child in children]
        await asyncio.sleep(0.05)
    raise AssertionError("no query runs")


def test_the_process_has_no_environment_and_can_write_nothing(store: Path, monkeypatch: pytest.MonkeyPatch):
    """As /proc shows it."""
    monkeypatch.setenv("TEGAKARI_SECRET", "hidden")

    async def scenario() -> None:
        processes = SqlProcesses()
        query = asyncio.create_task(processes.run(request(store, ENDLESS, seconds=20)))
        await asyncio.sleep(0)
        (proc,) = await forks(processes)
        limits: dict[str, str] = {}
        for _ in range(200):
            limits = {line[:26].strip(): line[26:].split()[0] for line in (proc / "limits").read_text().splitlines()}
            if limits["Max cpu time"] != "unlimited":
                break
            await asyncio.sleep(0.05)
        assert 40 < int(limits["Max cpu time"]) < 80
        assert limits["Max file size"] == limits["Max core file size"] == "0"
        assert int(limits["Max address space"]) <= 6 * 2**30
        assert int(limits["Max data size"]) <= 3 * 2**30
        assert b"hidden" not in (proc / "environ").read_bytes()
        assert (proc / "oom_score_adj").read_text().strip() == "1000"
        # Standard input to error, and the connection to the service: no descriptor of another query.
        sockets = [link for link in (proc / "fd").iterdir() if "socket" in str(link.readlink())]
        assert len(sockets) == 1
        query.cancel()
        await asyncio.gather(query, return_exceptions=True)
        processes.close()

    asyncio.run(scenario())


def test_a_fork_inherits_no_thread(store: Path):
    """A thread of the fork server could hold a lock at the time of the fork, for ever."""

    async def scenario() -> None:
        processes = SqlProcesses()
        await run(processes, request(store, "SELECT 1"))
        assert processes._fork_server is not None
        tasks = Path(f"/proc/{processes._fork_server.process.pid}/task")
        end = time.monotonic() + 60
        while True:  # it opens a database once, which has threads until it is closed
            names = [(task / "comm").read_text().strip() for task in tasks.iterdir()]
            # jemalloc's own thread: it is stopped and started around each fork.
            if len([name for name in names if name != "jemalloc_bg_thd"]) == 1:
                break
            assert time.monotonic() < end, names
            await asyncio.sleep(0.1)
        processes.close()

    asyncio.run(scenario())


def test_the_kernel_ends_a_query_after_its_time_without_the_service(store: Path):
    """The service is stopped, as a debugger or an overloaded machine does."""

    async def scenario() -> None:
        processes = SqlProcesses()
        await run(processes, request(store, "SELECT 1"))
        query = asyncio.create_task(processes.run(request(store, ENDLESS, seconds=1)))
        await asyncio.sleep(0)
        (proc,) = await forks(processes)
        end = time.monotonic() + 1 + 1 + 5
        while proc.exists() and time.monotonic() < end:
            time.sleep(0.05)  # not the event loop, which would end the process
        assert not proc.exists()
        with pytest.raises((DeadlineError, SqlError)):
            await query
        processes.close()

    asyncio.run(scenario())


def test_a_fork_server_that_died_is_started_again(store: Path):
    async def scenario() -> None:
        processes = SqlProcesses()
        await run(processes, request(store, "SELECT 1"))
        assert processes._fork_server is not None
        processes._fork_server.process.kill()
        _, body = await run(processes, request(store, "SELECT 1 AS one"))
        assert b'"items":[{"one":1}]' in body
        processes.close()

    asyncio.run(scenario())


def test_queries_beyond_the_maximum_are_refused_at_once(store: Path):
    async def scenario() -> None:
        processes = SqlProcesses(max_running=2)
        slow = [
            asyncio.create_task(processes.run(request(store, "SELECT count(*) FROM range(1000000000000)", seconds=30)))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await processes.run(request(store, "SELECT 1"))
        for task in slow:
            task.cancel()
        results = await asyncio.gather(*slow, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        _, body = await run(processes, request(store, "SELECT 1 AS one"))
        assert b'"items":[{"one":1}]' in body
        processes.close()

    asyncio.run(scenario())
