"""Sections of the report: findings, limits, and one per table or figure of the study, in the study's order."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.study.sections.comparison import (
    differences_section,
    findings_section,
    limits_section,
    matching_section,
)
from tegakari.analyses.study.sections.examples import examples_section
from tegakari.analyses.study.sections.features import cues_section, sparsity_section, specificity_section
from tegakari.analyses.study.sections.layout import Section
from tegakari.analyses.study.sections.predictions import circuits_section, classification_section, knockouts_section
from tegakari.analyses.study.sections.written_forms import variants_section
from tegakari.schemas.study import StudyResult
from tegakari.store import Run


def sections(result: StudyResult, runs: Sequence[Run], *, own_scale: bool = False) -> list[Section]:
    """Sections of a study: findings and limits first; the differences before and the matching after the tables.

    Args:
        result: of the runs.
        runs: of the result, in its order; they have the text of the examples.
        own_scale: whether Figure 1 shows the effects of each run in units of its largest.
    """
    knockouts = "knockouts" not in result.settings.skip
    return [
        findings_section(result),
        limits_section(result),
        *([differences_section(result)] if result.differences else []),
        classification_section(result),
        *([] if "circuit" in result.settings.skip else [circuits_section(result, own_scale=own_scale)]),
        specificity_section(result),
        *([knockouts_section(result), cues_section(result), examples_section(result, runs)] if knockouts else []),
        *([] if "variants" in result.settings.skip else [variants_section(result)]),
        sparsity_section(result),
        *([matching_section(result.matching, "Shared features", "shared")] if result.matching else []),
        *(
            matching_section(
                matching, f"Shared features of replicates: {' and '.join(matching.runs)}", f"replicates_{number}"
            )
            for number, matching in enumerate(result.baselines, start=1)
        ),
    ]
