"""The Triton kernels compile for sm_90 without spills or waits of the host; checked without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tegakari.kernels.gpu.attention import TILE

REPOSITORY = Path(__file__).parents[2]
SHARED = 227 * 1024
"""Maximum bytes of shared memory per block on sm_90."""

REGISTERS = {
    "tile_kernel": 168,
    "join_kernel": 96,
    "centre_kernel": 80,
    "append_kernel": 80,
    "place_kernel": 64,
    "select_kernel": 176,
    "input_kernel": 48,
    "error_kernel": 64,
    "feature_kernel": 96,
    "decoder_bias_kernel": 72,
    "kept_kernel": 48,
    "adam_kernel": 80,
    "attention_kernel": 248,
    "drawn_kernel": 48,
}
"""Maximum registers: those at the size of the study with Triton 3.6 and 3.9, with a margin. Above 255 they spill."""


@pytest.fixture(scope="module")
def usages() -> list[dict]:
    """Resources from another process: in this one the kernels are interpreted. Wider calls run on the command line."""
    calls = ["tally", "all", "topk", "topk 1000", "step", "step topk", "attention of gemma-2-2b", "drawn pairs"]
    command = [sys.executable, "-m", "tests.support.kernel_ahead_of_time", *calls]
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


def test_atomics_are_of_integers_alone(usages: list[dict]) -> None:
    """Sums of integers, and places that are sorted afterwards, do not depend on the order of the programs."""
    assert {usage["kernel"] for usage in usages if usage["atomics"]} == {"tile_kernel", "join_kernel", "append_kernel"}
    assert [usage for usage in usages if usage["float_atomics"]] == []


def test_two_programs_of_attention_share_a_multiprocessor(usages: list[dict]) -> None:
    (usage,) = (usage for usage in usages if usage["kernel"] == "attention_kernel")
    assert 2 * usage["shared"] <= SHARED
    assert 2 * usage["registers"] * 32 * TILE["num_warps"] <= 64 * 1024
