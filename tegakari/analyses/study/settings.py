"""Settings of a study: validation, groups of runs, and the labels that its tables compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tegakari.analyses.knockout.layer_choice import check_selection
from tegakari.analyses.study.differences import Groups
from tegakari.analyses.variants.concepts import fingerprint
from tegakari.schemas.errors import ConfigError, NotFoundError
from tegakari.schemas.study import StudySettings
from tegakari.schemas.variants import Concept
from tegakari.store import Run


class ComparedLabels(NamedTuple):
    """Labels of the tables of knockouts and cues."""

    labels: list[str]
    left_out: list[str]
    """labels that one of the runs does not have"""


def complete_settings(
    settings: StudySettings, runs: Sequence[Run], against: Sequence[Run], concepts: Sequence[Concept]
) -> StudySettings:
    """The settings by which a study is stored.

    Args:
        settings: of the caller.
        runs: one or two, or with `against` one or more replicates.
        against: replicates of the other side; empty: the runs are compared with each other.
        concepts: of written variants.

    Raises:
        ConfigError: too many or too few runs on a side, a run that occurs on both sides, or layers by run that are not
            those of the runs.
    """
    check_selection(settings.layer, [run.name for run in (*runs, *against)])
    if not against:
        if not 1 <= len(runs) <= 2:
            raise ConfigError(
                f"{len(runs)} runs are given",
                field="--runs",
                fix="give one run, or two to compare; replicates of a model go to --runs, those of the other model to "
                "--against",
            )
        groups = []
    elif len(runs) == len(against) == 1:
        groups = []  # the same study as that of two runs
    elif min(len(runs), len(against)) < 2:
        raise ConfigError(
            f"{len(runs)} runs are compared with {len(against)}: the spread of one run is not known",
            field="--against",
            fix="give at least two replicates on each side, or one run on each",
        )
    else:
        groups = [len(runs), len(against)]
        names = [run.name for run in (*runs, *against)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"run {twice[0]!r} is given twice", field="--against", fix="name every replicate once")
    sha256 = None if "variants" in settings.skip else fingerprint(concepts)
    return msgspec.structs.replace(settings, skip=sorted(set(settings.skip)), groups=groups, concepts_sha256=sha256)


def groups_of(settings: StudySettings, runs: Sequence[Run]) -> Groups | None:
    """Numbers of runs on both sides; None for a single run."""
    if settings.groups:
        return Groups(*settings.groups)
    return Groups(1, 1) if len(runs) == 2 else None


def compared_labels(runs: Sequence[Run], settings: StudySettings) -> ComparedLabels:
    """Labels of the settings; by default all labels that the runs share, in the first run's order.

    Raises:
        NotFoundError: the runs share no label.
    """
    shared = [label for label in runs[0].labels if all(label in run.labels for run in runs)]
    left_out = sorted({label for run in runs for label in run.labels} - set(shared))
    labels = shared if settings.labels is None else settings.labels
    if not labels:
        raise NotFoundError("the runs share no label", field="--runs", fix="choose runs of the same labels")
    return ComparedLabels(list(labels), left_out)
