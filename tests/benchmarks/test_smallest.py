"""Every benchmark of models and indexing runs at its smallest size and ends with its figures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import encode, environments, full_size, growth, index, knockout, merge, patching, peers


def figures(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """The JSON object of the last line."""
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_encode(capsys: pytest.CaptureFixture[str]):
    encode.main(["--positions", "32", "--repeats", "1", "--no-peers"])
    result = figures(capsys)
    assert result["cpu_encode_over_gemm"] > 0
    assert result["saelens_over_cpu_encode"] is None


def test_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    size = ["--layers", "1", "--documents", "24", "--d-model", "72", "--repeats", "1"]
    index.main([*size, "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["index_over_forward_cpu"] > 1
    assert 0 <= result["padding_share"] < 0.1
    assert result["tokens"] > 24 * 30
    index.main([*size, "--work", str(tmp_path), "--processor-time"])  # with the existing models and corpus
    assert figures(capsys)["clock"] == "process_time"


def test_full_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    full_size.main(["--layers", "2", "--documents", "8", "--d-model", "72", "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["full_size_index_over_forward_cpu"] > 1
    # 500 of 9,216 features, scaled; the documents' last positions are not those on which the SAEs were set.
    assert 0.3 < result["active_features"] / (500 * 72 / 2304) < 3
    assert not list(tmp_path.iterdir())


def test_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    size = ["--layers", "2", "--documents", "321", "--d-sae", "64", "--active", "6", "--repeats", "1"]
    merge.main([*size, "--no-before", "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["merge_seconds"] > 0
    assert result["merge_over_before"] is None


def test_knockout(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    size = ["--layers", "4", "--d-model", "72", "--documents", "4", "--repeats", "1"]
    knockout.main([*size, "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["max_logit_difference"] < 1e-4
    names = ("naive_over_warm", "naive_over_cold", "naive_over_warm_last", "concurrent16_over_one")
    assert all(result[name] > 0 for name in names)
    assert not list(tmp_path.iterdir())


def test_patching(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    size = ["--layers", "3", "--d-model", "72", "--tokens", "64", "--pairs", "2"]
    patching.main([*size, "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["max_effect_difference"] < 1e-3
    assert result["naive_over_ours"] > 0
    assert result["naive_over_ours_patched"] > result["naive_over_ours"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif("TEGAKARI_SOAK" not in os.environ, reason="long; `make soak` runs it")
def test_growth(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(growth, "TIMES", (1, 8))
    growth.main(["--documents", "24", "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["tokens_16x_over_1x"] > 6  # and even more than 8: a tokenizer of few texts has longer tokens
    assert result["peak_memory_growth"] < 1.3
    assert set(result) >= {"time_16x_over_1x", "processor_time_16x_over_1x", "peak_megabytes"}


@pytest.mark.slow
@pytest.mark.skipif(not environments.DELPHI.is_ready(), reason="`make bench-peers` creates delphi's environment")
def test_delphi_finds_the_same_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    size = ["--layers", "1", "--documents", "96", "--repeats", "1", "--dashboard-features", "0"]
    peers.main([*size, "--work", str(tmp_path)])
    result = figures(capsys)
    assert result["delphi_over_index"] > 0
    assert result["top_positions_that_differ"] == 0
