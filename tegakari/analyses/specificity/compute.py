"""Specificity of a run, beside what permuted labels give: computed from its stored activations and stored, or read."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from tegakari.analyses.engine.stored_results import stored_or_computed
from tegakari.schemas.analysis_kinds import SPECIFICITY_ANALYSIS
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.specificity import SpecificityResult, SpecificitySettings
from tegakari.schemas.tables import Table
from tegakari.store import Run

DEFAULTS = SpecificitySettings()


def specificity(
    run: Run, settings: SpecificitySettings = DEFAULTS, *, progress: Progress = NoProgress()
) -> SpecificityResult:
    """Specificity over all layers and by layer, by the run's pooling, beside permutations of the labels.

    Args:
        run: published.
        settings: of the permutations.
        progress: counts layers.

    Raises:
        NotFoundError: the run was deleted meanwhile.
        StoreError: its activations, or the stored result, are damaged.
        DiskFullError: no space for the result.
    """

    def compute() -> tuple[SpecificityResult, Mapping[Table, pa.Table]]:
        from tegakari.analyses.specificity.measurement import measure_specificity  # loads numba

        return measure_specificity(run, settings, progress), {}

    return stored_or_computed(run.store, SPECIFICITY_ANALYSIS, [run], settings, compute)
