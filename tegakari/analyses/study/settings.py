"""Settings of a study: validation, groups of runs, and the labels that its tables compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tegakari.analyses.knockout.layer_choice import check_selection, selected_layer
from tegakari.analyses.knockout.sweeps import check_over_labels
from tegakari.analyses.study.differences import Groups
from tegakari.analyses.variants.concepts import fingerprint
from tegakari.analyses.variants.settings import variant_sizes
from tegakari.schemas.errors import ConfigError, NotFoundError
from tegakari.schemas.knockout import KnockoutSettings
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
        ConfigError: too many or too few runs on a side, a run that occurs on both sides, layers by run that are not
            those of the runs, or layers with too few features for written variants.
    """
    check_selection(settings.layer, [run.name for run in (*runs, *against)])
    if not against:
        if not 1 <= len(runs) <= 2:
            raise ConfigError(
                f"{len(runs)} runs are given",
                field="--run",
                fix="give one run, or two to compare; replicates of a model go to --run, those of the other model to "
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
    skip = sorted(set(settings.skip))
    if "variants" in skip:
        return msgspec.structs.replace(settings, skip=skip, groups=groups, ks=[], concepts_sha256=None)
    ks, sha256 = variant_sizes((*runs, *against), settings.ks), fingerprint(concepts)
    return msgspec.structs.replace(settings, skip=skip, groups=groups, ks=ks, concepts_sha256=sha256)


def knockout_settings(run: Run, settings: StudySettings) -> KnockoutSettings:
    """Settings of the knockouts of a run; without a layer if it has to be chosen."""
    return KnockoutSettings(
        layer=selected_layer(settings.layer, run.name),
        k=settings.k,
        draws=settings.draws,
        seed=settings.seed,
        pooling=settings.pooling,
        holdout=settings.holdout,
    )


def check_parts(runs: Sequence[Run], labels: Sequence[str], settings: StudySettings) -> None:
    """Refuse, before any model runs, settings that a part of the study would refuse after the parts before it.

    Args:
        runs: of the study.
        labels: of the tables of knockouts and cues.
        settings: completed.

    Raises:
        NotFoundError: a run has no such label or layer, or too few documents or features for a knockout.
        QueryError: the pooling is not one of d, or not that of a run with a holdout.
    """
    if "knockouts" in settings.skip:
        return
    for run in runs:
        check_over_labels(run, labels, knockout_settings(run, settings))


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
        raise NotFoundError("the runs share no label", field="--run", fix="choose runs of the same labels")
    return ComparedLabels(list(labels), left_out)
