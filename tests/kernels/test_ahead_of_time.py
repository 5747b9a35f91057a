"""The Triton kernels compile for Hopper, keep their registers, and never ask the host to wait: all without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SHARED = 227 * 1024
"""Bytes of shared memory that a block may have on sm_90."""

REGISTERS = {"pool_kernel": 192, "place_kernel": 176, "cut_kernel": 96, "fused_kernel": 224}
"""What the kernels of the study's size took with Triton 3.6 and 3.9, and a little. 255 is where spilling begins."""


@pytest.fixture(scope="module")
def usages() -> list[dict]:
    """In a process of its own: here the kernels are interpreted. The wider calls are left to the command line."""
    command = [sys.executable, "-m", "tests.support.kernel_ahead_of_time", "gemm", "gemm topk", "fused"]
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_is_compiled(usages: list[dict]) -> None:
    assert {usage["kernel"] for usage in usages} == set(REGISTERS)


def test_nothing_spills(usages: list[dict]) -> None:
    assert {usage["call"]: usage["spilled"] for usage in usages if usage["spilled"]} == {}


def test_registers_and_shared_memory_stay_in_bounds(usages: list[dict]) -> None:
    over = [usage for usage in usages if usage["registers"] > REGISTERS[usage["kernel"]] or usage["shared"] > SHARED]
    assert over == []


def test_no_atomics(usages: list[dict]) -> None:
    """Every output element has one writer: two runs give the same bits."""
    assert [usage for usage in usages if usage["atomics"]] == []


def test_products_and_operands_are_fetched_ahead(usages: list[dict]) -> None:
    """Asynchronous copies, without which neither the memory nor the matrix units are kept busy."""
    ahead = {(usage["kernel"], usage["call"]) for usage in usages if usage["asynchronous"]}
    assert {("pool_kernel", "gemm"), ("pool_kernel", "gemm topk"), ("fused_kernel", "fused")} <= ahead
