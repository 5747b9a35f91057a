"""An attribution against knockouts, finite differences and a search over all sets; a planted clue is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tegakari.analyses.attribution.compute import attribution
from tegakari.analyses.attribution.plots import margin_bars
from tegakari.analyses.attribution.settings import attribution_input
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import knock_out
from tegakari.analyses.svg import to_svg
from tegakari.kernels.reference import activations
from tegakari.models.rerun.prefix import run_prefix
from tegakari.schemas.attribution import Attribution, AttributionSettings
from tegakari.schemas.errors import NotFoundError, QueryError, TegakariError
from tegakari.schemas.knockout import KnockoutSettings, LayerFeature
from tegakari.store import Run, queries
from tests.support.small_case import LABELS

ROUNDING = 3e-4
"""Margins are rounded to 4 decimals, and another batch rounds float32 differently."""


def attribution_of(run: Run, models: RunModels, **settings: Any) -> Attribution:
    return attribution(models, run, attribution_input(run, AttributionSettings(**settings)))


def margin(run: Run, logits: np.ndarray, label: str) -> float:
    others = np.delete(logits, run.label_id(label))
    return float(logits[run.label_id(label)] - others.max())


def ablated_logits(run: Run, models: RunModels, document: str, features: list[tuple[int, int]]) -> np.ndarray:
    """Logits of a document without features, by an independent knockout."""
    settings = KnockoutSettings(
        features=[LayerFeature(*feature) for feature in features], documents=[document], draws=0, details="logits"
    )
    outcomes = knock_out(run.store, run, models, settings).outcomes
    assert outcomes
    return np.array(outcomes[0].logits_after)


@pytest.fixture(scope="module")
def document(run: Run) -> str:
    return queries.documents(run).items[3].document


def test_each_single_ablation_is_that_of_a_knockout(run: Run, models: RunModels, document: str):
    attribution = attribution_of(run, models, document=document, candidates=6)
    logits = np.array([score.logit for score in attribution.labels])
    assert attribution.margin == pytest.approx(margin(run, logits, attribution.label), abs=ROUNDING)
    assert len(attribution.features) == 6
    assert len({row.layer for row in attribution.features}) > 1
    for row in attribution.features:
        after = ablated_logits(run, models, document, [(row.layer, row.feature)])
        lost = attribution.margin - margin(run, after, attribution.label)
        assert row.margin_lost == pytest.approx(lost, abs=ROUNDING)
        label = run.label_id(attribution.label)
        assert row.logit_lost == pytest.approx(logits[label] - after[label], abs=ROUNDING)
    lost = [row.margin_lost for row in attribution.features]
    assert lost == sorted(lost, reverse=True)


def test_the_greedy_set_is_that_of_a_search_over_all_candidates(run: Run, models: RunModels, document: str):
    attribution = attribution_of(run, models, document=document, candidates=5, max_set=3, draws=0)
    candidates = [(row.layer, row.feature) for row in attribution.features]
    ablated: list[tuple[int, int]] = []
    for step in attribution.steps:
        trials = {
            candidate: margin(run, ablated_logits(run, models, document, [*ablated, candidate]), attribution.label)
            for candidate in candidates
            if candidate not in ablated
        }
        assert step.margin == pytest.approx(min(trials.values()), abs=ROUNDING)
        assert trials[step.layer, step.feature] == pytest.approx(step.margin, abs=ROUNDING)
        ablated.append((step.layer, step.feature))
    assert ablated
    assert attribution.control is None


@pytest.mark.parametrize("input_norm", ["none", "layer_norm"])
def test_estimates_are_the_slope_of_the_margin(run: Run, models: RunModels, document: str, input_norm: Any):
    sae = replace(models.saes[1], input_norm=input_norm)
    models = RunModels(models.classifier, {**models.saes, 1: sae})
    attribution = attribution_of(run, models, document=document, layers=[1], candidates=4, draws=0)
    text = queries.document(run, document).text
    classifier = models.classifier
    batch = classifier.batch(classifier.tokenize([text]))
    residual = run_prefix(classifier, batch, [1]).residuals[1][0, 1:]  # without BOS
    dense = activations(residual, sae.encoder(torch.float32))
    scale = 0.05

    for row in attribution.features:
        one = torch.zeros_like(dense)
        one[:, row.feature] = dense[:, row.feature]
        change = sae.decode(one, residual) - sae.decode(torch.zeros_like(dense), residual)

        def difference(scale: float, change: torch.Tensor = change) -> float:
            """Logit of the label minus that of the runner-up, with a part of the feature's contribution removed."""

            def shift(_module: Any, _inputs: Any, output: Any) -> Any:
                hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
                hidden[0, 1:] -= scale * change
                return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

            handle = classifier.blocks[1].register_forward_hook(shift)
            try:
                with torch.no_grad():
                    logits = classifier.model(input_ids=batch.input_ids).logits[0].double().numpy()
            finally:
                handle.remove()
            return logits[run.label_id(attribution.label)] - logits[run.label_id(attribution.runner_up)]

        slope = (difference(-scale) - difference(scale)) / (2 * scale)
        assert row.estimate == pytest.approx(slope, rel=0.05, abs=2e-3)


