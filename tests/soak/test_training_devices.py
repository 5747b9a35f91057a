"""SAE training on several devices as the command starts it: 1, 2 and 4 processes, torchrun, kills."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

from tegakari.schemas.config.render import render_config
from tests.support.descendants import command_line, descendants
from tests.support.sae_training import sae_config
from tests.support.small_case import SmallCase, make_small_case
from tests.support.soak_length import only_in_a_soak

pytestmark = only_in_a_soak

LAYERS = 6
SECONDS = 300.0
"""Longest duration of a training."""
TRAIN = ["-m", "tegakari.cli", "sae", "train", "--json", "--device", "cpu", "--config"]


@pytest.fixture(scope="module")
def case(tiny_gemma2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallCase:
    """The small case with a classifier of more layers."""
    base = tmp_path_factory.mktemp("base")
    torch.manual_seed(3)
    layer_types = ["sliding_attention", "full_attention"] * (LAYERS // 2)
    config = Gemma2Config.from_pretrained(tiny_gemma2_dir, num_hidden_layers=LAYERS, layer_types=layer_types)
    Gemma2ForCausalLM(config).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_gemma2_dir).save_pretrained(base)
    return make_small_case(tmp_path_factory.mktemp("case"), base)


def write_config(case: SmallCase, directory: Path, **settings: object) -> Path:
    directory.mkdir()
    changes = {"epochs": 6, "checkpoint_steps": 10, **settings}
    (directory / "tegakari.toml").write_text(render_config(sae_config(case, directory / "saes", **changes)))
    return directory / "tegakari.toml"


def started(command: list[str]) -> subprocess.Popen[str]:
    # One thread per process: sums depend on their number.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def trained(command: list[str], saes: Path) -> tuple[dict[str, bytes], dict, str]:
    """Files of the SAEs, the printed report, and what was written to stderr."""
    process = started(command)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    return {str(path.relative_to(saes)): path.read_bytes() for path in sorted(saes.glob("*/*"))}, json.loads(out), err


def torchrun(ranks: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]


@pytest.mark.parametrize("sparsity", [{}, {"architecture": "batch_topk", "k": 4}], ids=str)
def test_saes_do_not_depend_on_the_number_of_processes(case: SmallCase, sparsity: dict[str, object], tmp_path: Path):
    one = write_config(case, tmp_path / "one", **sparsity)
    files, report, _ = trained([sys.executable, *TRAIN, str(one)], tmp_path / "one" / "saes")
    assert len(files) == 2 * LAYERS
    for devices in (2, 4):
        config = write_config(case, tmp_path / f"devices-{devices}", **sparsity)
        command = [sys.executable, *TRAIN, str(config), "--devices", str(devices)]
        same, other_report, _ = trained(command, config.parent / "saes")
        assert same == files
        assert other_report["layers"] == report["layers"]
        assert other_report["devices"] == devices
    config = write_config(case, tmp_path / "torchrun", **sparsity)
    same, other_report, err = trained([*torchrun(3), *TRAIN, str(config)], config.parent / "saes")
    assert same == files
    assert other_report["layers"] == report["layers"]
    assert err.count("trained SAEs") == 1  # the first rank alone shows progress and logs


def wait_for_a_checkpoint(process: subprocess.Popen[str], work: Path) -> None:
    """Wait for one more than there are."""
    former = set(work.glob("*/*/complete.json"))
    end = time.monotonic() + SECONDS
    while not set(work.glob("*/*/complete.json")) - former:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def ranks_of(process: subprocess.Popen[str], program: bytes) -> list[int]:
    """Processes below a command that run a program."""
    return [child for child in descendants(process.pid) if program in command_line(child)]


def test_a_killed_rank_ends_the_command_and_a_killed_command_ends_its_ranks(case: SmallCase, tmp_path: Path):
    one = write_config(case, tmp_path / "one", epochs=80)
    files, _, _ = trained([sys.executable, *TRAIN, str(one)], tmp_path / "one" / "saes")
    config = write_config(case, tmp_path / "two", epochs=80)
    command = [sys.executable, *TRAIN, str(config), "--devices", "2"]
    work = tmp_path / "two" / "saes.work"
    process = started(command)
    wait_for_a_checkpoint(process, work)
    os.kill(ranks_of(process, b"spawn_main")[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"error: rank [01] of 2 \(process \d+\) was killed by SIGKILL", err)
    process = started(command)
    wait_for_a_checkpoint(process, work)
    ranks = ranks_of(process, b"spawn_main")
    assert len(ranks) == 2
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 20
    while any(map(command_line, ranks)):
        assert time.monotonic() < end
        time.sleep(0.05)
    resumed, _, err = trained(command, tmp_path / "two" / "saes")
    assert resumed == files


def test_a_killed_rank_of_torchrun_is_named(case: SmallCase, tmp_path: Path):
    config = write_config(case, tmp_path / "killed", epochs=80)
    process = started([*torchrun(2), *TRAIN, str(config)])
    wait_for_a_checkpoint(process, tmp_path / "killed" / "saes.work")
    os.kill(ranks_of(process, b"tegakari.cli")[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert re.search(r"rank\s*: 1 .*\n.*exitcode\s*: -9", err), err
    assert not (tmp_path / "killed" / "saes").exists()
