"""Findings of a study: sentences claim what the intervals support, and nothing else."""

from __future__ import annotations

import msgspec

from tegakari.analyses.knockout.mean import knockout_mean
from tegakari.analyses.study.findings import findings_of, knockouts, lost_points, prediction, specific_features
from tegakari.schemas.analysis import Interval
from tegakari.schemas.study import LabelToken, RunStudy, StudyResult


def interval(value: float, distance: float) -> Interval:
    return Interval(value=value, low=value - distance, high=value + distance)


def with_effects(run: RunStudy, effects: list[float]) -> RunStudy:
    rows = [
        msgspec.structs.replace(row, delta=effect, net=interval(effect, 5), beyond_control=effect + 5 < 0)
        for row, effect in zip(run.knockouts, effects, strict=True)
    ]
    return msgspec.structs.replace(run, knockouts=rows, knockout_mean=knockout_mean(rows))


def with_run(result: StudyResult, run: RunStudy) -> StudyResult:
    return msgspec.structs.replace(result, runs=[run, *result.runs[1:]])


def with_difference(result: StudyResult, name: str, difference: Interval) -> StudyResult:
    rows = [
        msgspec.structs.replace(row, difference=difference) if row.name == name else row for row in result.differences
    ]
    return msgspec.structs.replace(result, differences=rows)


def test_copies_and_random_features_show_nothing(result: StudyResult):
    text = " ".join(findings_of(result))
    assert "Neither small nor other is shown to predict better" in text
    assert "In small, no effect of knockouts is shown" in text
    assert "loses most" not in text
    assert "not shown to carry different numbers of labels" in text


def test_the_better_side_is_named_where_the_interval_excludes_zero(result: StudyResult):
    (better,) = prediction(with_difference(result, "macro_f1", interval(0.1, 0.02)))
    assert better.startswith("other predicts better than small")
    assert "+0.100 (+0.080 to +0.120), an interval over documents and not over trainings" in better
    (worse,) = prediction(with_difference(result, "macro_f1", interval(-0.1, 0.02)))
    assert worse.startswith("small predicts better than other")
    (neither,) = prediction(with_difference(result, "macro_f1", interval(0.1, 0.1)))
    assert neither.startswith("Neither small nor other")
    alone = msgspec.structs.replace(result, differences=[], runs=result.runs[:1])
    assert [sentence.split(" with ")[0] for sentence in prediction(alone)] == ["small predicts"]


def test_the_label_that_loses_most_is_named_with_its_token(result: StudyResult):
    first = result.runs[0]
    effects = [-30.0 - 20 * number for number in range(len(first.knockouts))]
    changed = with_effects(first, effects)
    label = first.knockouts[-1].settings.label
    token = LabelToken(token=" 味噌", features=2, label_share=1.0, other_share=0.0)
    cues = [msgspec.structs.replace(cues, label_tokens=[token] if cues.label == label else []) for cues in first.cues]
    sentences = list(knockouts(with_run(result, msgspec.structs.replace(changed, cues=cues))))
    assert f"costs {len(effects)} of {len(effects)} labels more recall" in sentences[0]
    assert lost_points(changed.knockout_mean.net or interval(0, 0)) in sentences[0]
    most = (
        f"The label that loses most is {label}, {-effects[-1]:.1f} ({-effects[-1] - 5:.1f} to {-effects[-1] + 5:.1f})"
    )
    assert sentences[1] == f"{most} points net; its clue is the token “味噌”."
    near = [*effects[:-1], effects[-2] - 1]
    bare = [msgspec.structs.replace(row, label_tokens=[]) for row in cues]
    sentences = list(knockouts(with_run(result, msgspec.structs.replace(with_effects(first, near), cues=bare))))
    assert "(1 other label is not shown to lose less)" in sentences[1]
    assert "no token that distinguishes it" in sentences[1]


def test_features_are_specific_only_beyond_chance(result: StudyResult):
    first = result.runs[0]

    def sentence(specific: int, significant: int) -> str:
        chance = msgspec.structs.replace(
            first.specificity.chance, specific=interval(10, 5), significant_specific=significant
        )
        table = msgspec.structs.replace(first.specificity, specific=specific, chance=chance)
        return next(specific_features(with_run(result, msgspec.structs.replace(first, specificity=table))))

    assert "not shown to be specific" in sentence(15, 3)
    assert "none is significant" in sentence(16, 0)
    assert sentence(16, 3).startswith("Features of small are specific to labels: 16 of")
    assert sentence(16, 3).endswith("with permuted labels 10 (5 to 15); 3 are significant.")
