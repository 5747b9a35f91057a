"""The kernel of soft-capped attention against the formula in float64."""

from __future__ import annotations

import pytest
import torch

from tegakari.kernels.gpu.attention import TILE
from tests.support.attention_cases import attention_case
from tests.support.kernel_cases import DEVICE, needs_triton

LONG = 2 * TILE["ROWS"] + 5
"""Tokens of a document of three blocks of rows, none of them whole."""


@pytest.fixture(autouse=True)
def _triton() -> None:
    needs_triton()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("lengths", "size", "heads", "window"),
    [
        ([1], 16, (1, 1), None),
        ([1, 64, 33, 65], 16, (2, 1), None),
        ([LONG, 2], 32, (2, 2), None),
        ([LONG, 70], 16, (4, 2), 20),
        ([LONG], 16, (2, 1), 1),
        ([37, 36], 128, (3, 1), 36),
    ],
)
def test_exact_within_the_operands_precision(
    lengths: list[int], size: int, heads: tuple[int, int], window: int | None, dtype: torch.dtype
) -> None:
    case = attention_case(lengths, size=size, dtype=dtype, device=DEVICE, heads=heads, window=window)
    assert case.excess() <= 1


def test_heads_of_gemma() -> None:
    case = attention_case([66, 5], size=256, dtype=torch.bfloat16, device=DEVICE, heads=(4, 2), window=4096)
    assert case.excess() <= 1


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # numpy's, in the interpreter; infinity is right
@pytest.mark.parametrize("spread", [1e-3, 1e3])
def test_scores_far_below_and_above_the_cap(spread: float) -> None:
    case = attention_case([40, 9], size=16, dtype=torch.float32, device=DEVICE, cap=30.0, spread=spread)
    assert case.excess() <= 1


def test_the_cap_counts() -> None:
    """The bound is narrow enough to tell a cap from its neighbour, and a window from one position more."""
    case = attention_case([70], size=16, dtype=torch.bfloat16, device=DEVICE, cap=5.0, window=8)
    assert case.excess() <= 1
    mixed, bound = case.expected()
    for other in (case._replace(cap=6.0), case._replace(window=9), case._replace(window=None)):
        assert ((other.expected()[0] - mixed).abs() / bound).max() > 5


def test_a_document_does_not_depend_on_its_batch() -> None:
    case = attention_case([70, 40], size=16, dtype=torch.bfloat16, device=DEVICE)
    alone = case._replace(**{name: getattr(case, name)[1:, :, :40] for name in ("query", "key", "value")})
    assert torch.equal(alone._replace(lengths=case.lengths[1:]).attention()[0], case.attention()[1, :40])


def test_not_a_number_stays() -> None:
    case = attention_case([9], size=16, dtype=torch.float32, device=DEVICE)
    case.key[0, 0, 4, 3] = torch.nan  # of the first two of four heads
    finite = case.attention().isfinite().all(-1)[0]
    assert finite[:4].all()
    assert not finite[4:, :2].any()
    assert finite[:, 2:].all()
