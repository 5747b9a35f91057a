"""Page that compares two runs: labels, circuits, and figures, shared and one-sided features of their stored study."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, NamedTuple

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from markupsafe import Markup

from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.api import LabelRow
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.matching import MatchingResult, OnlyInOne
from tegakari.schemas.study import Comparison
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.explorer.page import page, render
from tegakari.service.explorer.run import circuit_of
from tegakari.service.http.etags import open_run
from tegakari.store import Run, Store, queries
from tegakari.store.queries.comparison import comparison_of_study
from tegakari.store.results import default_settings, find_analysis, selected_result

ComparedRuns = Annotated[list[str] | None, QueryParameter(name="run", description="name of a run; given twice")]


class LabelPair(NamedTuple):
    """A label that both runs have."""

    a: LabelRow
    b: LabelRow


class ExampleFeature(NamedTuple):
    """A label-specific feature that one of the runs does not have."""

    layer: int
    feature: int
    tokens: str


@page("/compare", changes=True)
def compare_page(
    store: NamedDependency[Store], request: Request[Any, Any, Any], run: ComparedRuns = None
) -> Response[str]:
    """Two runs side by side."""
    names = run or []
    if len(names) != 2 or names[0] == names[1]:
        raise QueryError(
            f"{len(set(names))} different runs are named, not 2", field="run", fix="tick two runs in the list of runs"
        )
    runs = [open_run(store, name) for name in names]
    study = _study_of(*runs)
    rows = [{row.label: row for row in queries.labels(one)} for one in runs]
    return render(
        request,
        "compare",
        runs=[queries.run_summary(one) for one in runs],
        labels=[LabelPair(row, rows[1][label]) for label, row in rows[0].items() if label in rows[1]],
        only=[
            [label for label in rows[0] if label not in rows[1]],
            [label for label in rows[1] if label not in rows[0]],
        ],
        circuits=_circuits_of(store, runs),
        study=study.figures if study else None,
        matching=study.matching if study else None,
        places=[study.matching.runs.index(one.name) for one in runs] if study and study.matching else [],
        one_sided=_one_sided_features(study.matching, runs) if study and study.matching else [],
    )


class StudyOfPair(NamedTuple):
    """What the page shows of the study of two runs."""

    figures: Comparison
    matching: MatchingResult | None


def _study_of(first: Run, second: Run) -> StudyOfPair | None:
    """The stored study of both runs with the default settings, in either order; None: there is none."""
    for a, b, turn in ((first, second, False), (second, first, True)):
        manifests = [a.manifest, b.manifest]
        settings = default_settings(STUDY_ANALYSIS, manifests)
        analysis = settings and find_analysis(a.store, STUDY_ANALYSIS, manifests, settings)
        if analysis:
            with suppress(NotFoundError):  # deleted since it was found
                return _decoded_study(a, b, turn, analysis.manifest.created)
    return None


@cached_per_run
def _decoded_study(a: Run, b: Run, turn: bool, _created: str) -> StudyOfPair:
    """The parts of a stored study; one that is computed again has another time."""
    study = selected_result(a.store, STUDY_ANALYSIS, [a.manifest, b.manifest])
    return StudyOfPair(comparison_of_study(study, turn=turn), study.matching)


def _circuits_of(store: Store, runs: list[Run]) -> list[Markup] | None:
    """Pictures of the circuits; None: a run has none."""
    pictures = [picture for run in runs if (picture := circuit_of(run, store)) is not None]
    return pictures if len(pictures) == len(runs) else None


def _one_sided_features(
    matching: MatchingResult, runs: list[Run]
) -> list[tuple[str, list[tuple[OnlyInOne, list[ExampleFeature]]]]]:
    """By label: what each run alone has of it, in the order of the runs, with examples."""
    rows = {(row.run, row.label): row for row in matching.only}
    labels = dict.fromkeys(row.label for row in matching.only)
    return [
        (
            label,
            [(row, [_example(text) for text in row.examples]) for run in runs if (row := rows.get((run.name, label)))],
        )
        for label in labels
    ]


def _example(text: str) -> ExampleFeature:
    name, _, tokens = text.partition(" ")
    layer, _, feature = name.partition(":")
    return ExampleFeature(int(layer), int(feature), tokens)


HANDLERS = (compare_page,)
