"""Which path runs, and what the public function promises whichever it is."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tegakari.kernels import Encoded, backend, dispatch, encode, torch_only
from tegakari.kernels.cpu import encode as host
from tegakari.kernels.gpu import autotune
from tegakari.kernels.gpu import encode as gpu
from tegakari.schemas.errors import KernelError
from tests.support.kernel_cases import Case, exact_case, needs_triton


@pytest.fixture(autouse=True)
def _chosen_anew() -> Iterator[None]:
    dispatch._chosen.cache_clear()
    yield
    dispatch._chosen.cache_clear()


@pytest.fixture
def case() -> Case:
    return exact_case("jumprelu", torch.float32, [3, 4], 5, 30)


def test_the_cpu_runs_the_compiled_pass() -> None:
    assert backend("cpu") == "numba"
    assert dispatch._chosen("cpu")[1] is host.encode


@pytest.mark.parametrize("setting", ["torch", "numba", "triton", "triton-gemm", "triton-fused"])
def test_a_setting_is_what_runs(setting: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if setting.startswith("triton"):
        needs_triton()
    monkeypatch.setenv("TEGAKARI_KERNELS", setting)
    ran = []

    def watch(module, name: str) -> None:
        original = module.encode

        def watched(*args, **kwargs) -> Encoded:
            ran.append(f"{name}-{'fused' if kwargs['fused'] else 'gemm'}" if name == "triton" else name)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, "encode", watched)

    for module, name in ((torch_only, "torch"), (host, "numba"), (gpu, "triton")):
        watch(module, name)
    found = encode(case.residual, case.encoder, case.offsets)
    assert found.rows is not None
    assert len(found.rows.trimmed().indptr) == 3
    assert ran == [backend("cpu")]
    assert backend("cpu") == ("triton-gemm" if setting == "triton" else setting)


def test_without_numba_plain_torch_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    assert backend("cpu") == "torch"
    assert backend("cuda") == "torch"


@pytest.mark.parametrize("setting", ["numba", "triton", "triton-gemm"])
def test_what_is_asked_for_and_missing_is_an_error(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", setting)
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    with pytest.raises(KernelError, match=setting) as refusal:
        backend("cpu")
    assert refusal.value.field == "TEGAKARI_KERNELS"


def test_triton_on_a_cpu_needs_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", "triton")
    monkeypatch.setattr(gpu, "INTERPRETED", False)
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


def test_the_faster_path_is_kept_for_a_shape(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timing itself needs a GPU; that it is asked once a shape and obeyed does not."""
    asked = []
    monkeypatch.setattr(autotune, "_fused_is_faster", lambda encoder: asked.append(encoder) or True)
    ran = []
    monkeypatch.setattr(gpu, "encode", lambda *args, fused, **options: ran.append(fused))
    path = autotune.Fastest()
    assert path.names() == ""
    other = case.encoder._replace(weight=case.encoder.weight.bfloat16())
    for encoder in (case.encoder, case.encoder, other):
        path(case.residual, encoder, case.offsets, rows="last", floor=None)
    assert (len(asked), ran) == (2, [True] * 3)
    assert path.names() == "triton-fused"


def test_parameters_and_inference_mode(case: Case) -> None:
    """Weights that want a gradient, and scratch that was made inside inference mode and is used outside of it."""
    learned = case.encoder._replace(weight=torch.nn.Parameter(case.encoder.weight))
    with torch.inference_mode():
        inside = encode(case.residual, learned, case.offsets)
    outside = encode(case.residual, learned, case.offsets)
    assert not outside.pooled.max.requires_grad
    assert torch.equal(inside.pooled.max, outside.pooled.max)


def test_results_do_not_share_memory_with_the_next_call(case: Case) -> None:
    first = encode(case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert first.rows is not None
    assert first.survivors is not None
    before = [tensor.clone() for tensor in (*first.rows, *first.pooled, *first.survivors)]
    encode(-case.residual, case.encoder, case.offsets, rows="all", floor=case.floor)
    assert all(map(torch.equal, before, (*first.rows, *first.pooled, *first.survivors)))


def test_callers_on_many_threads_do_not_meet() -> None:
    """A service encodes for several requests at once; scratch belongs to a thread."""
    cases = [exact_case("jumprelu", torch.float32, [40, 3], 24, 200, seed=seed) for seed in range(8)]

    def maxima(case: Case) -> torch.Tensor:
        return encode(case.residual, case.encoder, case.offsets).pooled.max

    alone = [maxima(case) for case in cases]
    with ThreadPoolExecutor(8) as pool:
        for together in (pool.map(maxima, cases) for _ in range(5)):
            assert all(map(torch.equal, alone, together))


def test_imports_little() -> None:
    """The package comes up without numba, Triton or transformers, and so on a bare machine."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('numba', 'triton', 'transformers', 'structlog', 'pyarrow')));"
        "import tegakari.kernels"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
