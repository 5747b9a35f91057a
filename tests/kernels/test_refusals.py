"""Inputs that encode refuses, with an error that names the field."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tegakari.kernels import encode
from tegakari.schemas.errors import KernelError
from tests.support.kernel_cases import PATHS, Case, exact_case

D_MODEL, D_SAE = 6, 21
INFINITY, NAN = float("inf"), float("nan")


def case() -> Case:
    return exact_case("relu", torch.float32, [3, 2], D_MODEL, D_SAE)


def put(tensor: torch.Tensor, index: tuple[int, ...], value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[index] = value
    return changed


Change = Callable[[Case], Case]

WRONG: dict[str, tuple[str, Change]] = {
    "no positions": ("residual", lambda c: c._replace(residual=c.residual[:0])),
    "one dimension": ("residual", lambda c: c._replace(residual=c.residual[0])),
    "another d_model": ("residual", lambda c: c._replace(residual=torch.zeros(5, D_MODEL + 1))),
    "float64": ("residual", lambda c: c._replace(residual=c.residual.double())),
    "an empty document": ("offsets", lambda c: c._replace(offsets=torch.tensor([0, 3, 3, 5]))),
    "offsets that go back": ("offsets", lambda c: c._replace(offsets=torch.tensor([0, 4, 2, 5]))),
    "offsets that start late": ("offsets", lambda c: c._replace(offsets=torch.tensor([1, 5]))),
    "offsets that end early": ("offsets", lambda c: c._replace(offsets=torch.tensor([0, 3]))),
    "offsets that end late": ("offsets", lambda c: c._replace(offsets=torch.tensor([0, 3, 9]))),
    "no document": ("offsets", lambda c: c._replace(offsets=torch.tensor([0]))),
    "int32 offsets": ("offsets", lambda c: c._replace(offsets=c.offsets.int())),
    "a short floor": ("floor", lambda c: c._replace(floor=torch.zeros(D_SAE - 1))),
    "a float64 floor": ("floor", lambda c: c._replace(floor=c.floor.double())),
    "a floor of NaN": ("floor", lambda c: c._replace(floor=put(c.floor, (3,), NAN))),
    "float16 weights": ("encoder.weight", lambda c: edit(c, weight=c.encoder.weight.half())),
    "no features": ("encoder.weight", lambda c: edit(c, weight=torch.zeros(D_MODEL, 0))),
    "a short bias": ("encoder.bias", lambda c: edit(c, bias=torch.zeros(D_SAE - 1))),
    "a bfloat16 bias": ("encoder.bias", lambda c: edit(c, bias=torch.zeros(D_SAE).bfloat16())),
    "a negative threshold": ("encoder.threshold", lambda c: edit(c, threshold=torch.full((D_SAE,), -0.5))),
    "a threshold of NaN": ("encoder.threshold", lambda c: edit(c, threshold=torch.full((D_SAE,), NAN))),
    "k of 0": ("encoder.k", lambda c: edit(c, k=0)),
    "k beyond d_sae": ("encoder.k", lambda c: edit(c, k=D_SAE + 1)),
    "a gate without bias": ("encoder.gate_bias", lambda c: edit(c, gate_scale=torch.ones(D_SAE))),
    "a gate without scale": ("encoder.gate_scale", lambda c: edit(c, gate_bias=torch.ones(D_SAE))),
    "a gate and k": (
        "encoder.k",
        lambda c: edit(c, gate_scale=torch.ones(D_SAE), gate_bias=torch.ones(D_SAE), k=2),
    ),
    "another device": ("residual", lambda c: c._replace(residual=c.residual.to("meta"))),
}
"""Fault -> the field that the error names, and the change that causes the fault."""

NOT_FINITE: dict[str, tuple[str, Change]] = {
    "NaN in the residual": ("residual", lambda c: c._replace(residual=put(c.residual, (4, 1), NAN))),
    "infinity in the residual": ("residual", lambda c: c._replace(residual=put(c.residual, (0, 0), -INFINITY))),
    "NaN in the weight": (
        "encoder.weight",
        lambda c: edit(c, weight=put(c.encoder.weight, (2, 20), NAN)),
    ),
    "infinity in the weight": (
        "encoder.weight",
        lambda c: edit(c, weight=put(c.encoder.weight, (5, 0), INFINITY)),
    ),
    "infinity in the bias": (
        "encoder.bias",
        lambda c: edit(c, bias=put(c.encoder.bias, (7,), -INFINITY)),
    ),
    "overflow": (
        "residual",
        lambda c: edit(c, weight=torch.full((D_MODEL, D_SAE), 1e30))._replace(residual=torch.full((5, D_MODEL), -1e30)),
    ),
}
DEFERRED = NOT_FINITE | {
    fault: change
    for fault, change in WRONG.items()
    if fault.startswith(("offsets that", "an empty", "a negative", "a th"))
}
"""Faults in values: a GPU reports them when the host reads results."""


def edit(case: Case, **changes: object) -> Case:
    return case._replace(encoder=case.encoder._replace(**changes))


@pytest.mark.parametrize("fault", WRONG | NOT_FINITE)
def test_wrong_inputs_are_refused(fault: str) -> None:
    field, change = (WRONG | NOT_FINITE)[fault]
    wrong = change(case())
    with pytest.raises(KernelError) as raised:
        encode(wrong.residual, wrong.encoder, wrong.offsets, floor=wrong.floor)
    assert raised.value.field == field
    assert raised.value.fix


def test_the_message_names_the_index() -> None:
    _, change = NOT_FINITE["NaN in the residual"]
    wrong = change(case())
    with pytest.raises(KernelError, match=r"nan at \[4, 1\]"):
        encode(wrong.residual, wrong.encoder, wrong.offsets)


def test_unknown_rows_are_refused() -> None:
    good = case()
    with pytest.raises(KernelError, match="'first'"):
        encode(good.residual, good.encoder, good.offsets, rows="first")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("fault", NOT_FINITE)
@pytest.mark.parametrize("kind", ["topk", "gated"])
def test_topk_and_gated_saes_refuse_values_that_are_not_finite(kind: str, fault: str) -> None:
    field, change = NOT_FINITE[fault]
    wrong = change(exact_case(kind, torch.float32, [3, 2], D_MODEL, D_SAE))
    with pytest.raises(KernelError) as raised:
        encode(wrong.residual, wrong.encoder, wrong.offsets)
    assert raised.value.field == field


@pytest.mark.filterwarnings("ignore:.*encountered in matmul:RuntimeWarning")
@pytest.mark.parametrize("path", ["triton"])
@pytest.mark.parametrize("fault", DEFERRED)
def test_a_gpu_refuses_when_results_are_read(fault: str, path: str) -> None:
    field, change = DEFERRED[fault]
    wrong = change(case())
    if field == "offsets":  # the host has them, or waits for them
        with pytest.raises(KernelError) as raised:
            PATHS[path](wrong.residual, wrong.encoder, wrong.offsets, floor=wrong.floor)
        assert raised.value.field == field
        return
    result = PATHS[path](wrong.residual, wrong.encoder, wrong.offsets, floor=wrong.floor)
    assert result.rows is not None
    assert result.survivors is not None
    for read in (result.check, result.rows.trimmed, result.survivors.trimmed):
        with pytest.raises(KernelError) as raised:
            read()
        assert raised.value.field == field


def test_an_infinite_threshold_disables_a_feature() -> None:
    good = edit(case(), threshold=torch.full((D_SAE,), INFINITY))
    assert int(encode(good.residual, good.encoder, good.offsets).columns.count.sum()) == 0
