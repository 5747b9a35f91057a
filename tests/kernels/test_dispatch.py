"""The choice of a path, and the behaviour of `encode` with any path."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
import torch

from tegakari.kernels import Encoded, backend, dispatch, encode
from tegakari.kernels.cpu.encode import cpu_encode
from tegakari.schemas.errors import KernelError
from tests.support.kernel_cases import Case, exact_case, needs_triton


@pytest.fixture(autouse=True)
def _no_cached_path() -> Iterator[None]:
    dispatch._path_for.cache_clear()
    yield
    dispatch._path_for.cache_clear()


@pytest.fixture
def case() -> Case:
    return exact_case("jumprelu", torch.float32, [3, 4], 5, 30)


def test_the_cpu_runs_the_compiled_pass() -> None:
    assert backend("cpu") == "numba"
    assert dispatch._path_for("cpu")[1] is cpu_encode


FUNCTIONS = (
    ("tegakari.kernels.torch_only.torch_encode", "torch"),
    ("tegakari.kernels.cpu.encode.cpu_encode", "numba"),
    ("tegakari.kernels.gpu.encode.gpu_encode", "triton"),
)
"""Functions that the dispatcher calls, and the paths they belong to."""


@pytest.mark.parametrize("setting", ["torch", "numba", "triton"])
def test_the_setting_selects_the_path(setting: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting == "triton":
        needs_triton()
    monkeypatch.setenv("TEGAKARI_KERNELS", setting)
    calls = []

    def record(function: str, name: str) -> None:
        module, _, attribute = function.rpartition(".")
        original = getattr(import_module(module), attribute)

        def recorded(*args, **kwargs) -> Encoded:
            calls.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(function, recorded)

    for function, name in FUNCTIONS:
        record(function, name)
    result = encode(case.residual, case.encoder, case.offsets)
    assert result.rows is not None
    assert len(result.rows.trimmed().indptr) == 3
    assert calls == [backend("cpu")]
    assert backend("cpu") == setting


def test_without_numba_plain_torch_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    assert backend("cpu") == "torch"
    assert backend("cuda") == "torch"


@pytest.mark.parametrize("setting", ["numba", "triton"])
def test_a_setting_of_a_missing_package_is_an_error(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", setting)
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    with pytest.raises(KernelError, match=setting) as raised:
        backend("cpu")
    assert raised.value.field == "TEGAKARI_KERNELS"


def test_triton_on_a_cpu_needs_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", "triton")
    monkeypatch.setattr("tegakari.kernels.gpu.gate.INTERPRETED", False)
    with pytest.raises(KernelError, match="on cpu"):
        backend("cpu")


def test_an_unknown_setting_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", "cuda")
    with pytest.raises(KernelError, match="'cuda'"):
        encode(case.residual, case.encoder, case.offsets)


def test_the_choice_is_logged_once(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tegakari.kernels.dispatch"):
        for _ in range(3):
            encode(case.residual, case.encoder, case.offsets)
    assert [record.getMessage() for record in caplog.records] == ["sparse encode on cpu: numba"]


def test_parameters_and_inference_mode(case: Case) -> None:
    """Weights that require a gradient, and scratch that is created in inference mode and used outside of it."""
    trainable = case.encoder._replace(weight=torch.nn.Parameter(case.encoder.weight))
    with torch.inference_mode():
        inside = encode(case.residual, trainable, case.offsets)
    outside = encode(case.residual, trainable, case.offsets)
    assert not outside.pooled.max.requires_grad
    assert torch.equal(inside.pooled.max, outside.pooled.max)


def test_results_do_not_share_memory_with_the_next_call(case: Case) -> None:
    first = encode(case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert first.rows is not None
    assert first.survivors is not None
    before = [tensor.clone() for tensor in (*first.rows, *first.pooled, *first.survivors)]
    encode(-case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert all(map(torch.equal, before, (*first.rows, *first.pooled, *first.survivors)))


def test_threads_do_not_share_scratch() -> None:
    """A service encodes for several requests at once."""
    cases = [exact_case("jumprelu", torch.float32, [40, 3], 24, 200, seed=seed) for seed in range(8)]

    def maxima(case: Case) -> torch.Tensor:
        return encode(case.residual, case.encoder, case.offsets).pooled.max

    sequential = [maxima(case) for case in cases]
    with ThreadPoolExecutor(8) as pool:
        for concurrent in (pool.map(maxima, cases) for _ in range(5)):
            assert all(map(torch.equal, sequential, concurrent))


def test_the_package_imports_on_a_bare_machine() -> None:
    """numba, Triton, transformers, structlog and pyarrow are optional."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('numba', 'triton', 'transformers', 'structlog', 'pyarrow')));"
        "import tegakari.kernels"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
