"""Route of the circuit."""

from __future__ import annotations

from litestar.di import NamedDependency

from tegakari.schemas.circuit import CircuitResult
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun, SelectedAnalysis
from tegakari.store import Store
from tegakari.store.queries.circuit import selected_circuit


@read("/circuit", "getCircuit", "The circuit", changes=True)
def get_circuit(run: OpenRun, store: NamedDependency[Store], analysis: SelectedAnalysis = None) -> CircuitResult:
    """Effects of attention and MLP of each layer, sufficiency and necessity, by the default settings or an analysis."""
    return selected_circuit(store.directory, run.manifest, analysis)


RUN_HANDLERS = (get_circuit,)
