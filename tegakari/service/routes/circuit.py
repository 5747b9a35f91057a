"""Route of the circuit."""

from __future__ import annotations

from litestar.di import NamedDependency

from tegakari.schemas.circuit import CircuitResult
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun
from tegakari.store import Store
from tegakari.store.queries.circuit import latest_circuit


@read("/circuit", "getCircuit", "The circuit", changes=True)
def get_circuit(run: OpenRun, store: NamedDependency[Store]) -> CircuitResult:
    """Effects of attention and MLP of each layer, sufficiency and necessity: the circuit that was computed last."""
    return latest_circuit(store.directory, run.manifest)


RUN_HANDLERS = (get_circuit,)
