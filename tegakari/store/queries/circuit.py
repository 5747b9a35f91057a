"""The circuit of a run, as it was computed last."""

from __future__ import annotations

from pathlib import Path

from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.errors import QueryError
from tegakari.schemas.run import RunManifest
from tegakari.store.results import latest_result


def latest_circuit(store: Path, run: RunManifest) -> CircuitResult:
    """The result of the newest stored circuit of a run.

    Raises:
        QueryError: no circuit of the run can be computed.
        NotFoundError: none is stored.
        StoreError: the result is damaged.
    """
    require_last_position(run)
    return latest_result(store, CIRCUIT_ANALYSIS, run)


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
