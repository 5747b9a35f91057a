"""Circuits of a small run: effects agree with whole forward passes, and planted components are result."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tegakari.analyses.circuit import circuit, stored_circuit
from tegakari.analyses.circuit.effects import Effects
from tegakari.analyses.circuit.forward import ablation_accuracies, pair_effects
from tegakari.analyses.circuit.plots import effect_maps
from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.formatting import decimal
from tegakari.analyses.svg import to_svg
from tegakari.indexer.pipeline import index
from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.models.precision import float32_bytes, float32_copy
from tegakari.schemas.analysis import Interval
from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import MemoryShortError, NotFoundError
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS
from tegakari.store import Run, Store
from tegakari.store.queries.pairs import Pairs, similar_pairs
from tegakari.store.results import find_analysis
from tests.support.hooked_passes import hooked_pass
from tests.support.recorded_progress import RecordedProgress
from tests.support.small_case import SmallCase, with_index

SETTINGS = CircuitSettings(pairs=40, min_cosine=-1.0, documents=10_000)


def test_effects_agree_with_whole_forward_passes(run: Run, models: RunModels):
    pairs = similar_pairs(run, min_cosine=-1.0, n=6, seed=1)
    progress = RecordedProgress()
    progress.stage("pairs")
    effects = pair_effects(models.classifier, run.blocks.documents, pairs, progress)
    assert progress.steps[-1][0] == len(np.unique(pairs.clean)) + len(np.unique(pairs.corrupted))
    text, label = run.blocks.documents.text, np.asarray(run.blocks.documents.label_id)
    largest = 0.0
    for row, (clean, corrupted) in enumerate(zip(pairs.clean.tolist(), pairs.corrupted.tolist(), strict=True)):
        y = int(label[clean])
        z_clean, outputs = hooked_pass(models.classifier, text[clean].as_py(), lambda *_: None)
        z_corrupted, _ = hooked_pass(models.classifier, text[corrupted].as_py(), lambda *_: None)
        gained = float(z_clean[y] - z_corrupted[y])
        assert effects.gain[row] == pytest.approx(gained, abs=1e-4)
        for at in outputs:
            patched, _ = hooked_pass(
                models.classifier,
                text[corrupted].as_py(),
                lambda *place, at=at, outputs=outputs: outputs[at] if place[:2] == at else None,
            )
            expected = float(patched[y] - z_corrupted[y]) / gained if gained >= 1e-6 else 0.0
            assert effects.ratios[row][at] == pytest.approx(expected, abs=1e-3)
            largest = max(largest, abs(expected))
    assert largest > 0.1


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_ablations_agree_with_whole_forward_passes(run: Run, models: RunModels, by: str):
    numbers = np.arange(0, run.manifest.corpus.documents, 2)
    in_circuit = np.zeros((models.classifier.layers, 2), bool)
    in_circuit[1, 0] = in_circuit[2, 1] = True
    accuracies = ablation_accuracies(models.classifier, run.blocks.documents, numbers, in_circuit)
    texts = [run.blocks.documents.text[number].as_py() for number in numbers.tolist()]
    label = np.asarray(run.blocks.documents.label_id)[numbers]
    runs = [hooked_pass(models.classifier, text, lambda *_: None) for text in texts]
    assert accuracies.full.tolist() == [int(logits.argmax()) == y for (logits, _), y in zip(runs, label, strict=True)]
    mean = {at: torch.stack([outputs[at] for _, outputs in runs]).mean(0) for at in runs[0][1]}

    def correct(ablated: np.ndarray) -> list[bool]:
        def change(layer: int, number: int, value: torch.Tensor) -> torch.Tensor | None:
            if not ablated[layer, number]:
                return None
            return mean[layer, number] if by == "mean" else torch.zeros_like(value)

        predictions = [int(hooked_pass(models.classifier, text, change)[0].argmax()) for text in texts]
        return [prediction == y for prediction, y in zip(predictions, label, strict=True)]

    kept, removed = accuracies.of(by)
    assert kept.tolist() == correct(~in_circuit)
    assert removed.tolist() == correct(in_circuit)


def test_a_result_agrees_with_its_effects_and_accuracies(store: Path, run: Run, models: RunModels):
    progress = RecordedProgress()
    result = circuit(store, run, lambda: models, SETTINGS, progress=progress)
    assert progress.steps[-1][0] == progress.steps[-1][1]
    pairs = similar_pairs(run, min_cosine=-1.0, n=40, seed=0)
    effects = pair_effects(models.classifier, run.blocks.documents, pairs)
    ratios, reaching = effects.ratios, effects.gain >= 0.25 * effects.spread
    assert [row.study_effect.value for row in result.components] == pytest.approx(ratios.mean(0).ravel().tolist())
    quotients = effects.change[reaching].sum(0) / effects.gain[reaching].sum()
    assert [row.effect.value for row in result.components] == pytest.approx(quotients.ravel().tolist())
    medians = np.median(ratios[reaching], 0).ravel().tolist()
    assert [row.median_effect for row in result.components] == pytest.approx(medians)
    assert all(row.effect.low <= row.effect.value <= row.effect.high for row in result.components)
    assert all(row.study_effect.low <= row.study_effect.value <= row.study_effect.high for row in result.components)
    assert [row.in_study_circuit for row in result.components] == (ratios.mean(0) >= 0.01).ravel().tolist()
    assert [row.in_robust_circuit for row in result.components] == [row.effect.low >= 0.01 for row in result.components]
    assert [row.in_circuit for row in result.components] == [row.in_robust_circuit for row in result.components]
    assert result.no_gain == int((effects.gain < 1e-6).sum())
    assert result.small_gain == int((np.abs(effects.gain) < 0.05).sum())
    assert result.below_min_gain == int((~reaching).sum())
    assert result.pair_documents == len(set(pairs.clean.tolist()) | set(pairs.corrupted.tolist()))
    assert 0 <= result.rounding < 1e-4
    assert result.run_dtype_rounding is None
    inside = [row for row in result.components if row.in_circuit]
    assert inside
    assert result.total.value == pytest.approx(sum(row.effect.value for row in inside))
    assert (result.bands[0].first, result.bands[-1].last) == (0, result.layers - 1)
    for band in result.bands:
        effects_in_band = [row.effect.value for row in inside if band.first <= row.layer <= band.last]
        assert band.components == len(effects_in_band)
        assert band.share
        assert band.share.value == pytest.approx(sum(effects_in_band) / result.total.value)
    assert (result.pairs, result.qualifying, result.correct) == (len(pairs.clean), pairs.qualifying, pairs.correct)
    assert result.accuracy == pytest.approx(run.manifest.scores.accuracy)
    for ablated in result.ablated:
        assert ablated.sufficiency
        assert ablated.sufficiency.value == pytest.approx(ablated.accuracy_kept / result.accuracy)
        assert ablated.necessity.value == pytest.approx(result.accuracy - ablated.accuracy_removed)

    def never() -> RunModels:
        raise AssertionError("it is stored")

    assert circuit(store, run, never, SETTINGS) == result == stored_circuit(store, run, SETTINGS)
    analysis = find_analysis(store, CIRCUIT_ANALYSIS, [run.manifest], SETTINGS)
    assert analysis
    assert analysis.table(CIRCUIT).num_rows == 2 * result.layers
    assert analysis.table(CIRCUIT_PAIRS)["cosine"].to_numpy() == pytest.approx(pairs.cosine)
    study = circuit(store, run, lambda: models, msgspec.structs.replace(SETTINGS, membership="study"))
    assert [row.in_circuit for row in study.components] == [row.in_study_circuit for row in result.components]
    members = [row.study_effect.value for row in study.components if row.in_circuit]
    assert study.total.value == pytest.approx(sum(members))
    assert [row.effect for row in study.components] == [row.effect for row in result.components]
    halves = [
        msgspec.structs.replace(
            row, effect=Interval(value=row.effect.value / 2, low=row.effect.low / 2, high=row.effect.high / 2)
        )
        for row in result.components
    ]
    two = [result, msgspec.structs.replace(result, run="other", components=halves)]
    drawn = to_svg(effect_maps(two))
    assert "other" in drawn
    assert "MLP" in drawn
    effects = np.array([row.effect.value for row in result.components]).reshape(-1, 2)
    for own_scale, factor in ((False, 0.5), (True, 1.0)):
        first, second, *_ = effect_maps(two, own_scale=own_scale).axes
        shown = effects / effects.max() if own_scale else effects
        assert first.images[0].get_clim() == second.images[0].get_clim() == (0, pytest.approx(shown.max()))
        for axes, expected in ((first, shown), (second, factor * shown)):
            assert [text.get_text().removesuffix(" *") for text in axes.texts] == [
                decimal(value, 2) for value in expected.ravel().tolist()
            ]
        stars = [text.get_text().endswith("*") for text in first.texts]
        assert stars == [row.in_circuit for row in result.components]


def silence(classifier: Classifier, components: set[tuple[int, int]]) -> None:
    """Make components add nothing to the residual, at any position."""
    for layer, block in enumerate(classifier.blocks):
        for number, norm in enumerate((block.post_attention_layernorm, block.post_feedforward_layernorm)):
            if (layer, number) in components:
                norm.weight.data.fill_(-1)  # Gemma's norm multiplies by 1 + weight


def test_planted_components_are_the_circuit(small_case: SmallCase, tmp_path: Path):
    """Only two components of a classifier add to the residual: no other has an effect."""
    planted_components = {(1, 0), (2, 1)}
    config = with_index(small_case, tmp_path / "store")
    planted = tmp_path / "classifier"
    shutil.copytree(config.classifier.path, planted)
    classifier = load_classifier(planted, max_length=config.classifier.max_length, device="cpu")
    silence(
        classifier, {(layer, number) for layer in range(classifier.layers) for number in range(2)} - planted_components
    )
    classifier.model.save_pretrained(planted)
    changed = msgspec.structs.replace(config.classifier, path=str(planted))
    index(msgspec.structs.replace(config, classifier=changed))
    store = tmp_path / "store"
    run = Store(store).run(config.index.run)
    result = circuit(store, run, lambda: load_run_models(run, "cpu"), SETTINGS)
    effect = {
        (row.layer, ("attention", "mlp").index(row.component)): row.study_effect.value for row in result.components
    }
    assert {at for at, value in effect.items() if abs(value) > 1e-5} == planted_components
    assert {at for at, row in zip(effect, result.components, strict=True) if row.in_circuit} <= planted_components
    assert max(effect.values()) > 0.1
    in_circuit = np.zeros((result.layers, 2), bool)
    in_circuit[tuple(np.array(sorted(planted_components)).T)] = True
    models = load_run_models(run, "cpu")
    everything = np.arange(run.manifest.corpus.documents)
    accuracies = ablation_accuracies(models.classifier, run.blocks.documents, everything, in_circuit)
    assert accuracies.zero_kept.tolist() == accuracies.full.tolist()


def test_pairs_that_all_share_a_document_have_no_interval(
    store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch
):
    shared = Pairs(np.array([4, 4, 4]), np.array([1, 2, 3]), np.ones(3, np.float32), 3, 4)
    effects = Effects(np.ones((3, 3, 2)), np.full(3, 2.0), spread=1.0)
    monkeypatch.setattr("tegakari.analyses.circuit.measurement.similar_pairs", lambda *_, **__: shared)
    monkeypatch.setattr("tegakari.analyses.circuit.measurement.pair_effects", lambda *_: effects)
    with pytest.raises(NotFoundError, match="one document is in all 3 pairs"):
        circuit(store, run, lambda: models, CircuitSettings(min_gain=0.0, seed=9))
    with pytest.raises(NotFoundError, match="none of 3 pairs has a gain"):
        circuit(store, run, lambda: models, CircuitSettings(min_gain=100.0, seed=9))


def test_a_bfloat16_run_has_its_effects_in_float32(store: Path, run: Run, models: RunModels):
    """The weights are those of bfloat16, the arithmetic is not."""
    model = copy.deepcopy(models.classifier.model).bfloat16()
    rounded = dataclasses.replace(models.classifier, model=model, blocks=find_blocks(model), dtype=torch.bfloat16)
    exact = float32_copy(rounded)
    assert {parameter.dtype for parameter in exact.model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(a, b.float()) for a, b in zip(exact.model.parameters(), model.parameters(), strict=True))
    assert float32_copy(exact) is exact
    assert float32_bytes(rounded) == 4 * sum(parameter.numel() for parameter in model.parameters())
    settings = CircuitSettings(pairs=30, min_cosine=-1.0, seed=7)
    result = circuit(store, run, lambda: dataclasses.replace(models, classifier=rounded), settings)
    assert result.provenance.dtype == "float32"
    assert result.rounding < 1e-5
    assert result.run_dtype_rounding
    assert 1e-4 < result.run_dtype_rounding < 1
    pairs = similar_pairs(run, min_cosine=-1.0, n=30, seed=7)
    expected = pair_effects(exact, run.blocks.documents, pairs).ratios.mean(0).ravel()
    assert [row.study_effect.value for row in result.components] == pytest.approx(expected.tolist())


def test_too_little_memory_for_float32_is_refused(
    store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch
):
    rounded = dataclasses.replace(models.classifier, dtype=torch.bfloat16)
    monkeypatch.setattr("tegakari.analyses.engine.memory.free_bytes", lambda _device: 1000)
    with pytest.raises(MemoryShortError, match="GiB") as refusal:
        circuit(
            store,
            run,
            lambda: dataclasses.replace(models, classifier=rounded),
            CircuitSettings(min_cosine=-1.0, pairs=5, seed=8),
        )
    assert "float32" in str(refusal.value.fix)


def test_a_run_without_similar_pairs_is_refused(store: Path, run: Run, models: RunModels):
    with pytest.raises(NotFoundError, match="cosine >= 1"):
        circuit(store, run, lambda: models, CircuitSettings(min_cosine=1.0))


def test_fewer_pairs_than_requested_are_counted(run: Run):
    pairs: Pairs = similar_pairs(run, min_cosine=0.99, n=1000)
    assert pairs.qualifying == len(pairs.clean) < 1000
