"""Circuits of a small run: effects agree with whole forward passes, and planted components are result."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tegakari.analyses.circuit import circuit, stored_circuit
from tegakari.analyses.circuit.effects import effects
from tegakari.analyses.circuit.forward import ablation_accuracies, pair_effects
from tegakari.analyses.circuit.plots import effect_maps
from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.svg import to_svg
from tegakari.indexer.pipeline import index
from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS
from tegakari.store import Run, Store
from tegakari.store.queries.pairs import Pairs, similar_pairs
from tegakari.store.results import find_analysis
from tests.support.hooked_passes import hooked_pass
from tests.support.recorded_progress import RecordedProgress
from tests.support.small_case import SmallCase, with_index

SETTINGS = CircuitSettings(pairs=40, min_cosine=-1.0, documents=10_000)


def test_effects_by_hand():
    clean, corrupted = torch.tensor([[3.0, 0], [1, 0], [1, 5]]), torch.tensor([[1.0, 0], [1, 0], [2, 0]])
    patched = torch.tensor([[[[2.0, 9], [0.5, 9]]], [[[7.0, 9], [1, 9]]], [[[9.0, 9], [9, 9]]]])
    effect = effects(clean, corrupted, patched, torch.tensor([0, 0, 0]))
    assert effect.values.tolist() == [[[0.5, -0.25]], [[0, 0]], [[0, 0]]]  # no gain, and a loss: no effect
    assert effect.gain.tolist() == [2, 0, -1]


def test_effects_agree_with_whole_forward_passes(run: Run, models: RunModels):
    pairs = similar_pairs(run, min_cosine=-1.0, n=6, seed=1)
    progress = RecordedProgress()
    progress.stage("pairs")
    effects_of_pairs = pair_effects(run, models, pairs, progress)
    assert progress.steps[-1][0] == len(np.unique(pairs.clean)) + len(np.unique(pairs.corrupted))
    text, label = run.blocks.documents.text, np.asarray(run.blocks.documents.label_id)
    largest = 0.0
    for row, (clean, corrupted) in enumerate(zip(pairs.clean.tolist(), pairs.corrupted.tolist(), strict=True)):
        y = int(label[clean])
        z_clean, outputs = hooked_pass(models.classifier, text[clean].as_py(), lambda *_: None)
        z_corrupted, _ = hooked_pass(models.classifier, text[corrupted].as_py(), lambda *_: None)
        gained = float(z_clean[y] - z_corrupted[y])
        assert effects_of_pairs.gain[row] == pytest.approx(gained, abs=1e-4)
        for at in outputs:
            patched, _ = hooked_pass(
                models.classifier,
                text[corrupted].as_py(),
                lambda *place, at=at, outputs=outputs: outputs[at] if place[:2] == at else None,
            )
            expected = float(patched[y] - z_corrupted[y]) / gained if gained >= 1e-6 else 0.0
            assert effects_of_pairs.values[row][at] == pytest.approx(expected, abs=1e-3)
            largest = max(largest, abs(expected))
    assert largest > 0.1


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_ablations_agree_with_whole_forward_passes(run: Run, models: RunModels, by: str):
    numbers = np.arange(0, run.manifest.corpus.documents, 2)
    in_circuit = np.zeros((models.classifier.layers, 2), bool)
    in_circuit[1, 0] = in_circuit[2, 1] = True
    accuracies = ablation_accuracies(run, models, numbers, in_circuit, NoProgress())
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
    values = pair_effects(run, models, pairs, NoProgress()).values
    assert [row.effect.value for row in result.components] == pytest.approx(values.mean(0).ravel().tolist())
    assert all(row.effect.low <= row.effect.value <= row.effect.high for row in result.components)
    assert [row.in_circuit for row in result.components] == (values.mean(0) >= 0.01).ravel().tolist()
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
    drawn = to_svg(effect_maps([result, msgspec.structs.replace(result, run="other")]))
    assert "other" in drawn
    assert "MLP" in drawn


def silence(classifier: Classifier, components: set[tuple[int, int]]) -> None:
    """Make components add nothing to the residual, at any position."""
    for layer, block in enumerate(classifier.blocks):
        for number, norm in enumerate((block.post_attention_layernorm, block.post_feedforward_layernorm)):
            if (layer, number) in components:
                norm.weight.data.fill_(-1)  # Gemma's norm multiplies by 1 + weight


def test_planted_components_are_the_circuit(small_case: SmallCase, tmp_path: Path):
    """Only two components of a classifier add to the residual: no other has an effect."""
    planted_components = {(0, 0), (2, 1)}
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
    effect = {(row.layer, ("attention", "mlp").index(row.component)): row.effect.value for row in result.components}
    assert {at for at, value in effect.items() if value != 0} == planted_components
    assert {at for at, row in zip(effect, result.components, strict=True) if row.in_circuit} <= planted_components
    assert max(effect.values()) > 0.1
    in_circuit = np.zeros((result.layers, 2), bool)
    in_circuit[tuple(np.array(sorted(planted_components)).T)] = True
    models = load_run_models(run, "cpu")
    accuracies = ablation_accuracies(run, models, np.arange(run.manifest.corpus.documents), in_circuit, NoProgress())
    assert accuracies.zero_kept.tolist() == accuracies.full.tolist()


def test_a_run_without_similar_pairs_is_refused(store: Path, run: Run, models: RunModels):
    with pytest.raises(NotFoundError, match="cosine >= 1"):
        circuit(store, run, lambda: models, CircuitSettings(min_cosine=1.0))


def test_fewer_pairs_than_requested_are_counted(run: Run):
    pairs: Pairs = similar_pairs(run, min_cosine=0.99, n=1000)
    assert pairs.qualifying == len(pairs.clean) < 1000
