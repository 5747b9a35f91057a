"""The stored circuit of a run."""

from __future__ import annotations

from pathlib import Path

from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.errors import QueryError
from tegakari.schemas.run import RunManifest
from tegakari.store.results import selected_result


def selected_circuit(store: Path, run: RunManifest, analysis: str | None = None) -> CircuitResult:
    """The stored circuit of a run with the default settings, or that of an analysis.

    Raises:
        QueryError: no circuit of the run can be computed.
        NotFoundError: it is not stored; the fix names those that are.
        StoreError: the result is damaged.
    """
    require_last_position(run)
    return selected_result(store, CIRCUIT_ANALYSIS, [run], analysis)


def require_last_position(run: RunManifest) -> None:
    """Refuse a run whose classifier's head does not read the last position, as that of an encoder does not.

    Raises:
        QueryError: it reads others.
    """
    if (head := run.classifier.head) != "last":
        positions = "the first position" if head == "first" else "several positions"
        raise QueryError(
            f"the head of {run.classifier.architecture} in run {run.run!r} reads {positions} of a document, and "
            "circuits patch the last one",
            field="run",
            fix="use a run of a decoder such as Gemma 2 or Llama; knockouts work with every run",
        )
