"""Attempts to escape the SQL sandbox: refused queries, bounds, and defence in depth."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import duckdb
import pytest
from litestar.testing import TestClient

from tegakari.schemas.errors import BusyError, DeadlineError, SqlError
from tegakari.service.engine.sql_processes import SqlProcesses
from tegakari.store.sql.sandbox import SandboxRequest, check, connect, execute
from tests.support.service import RUN


def request(store: Path, sql: str, *, seconds: float = 5, rows: int = 100, size: int = 2**20) -> SandboxRequest:
    return SandboxRequest(store=str(store), runs=[RUN], sql=sql, parameters={}, rows=rows, bytes=size, seconds=seconds)


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
                    outcome: object = await processes.run(request(store, sql, seconds=0.7))
                except (SqlError, DeadlineError) as error:
                    outcome = error
                return sql, time.perf_counter() - start, outcome

        for sql, seconds, outcome in await asyncio.gather(*map(run_bomb, BOMBS)):
            assert isinstance(outcome, (SqlError, DeadlineError)), sql
            assert seconds < 15, sql
        reply, _ = await processes.run(request(store, "SELECT 1"))
        assert reply.error is None
        await processes.close()

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


def test_large_results_are_truncated(store: Path):
    reply, rows = execute(request(store, "SELECT repeat('x', 1000) FROM range(1000000)", rows=100_000, size=2**20))
    assert reply.truncated
    assert len(rows) < 2**21


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


def test_the_process_has_no_environment_and_can_write_nothing(store: Path, monkeypatch: pytest.MonkeyPatch):
    """As /proc shows it."""
    monkeypatch.setenv("TEGAKARI_SECRET", "hidden")

    async def scenario() -> None:
        processes = SqlProcesses()
        await processes.run(request(store, "SELECT 1"))
        assert processes._spare is not None
        spare = await processes._spare
        proc = Path(f"/proc/{spare.pid}")
        for _ in range(200):
            limits = (proc / "limits").read_text()
            if "Max file size             0" in limits:
                break
            await asyncio.sleep(0.05)
        assert "Max file size             0" in limits
        assert "Max core file size        0" in limits
        assert b"hidden" not in (proc / "environ").read_bytes()
        assert (proc / "oom_score_adj").read_text().strip() == "1000"
        await processes.close()
        assert spare.returncode is not None

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
        reply, _ = await processes.run(request(store, "SELECT 1"))
        assert reply.error is None
        await processes.close()

    asyncio.run(scenario())
