"""Parts of a benchmark, one after the other; device time is too rare to lose all figures to one part."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Mapping

import torch


def figures_of(parts: Mapping[str, Callable[[], dict[str, float]]], *, strict: bool) -> dict[str, float]:
    """Figures of all parts, and the seconds of each.

    Args:
        parts: by name.
        strict: let the error of a part end the benchmark; otherwise it is printed, and its figures are absent.
    """
    figures: dict[str, float] = {}
    for name, part in parts.items():
        start = time.perf_counter()
        try:
            figures |= part()
        except Exception:
            if strict:
                raise
            traceback.print_exc()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        figures[f"{name}_seconds"] = time.perf_counter() - start
    return figures
