"""Findings of a study: what its intervals support, in sentences, for the first paragraph of the report.

A function per subject takes the result and returns its sentences. All of them are in `FINDINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tegakari.analyses.formatting import decimal, difference, interval, percent
from tegakari.analyses.visible_text import visible_token
from tegakari.schemas.analysis import Interval
from tegakari.schemas.knockout import KnockoutResult
from tegakari.schemas.study import Difference, RunStudy, StudyResult

Finding = Callable[[StudyResult], Iterator[str]]


def findings_of(result: StudyResult) -> list[str]:
    """The sentences of all findings, in the order of `FINDINGS`."""
    return [sentence for finding in FINDINGS for sentence in finding(result)]


def prediction(result: StudyResult) -> Iterator[str]:
    """Which side predicts better, by macro-F1; of one group, its macro-F1."""
    row = _difference(result, "macro_f1")
    if row is None:
        for run in result.runs:
            yield f"{run.run} predicts with a macro-F1 of {interval(run.classification.macro_f1)}."
        return
    a, b = (" and ".join(group) for group in result.groups)
    figures = f"macro-F1 is {decimal(row.a, 3)} and {decimal(row.b, 3)}, a difference of {difference(row.difference)}"
    if _excludes_zero(row.difference):
        better, worse = (b, a) if row.difference.value > 0 else (a, b)
        verb = "predict" if result.settings.groups else "predicts"
        covers = "" if row.covers_training else ", an interval over documents and not over trainings"
        yield f"{better} {verb} better than {worse}: of {a} and {b}, {figures}{covers}."
    else:
        yield f"Neither {a} nor {b} is shown to predict better: {figures}."


def knockouts(result: StudyResult) -> Iterator[str]:
    """Labels whose knockout is beyond its control, by how much, and the label that loses most."""
    for run in result.runs:
        if not run.knockouts:
            continue
        mean, k = run.knockout_mean, result.settings.k
        counted = f"{mean.beyond_control} of {mean.labels} {'label' if mean.labels == 1 else 'labels'}"
        if mean.shown and mean.net:
            yield (
                f"In {run.run}, the knockout of {k} features costs {counted} more recall than its control does: "
                f"{lost_points(mean.net)} points net on average."
            )
        elif mean.labels > 1:
            yield (
                f"In {run.run}, no effect of knockouts is shown: those of {counted} are beyond their control, which is "
                "no more than chance may make, or the mean of all labels does not differ from it."
            )
        else:
            yield f"In {run.run}, the knockouts of {counted} are beyond their control."
        yield from _largest_loss(run)


def specific_features(result: StudyResult) -> Iterator[str]:
    """Whether features carry labels beyond chance, and which side's features carry more."""
    for run in result.runs:
        table = run.specificity
        chance = table.chance
        counts = (
            f"{table.specific} of {table.features} carry one label, with permuted labels {interval(chance.specific, 0)}"
        )
        if table.specific > chance.specific.high and chance.significant_specific:
            yield (
                f"Features of {run.run} are specific to labels: {counts}; {chance.significant_specific} are "
                "significant."
            )
        elif table.specific > chance.specific.high:
            yield f"{run.run} has more label-specific features than chance gives, but none is significant: {counts}."
        else:
            yield f"Features of {run.run} are not shown to be specific to labels: {counts}."
    row = _difference(result, "mean_variety")
    if row is None:
        return
    a, b = (" and ".join(group) for group in result.groups)
    figures = f"label variety {decimal(row.a, 3)} and {decimal(row.b, 3)}, a difference of {difference(row.difference)}"
    if _excludes_zero(row.difference):
        more, fewer = (b, a) if row.difference.value > 0 else (a, b)
        yield f"A feature of {more} carries more labels on average than one of {fewer}: of {a} and {b}, {figures}."
    else:
        yield f"Features of {a} and of {b} are not shown to carry different numbers of labels: {figures}."


def circuits(result: StudyResult) -> Iterator[str]:
    """How many components the circuit has, and what the classifier can do with them alone and without them."""
    for run in result.runs:
        if run.circuit is None:
            continue
        members, total = sum(row.in_circuit for row in run.circuit.components), len(run.circuit.components)
        ablated = run.circuit.ablated[0]
        if not members:
            yield f"No component of {run.run} is shown to be in a circuit."
        elif members == total:
            yield f"The circuit of {run.run} has all {total} components, so that it says nothing about their shares."
        elif ablated.sufficiency:
            points = interval(_times_100(ablated.necessity), 1)
            yield (
                f"The circuit of {run.run} has {members} of {total} components; with it alone the classifier keeps "
                f"{_share(ablated.sufficiency)} of its accuracy, and without the circuit "
                + (
                    f"it loses {points} points of accuracy."
                    if ablated.necessity.low > 0
                    else f"no loss of accuracy is shown ({points} points)."
                )
            )


FINDINGS: tuple[Finding, ...] = (prediction, knockouts, specific_features, circuits)
"""In the order of the report."""


def lost_points(change: Interval) -> str:
    """A loss from a change in points, positive where the change is negative: `85.4 (75.4 to 95.4)`."""
    return interval(Interval(value=-change.value, low=-change.high, high=-change.low), 1)


def _largest_loss(run: RunStudy) -> Iterator[str]:
    """The label beyond its control that loses most recall, of equal ones most margin, with a token of its features."""
    rows = [(row.net, row) for row in run.knockouts if row.beyond_control and row.net]
    if not rows or not run.knockout_mean.shown:
        return
    net, largest = min(rows, key=lambda pair: (pair[0].value, pair[1].margin.net.value if pair[1].margin.net else 0.0))
    others = [row for other, row in rows if row is not largest and other.low <= net.high]
    label = largest.settings.label
    clue = next((cues.label_tokens for cues in run.cues if cues.label == label), [])
    text = f"The label that loses most is {label}, {lost_points(net)} points net"
    if others:
        text += f" ({_number_of_labels(others)} not shown to lose less)"
    if clue:
        yield f"{text}; its clue is the token “{visible_token(clue[0].token.strip(' ') or clue[0].token)}”."
    else:
        yield f"{text}; its features have no token that distinguishes it from other labels."


def _number_of_labels(rows: list[KnockoutResult]) -> str:
    return "1 other label is" if len(rows) == 1 else f"{len(rows)} other labels are"


def _difference(result: StudyResult, name: str) -> Difference | None:
    return next((row for row in result.differences if row.name == name), None)


def _excludes_zero(figure: Interval) -> bool:
    return figure.low > 0 or figure.high < 0


def _times_100(share: Interval) -> Interval:
    return Interval(value=100 * share.value, low=100 * share.low, high=100 * share.high)


def _share(share: Interval) -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"
