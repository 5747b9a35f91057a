"""Limits of a study: the sentences that it must contain, from small runs and from changed results."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.study import study
from tegakari.analyses.study.limits import limits_of
from tegakari.analyses.study.render import html, markdown
from tegakari.schemas.analysis import Interval
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.knockout import Destination
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.store import Run


def text_of(result: StudyResult) -> str:
    return "\n".join(limits_of(result))


def test_two_runs_are_not_two_models(result: StudyResult):
    assert result.limits == limits_of(result)
    first = result.limits[0]
    assert "between these two runs, not between models" in first
    assert "Held fixed: classifier and SAE training seeds, corpus, labels" in first
    text = text_of(result)
    assert "small: a label has 16 documents" in text
    assert "fewer than 40 documents of a label in small (8), other (8)" in text
    assert "no baseline" in text
    assert "small and other: Pairs by cosine are left out in layer 0, 1" in text
    assert "both runs have the same SAEs." in text


def test_a_skipped_study_computes_none_of_the_parts(two_runs: tuple[Path, list[Run]], settings: StudySettings):
    store, runs = two_runs

    def never() -> RunModels:
        raise AssertionError("no part needs a model")

    skipping = msgspec.structs.replace(settings, skip=["variants", "circuit", "knockouts", "matching"])
    result = study(store, runs, lambda _: never, skipping)
    assert "Skipped, as the settings say: circuit, knockouts, matching, variants." in result.limits
    assert result.matching is None
    assert [difference.figure for difference in result.differences] == [
        "macro-F1",
        "mean label variety",
        "active features of a document",
        "top-20 ratio",
    ]
    page, text = html(result, runs), markdown(result, runs)
    for title in ("Figure 1", "Tables 3 and 8", "Figure 2", "Tables 4 and 9", "Shared features"):
        assert title not in page
        assert title not in text
    assert "Table 7" in text


def test_what_cannot_be_measured_is_named_with_its_reason(two_runs: tuple[Path, list[Run]], settings: StudySettings):
    """No pair of documents is similar enough for a circuit, and the tokenizer lacks most characters of the concepts."""
    store, runs = two_runs
    changed = msgspec.structs.replace(settings, circuit=CircuitSettings(min_cosine=1.0), skip=["knockouts"])
    result = study(store, runs[:1], lambda run: lambda: load_run_models(run, "cpu"), changed)
    (run,) = result.runs
    assert run.variants is None
    text = text_of(result)
    assert "small has no circuit: " in text
    assert "small has no written variants: the classifier's tokenizer does not know the script" in text
    assert "no written variants" in markdown(result, runs[:1])
    assert "Differences" not in text


def test_doubtful_figures_are_named(result: StudyResult):
    first, second = result.runs
    pooled = msgspec.structs.replace(first.specificity, pooling="max")
    saes = [
        msgspec.structs.replace(first.saes[0], explained_variance=-4.2, dead_share=0.1),
        msgspec.structs.replace(first.saes[1], explained_variance=0.9, dead_share=0.75),
    ]
    assert first.documents == 48
    knockouts = [
        msgspec.structs.replace(
            row, beyond_control=beyond, margin=msgspec.structs.replace(row.margin, beyond_control=False)
        )
        for row, beyond in zip(first.knockouts, (True, False, False), strict=True)
    ]
    assert first.circuit
    circuit = msgspec.structs.replace(first.circuit, warning="One pair moves an effect by 3.")
    doubtful = msgspec.structs.replace(
        first, specificity=pooled, saes=saes, truncated=24, knockouts=knockouts, circuit=circuit
    )
    text = text_of(msgspec.structs.replace(result, runs=[doubtful, second]))
    assert "small: the SAEs explain less than 60% of the variance in layer 0 (-4.20)" in text
    assert "small: more than 50% of the features are never active in layer 1 (75%)" in text
    assert "small: 24 of 48 documents are cut" in text
    assert "small, circuit: One pair moves an effect by 3." in text
    assert "small: d and label variety are of activations pooled by max" in text
    chance, learned = (
        msgspec.structs.replace(first.classification, accuracy=Interval(value=0.5, low=low, high=0.7))
        for low in (0.3, 0.4)
    )
    assert first.largest_share == pytest.approx(1 / 3)
    for classification, named in ((chance, True), (learned, False)):
        study_of = msgspec.structs.replace(first, classification=classification)
        sentence = "small: accuracy 0.500 (0.300 to 0.700) is not shown to be above 0.333"
        assert (sentence in text_of(msgspec.structs.replace(result, runs=[study_of, second]))) == named
    reading_all = msgspec.structs.replace(doubtful, head="all")
    assert "pooled by max" not in text_of(msgspec.structs.replace(result, runs=[reading_all, second]))
    assert "small: the knockouts of 2 of 3 labels are not beyond their control" in text
    assert "lower the margin" not in text
    assert "small: no mean effect of knockouts is shown" in text
    assert "chosen on the documents that they are measured on" not in text
    same = msgspec.structs.replace(result.settings, holdout=False)
    assert "and their layer are chosen on the documents that they are" in text_of(
        msgspec.structs.replace(result, settings=same)
    )
    assert first.layer_choice
    zero, *others = first.layer_choice.effects
    left_out = msgspec.structs.replace(zero, net=None, left_out="few features")
    choice = msgspec.structs.replace(first.layer_choice, layer=1, effects=[left_out, *others])
    few = msgspec.structs.replace(first, layer_choice=choice)
    assert "small: layer 0 could not be chosen for knockouts: few features." in text_of(
        msgspec.structs.replace(result, runs=[few, second])
    )


@pytest.mark.parametrize(("other", "named"), [(-19.0, True), (-17.0, False), (3.0, False)])
def test_layers_that_are_nearly_tied_are_named(result: StudyResult, other: float, named: bool):
    first, second = result.runs
    assert first.layer_choice
    effects = [
        msgspec.structs.replace(effect, net=net)
        for effect, net in zip(first.layer_choice.effects, (other, -20.0, -1.0), strict=True)
    ]
    choice = msgspec.structs.replace(first.layer_choice, layer=1, effects=effects)
    text = text_of(msgspec.structs.replace(result, runs=[msgspec.structs.replace(first, layer_choice=choice), second]))
    sentence = "small: the layer of knockouts, 1 (-20.0 points net), is nearly tied with layer 0 (-19.0)"
    assert (sentence in text) == named


def test_circuits_of_few_pairs_are_named(result: StudyResult):
    first, second = result.runs
    assert first.circuit
    for pairs, named in ((first.circuit.settings.pairs // 2 - 1, True), (first.circuit.settings.pairs, False)):
        run = msgspec.structs.replace(first, circuit=msgspec.structs.replace(first.circuit, pairs=pairs))
        text = text_of(msgspec.structs.replace(result, runs=[run, second]))
        assert (f"small, circuit: {pairs} of {first.circuit.settings.pairs} requested pairs" in text) == named


def test_features_on_tokens_of_all_labels_are_named(result: StudyResult):
    first, second = result.runs
    features = sum(len(cues.features) for cues in first.cues)
    for on_label_tokens, named in ((0, True), (4, False)):
        cues = [msgspec.structs.replace(of_label, on_label_tokens=on_label_tokens) for of_label in first.cues]
        text = text_of(msgspec.structs.replace(result, runs=[msgspec.structs.replace(first, cues=cues), second]))
        sentence = f"small: {features} of the {features} features of knockouts are most active on a token that is in"
        assert (sentence in text) == named


def test_labels_by_their_margin_alone_and_by_default_are_named(result: StudyResult):
    first, second = result.runs
    default = first.knockouts[2].settings.label
    assert default
    lost = [[Destination(label=default, documents=8)]] * 2 + [[]]
    knockouts = [
        msgspec.structs.replace(
            row, beyond_control=beyond, lost=places, margin=msgspec.structs.replace(row.margin, beyond_control=True)
        )
        for row, beyond, places in zip(first.knockouts, (True, True, False), lost, strict=True)
    ]
    text = text_of(msgspec.structs.replace(result, runs=[msgspec.structs.replace(first, knockouts=knockouts), second]))
    assert "small: the knockouts of 1 of 3 labels lower the margin beyond their control, and not the recall" in text
    assert f"small: other labels lose more documents to {default} (16 of 16) than to any other" in text
    assert "small: the knockouts of" not in text.replace("small: the knockouts of 1 of 3 labels lower", "")


@pytest.mark.parametrize(("chance", "named"), [(2, False), (6, True)])
def test_correlations_that_chance_explains_are_named(result: StudyResult, chance: int, named: bool):
    assert result.matching
    layer = result.matching.layers[0]
    counts = [msgspec.structs.replace(layer.by_correlation[0], pairs=10, by_chance=chance)]
    matching = msgspec.structs.replace(result.matching, layers=[msgspec.structs.replace(layer, by_correlation=counts)])
    text = text_of(msgspec.structs.replace(result, matching=matching))
    assert ("active in few documents correlate by chance" in text) == named
