"""Sections of the report: the limits, and one per table or figure of the study, in the study's order."""

from __future__ import annotations

from tegakari.analyses.study.sections.comparison import differences_section, limits_section, matching_section
from tegakari.analyses.study.sections.features import cues_section, sparsity_section, specificity_section
from tegakari.analyses.study.sections.layout import Section
from tegakari.analyses.study.sections.predictions import circuits_section, classification_section, knockouts_section
from tegakari.analyses.study.sections.written_forms import variants_section
from tegakari.schemas.study import StudyResult


def sections(result: StudyResult) -> list[Section]:
    """Sections of a study: limits first; of two groups, the differences before and the matching after the tables."""
    return [
        limits_section(result),
        *([differences_section(result)] if result.differences else []),
        classification_section(result),
        *([] if "circuit" in result.settings.skip else [circuits_section(result)]),
        specificity_section(result),
        *([] if "knockouts" in result.settings.skip else [knockouts_section(result), cues_section(result)]),
        *([] if "variants" in result.settings.skip else [variants_section(result)]),
        sparsity_section(result),
        *([matching_section(result.matching, "Shared features")] if result.matching else []),
        *(
            matching_section(matching, f"Shared features of replicates: {' and '.join(matching.runs)}")
            for matching in result.baselines
        ),
    ]
