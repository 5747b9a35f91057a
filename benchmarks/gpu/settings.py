"""Times of encode with other launch settings of its kernels: rows per program, warps.

    python -m benchmarks.gpu --part settings

The constants of `tegakari/kernels/gpu/encode.py` are the settings that won on a card. They are constants, and not
chosen at run time, because another number of rows adds up in another order: results would depend on the choice.
"""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.encode import TOP_K, inputs
from benchmarks.gpu.clock import timing
from benchmarks.gpu.encode import IndexerCall
from benchmarks.gpu.random_model import device_of
from tegakari.kernels.gpu import encode

SETTINGS = {
    "TILE": [{"ROWS": rows, "num_warps": warps} for rows in (4, 8, 16) for warps in (1, 2)],
    "JOIN": [{"num_warps": warps} for warps in (1, 2)],
    "CENTRE": [{"num_warps": warps} for warps in (1, 2)],
    "APPEND": [{"num_warps": warps} for warps in (1, 2)],
    "SELECT": [{"ROWS": rows, "num_warps": warps} for rows in (1, 2) for warps in (1, 2)],
}


def measure(smoke: bool = False) -> dict[str, float]:
    """A table of milliseconds; the figures are those of the best and of the present settings."""
    device = device_of(smoke)
    case = inputs(16 if smoke else 4096).to(device.type, torch.float32 if smoke else torch.bfloat16)
    top_k = case._replace(encoder=case.encoder._replace(k=TOP_K))
    table = Table(title="encode by settings", title_justify="left")
    for column in ("kernel", "setting", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    figures: dict[str, float] = {}
    for name, settings in SETTINGS.items():
        present = getattr(encode, name)
        call = IndexerCall(top_k) if name == "SELECT" else IndexerCall(case, outliers=True, contexts=True)
        times = []
        for setting in settings[:1] if smoke else settings:
            setattr(encode, name, setting)
            try:
                times.append(timing(call, device, 1 if smoke else 10).device)
            finally:
                setattr(encode, name, present)
            mark = " (present)" if setting == present else ""
            table.add_row(name.lower(), f"{setting}{mark}", f"{times[-1]:.3f}")
        figures[f"settings_{name.lower()}_best_ms"] = min(times)
    Console(width=120).print(table)
    return figures