def test_the_control_is_drawn_again_by_its_seed_and_leaves_the_set_out(run: Run, models: RunModels, document: str):
    one, same, other = (
        attribution_of(run, models, document=document, candidates=4, max_set=2, draws=5, seed=seed).control
        for seed in (1, 1, 2)
    )
    assert one
    assert one == same
    assert other
    assert (one.set_lost, one.single_lost) != (other.set_lost, other.single_lost)
    assert len(one.set_lost) == len(one.single_lost) == 5
    assert one.set_mean == pytest.approx(np.mean(one.set_lost))


def test_the_control_of_the_last_layer_reaches_the_head(run: Run, models: RunModels, document: str):
    """Features of the last block that are silent at the head's position change nothing: they would be no control."""
    control = attribution_of(run, models, document=document, layers=[2], max_set=1, draws=8).control
    assert control
    assert all(lost != 0 for lost in control.single_lost)


def test_another_label_has_its_own_margin(run: Run, models: RunModels, document: str):
    predicted = attribution_of(run, models, document=document, candidates=3)
    runner_up = attribution_of(run, models, document=document, candidates=3, label=predicted.runner_up)
    assert runner_up.predicted == predicted.label
    assert runner_up.margin == pytest.approx(-predicted.margin, abs=ROUNDING)
    assert not runner_up.steps
    assert not runner_up.flipped


def test_a_text_has_the_attribution_of_the_document_with_the_same_text(run: Run, models: RunModels, document: str):
    text = queries.document(run, document).text
    one, other = attribution_of(run, models, document=document), attribution_of(run, models, text=text)
    assert other.settings.document is None
    assert (one.features, one.tokens, one.steps) == (other.features, other.tokens, other.steps)
    assert "".join(token.token for token in one.tokens if not token.special) == text
    assert sum(token.strength for token in one.tokens) == pytest.approx(1, abs=1e-2)


def test_a_planted_clue_is_attributed_to_its_word(clue_run: Run, clue_models: RunModels):
    """The strongest token is a part of the clue, and the clue's feature costs most."""
    labels = sorted(LABELS)
    correct = [row for row in queries.documents(clue_run, limit=100).items if row.correct]
    assert len(correct) > 20
    words, features = 0, 0
    by_clue: list[float] = []
    by_others: list[float] = []
    for row in correct:
        attribution = attribution_of(clue_run, clue_models, document=row.document)
        strongest = max(attribution.tokens, key=lambda token: token.strength)
        words += bool(strongest.token) and strongest.token in LABELS[row.label]
        features += attribution.features[0].feature == labels.index(row.label)
        assert attribution.control
        by_clue.append(attribution.features[0].margin_lost)
        by_others += attribution.control.single_lost
    assert words >= 0.9 * len(correct)
    assert features >= 0.9 * len(correct)
    assert np.mean(by_clue) > 10 * np.mean(np.abs(by_others))


def test_the_figure_names_its_features(clue_run: Run, clue_models: RunModels):
    attribution = attribution_of(clue_run, clue_models, text="今日は軽トラとても楽しい")
    svg = to_svg(margin_bars(attribution))
    assert f"0:{attribution.features[0].feature} " in svg


WRONG: list[tuple[dict[str, Any], type[TegakariError], str]] = [
    ({}, QueryError, "document"),
    ({"document": "a", "text": "a"}, QueryError, "document"),
    ({"document": "nope"}, NotFoundError, "document"),
    ({"text": "軽トラ", "label": "nope"}, NotFoundError, "label"),
    ({"text": "軽トラ", "layers": [9]}, NotFoundError, "layers"),
]


@pytest.mark.parametrize(("settings", "error", "field"), WRONG)
def test_wrong_settings_are_refused_before_models_load(
    run: Run, settings: dict[str, Any], error: type[TegakariError], field: str
):
    with pytest.raises(error) as raised:
        attribution_input(run, AttributionSettings(**settings))
    assert raised.value.field == field
    assert raised.value.fix


def test_a_text_that_a_tokenizer_reads_as_nothing_is_refused(run: Run, models: RunModels, monkeypatch: Any):
    """Text that spells special tokens is read as its characters, so a tokenizer that drops characters stands here."""
    tokenize = type(models.classifier).tokenize
    monkeypatch.setattr(
        type(models.classifier), "tokenize", lambda self, texts, on_step: tokenize(self, [""] * len(texts), on_step)
    )
    with pytest.raises(QueryError) as raised:
        attribution_of(run, models, text="\u200b")
    assert raised.value.field == "text"
