"""The benchmarks of a GPU run at their smallest size on a CPU, and every figure is a number."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import attention, encode, kernel_times, parity, rerun, sae_steps, settings, train
from benchmarks.gpu.__main__ import index_figures, main
from tegakari.kernels.types import Tally
from tests.support.kernel_cases import needs_triton


def test_training():
    figures = train.measure(smoke=True)
    assert all(math.isfinite(value) for value in figures.values())
    assert {"sae_train_mfu", "sae_train_flop_per_s", "finetune_tokens_per_s", "finetune_tokens_per_s_packed"} <= set(
        figures
    )
    assert min(value for name, value in figures.items() if "waits" not in name and name != "sae_gpu_difference") > 0
    assert figures["sae_gpu_difference"] == 0  # a CPU beside itself
    assert 0.95 < figures["sae_bfloat16_loss"] < 1.05


def test_steps_of_sae_training():
    figures = sae_steps.measure(smoke=True)
    assert min(figures.values()) > 0
    pieces = ("step", "issue", "products", "gradients", "adam", "bytes")
    assert {f"sae_{piece}_ms{batch}" for piece in pieces for batch in ("", "_4096")} <= set(figures)


def test_knockouts_and_patching():
    figures = rerun.measure(smoke=True)
    assert all(math.isfinite(value) for value in figures.values())
    assert min(figures[name] for name in ("naive_over_warm", "naive_over_ours", "naive_over_ours_many")) > 0
    assert figures["knockout_eager_ms"] > figures["knockout_replay_difference"] == figures["knockout_graph_bytes"] == 0
    assert figures["knockout_max_logit_difference"] < 1e-3 < figures["knockout_max_logit_change"]
    assert figures["patching_max_change_difference"] < 1e-3


def test_parity():
    figures = parity.measure(smoke=True)
    assert figures == {"parity_tallies": 16, "parity_index_difference": 0, "parity_files_that_differ": 0}


def test_parity_refuses_a_device_that_differs(monkeypatch: pytest.MonkeyPatch):
    finished: list[Tally] = []

    def first_off_by_one(tally: Tally) -> Tally:
        finished.append(tally)
        tally.active[7] += len(finished) == 1
        return tally

    monkeypatch.setattr(parity, "finish_tally", first_off_by_one)
    with pytest.raises(AssertionError, match="relu, outliers False, pairs False: active differs"):
        parity.tallies_compared(torch.device("cpu"))


def test_kernels_and_settings():
    figures = kernel_times.measure(smoke=True) | settings.measure(smoke=True)
    assert set(figures) == {
        *(
            f"{work}_kernels_us"
            for work in ("encode_with_contexts", "encode_topk", "sae_steps", "warm_knockout", "fine_tuning")
        ),
        *(f"settings_{kernel}_best_ms" for kernel in ("tile", "join", "centre", "append", "select")),
    }
    assert min(figures.values()) > 0


def test_encode():
    figures = encode.measure(smoke=True)
    assert {
        "gpu_encode_over_gemm",
        "gpu_encode_with_contexts_over_gemm",
        "gpu_eager_over_encode",
        "gpu_topk_over_gemm",
        "gpu_encode_host_ms",
    } <= set(figures)
    assert min(figures.values()) > 0


def test_attention():
    needs_triton()
    figures = attention.measure(smoke=True)
    assert {"forward_attention_speedup_16_6", "attention_speedup_16_6", "attention_layer_us_16_6"} < set(figures)
    assert min(figures.values()) > 0


def test_the_command_writes_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "figures.json"
    main(["--smoke", "--part", "encode", "--output", str(file)])
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads(file.read_text())
    assert {"card", "torch", "gpu_encode_over_gemm", "encode_seconds"} <= set(printed)


def test_index():
    figures = index_figures(24, smoke=True)
    assert figures["index_over_forward"] > 0
    assert figures["index_files_that_differ"] == 0
