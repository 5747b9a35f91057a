"""The Triton kernels compile for sm_90 without spills, atomics or waits of the host; checked without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SHARED = 227 * 1024
"""Maximum bytes of shared memory per block on sm_90."""

REGISTERS = {"pool_kernel": 192, "place_kernel": 176, "cut_kernel": 96, "fused_kernel": 224}
"""Maximum registers: those at the size of the study with Triton 3.6 and 3.9, with a margin. Above 255 they spill."""


@pytest.fixture(scope="module")
def usages() -> list[dict]:
    """Resources from another process: in this one the kernels are interpreted. Wider calls run on the command line."""
    command = [sys.executable, "-m", "tests.support.kernel_ahead_of_time", "gemm", "gemm topk", "fused"]
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    process = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_every_kernel_is_compiled(usages: list[dict]) -> None:
    assert {usage["kernel"] for usage in usages} == set(REGISTERS)


def test_nothing_spills(usages: list[dict]) -> None:
    assert {usage["call"]: usage["spilled"] for usage in usages if usage["spilled"]} == {}


def test_registers_and_shared_memory_stay_in_bounds(usages: list[dict]) -> None:
    excessive = [
        usage for usage in usages if usage["registers"] > REGISTERS[usage["kernel"]] or usage["shared"] > SHARED
    ]
    assert excessive == []


def test_no_atomics(usages: list[dict]) -> None:
    """Every output element has one writer: two runs give the same bits."""
    assert [usage for usage in usages if usage["atomics"]] == []


def test_products_and_operands_are_fetched_ahead(usages: list[dict]) -> None:
    """Without asynchronous copies, memory and matrix units would wait for each other."""
    asynchronous = {(usage["kernel"], usage["call"]) for usage in usages if usage["asynchronous"]}
    assert {("pool_kernel", "gemm"), ("pool_kernel", "gemm topk"), ("fused_kernel", "fused")} <= asynchronous
