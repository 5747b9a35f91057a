"""Sections of the report, one per table or figure of the study, in the study's order."""

from __future__ import annotations

from tegakari.analyses.study.sections.comparison import differences_section, matching_section
from tegakari.analyses.study.sections.features import cues_section, sparsity_section, specificity_section
from tegakari.analyses.study.sections.layout import Section
from tegakari.analyses.study.sections.predictions import circuits_section, classification_section, knockouts_section
from tegakari.analyses.study.sections.written_forms import variants_section
from tegakari.schemas.study import StudyResult


def sections(result: StudyResult) -> list[Section]:
    """Sections of a study; of two runs, the differences come first and the matching last."""
    return [
        *([differences_section(result)] if result.differences else []),
        classification_section(result),
        circuits_section(result),
        specificity_section(result),
        knockouts_section(result),
        cues_section(result),
        variants_section(result),
        sparsity_section(result),
        *([matching_section(result.matching, "Shared features")] if result.matching else []),
    ]
