"""Route of the circuit."""

from __future__ import annotations

from litestar.di import NamedDependency

from tegakari.schemas.analysis import AnalysisKind
from tegakari.schemas.circuit import CircuitResult
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun
from tegakari.service.routes.results import latest_result
from tegakari.store import Store


@read("/circuit", "getCircuit", "The circuit", changes=True)
def get_circuit(run: OpenRun, store: NamedDependency[Store]) -> CircuitResult:
    """Effects of attention and MLP of each layer, sufficiency and necessity: the circuit that was computed last."""
    return latest_result(store, AnalysisKind.CIRCUIT, run, CircuitResult)


RUN_HANDLERS = (get_circuit,)
