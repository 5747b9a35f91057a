"""Settings of a study: validation, and the labels that its tables compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tegakari.schemas.errors import ConfigError, NotFoundError
from tegakari.schemas.study import StudySettings
from tegakari.store import Run


class ComparedLabels(NamedTuple):
    """Labels of the tables of knockouts and cues."""

    labels: list[str]
    left_out: list[str]
    """labels that one of the runs does not have"""


def check_runs(runs: Sequence[Run]) -> None:
    """Check the number of runs.

    Raises:
        ConfigError: neither one nor two.
    """
    if not 1 <= len(runs) <= 2:
        raise ConfigError(f"{len(runs)} runs are given", field="--runs", fix="give one run, or two to compare")


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
