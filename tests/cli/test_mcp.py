"""`tegakari mcp`: its errors and its end. Its tools are tested in tests/service/mcp."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from tegakari.cli.mcp import mcp
from tegakari.schemas.errors import ConfigError

COMMAND = [sys.executable, "-c", "from tegakari.cli import main; main()", "mcp", "--store"]
GREETING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path):
    missing = tmp_path / "nothing"
    completed = subprocess.run(
        [*COMMAND, missing], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert completed.returncode == 2
    assert "no directory" in completed.stderr
    assert "absolute path" in completed.stderr
    assert completed.stdout == ""


def test_a_bucket_is_refused():
    with pytest.raises(ConfigError, match="is a bucket"):
        mcp("s3://bucket/prefix")


@pytest.mark.parametrize("end", ["stdin", "interrupt"])
def test_only_messages_are_on_stdout_and_it_ends_with_its_agent(tmp_path: Path, end: str):
    process = subprocess.Popen(
        [*COMMAND, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("no message\n" + json.dumps(GREETING) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "tegakari"
        if end == "stdin":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == (0 if end == "stdin" else -signal.SIGINT)
        assert process.stdout.read() == ""
