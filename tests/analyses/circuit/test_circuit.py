"""Circuits of a real small run: effects against whole runs with hooks, and planted components that are found."""

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
from tegakari.models.classifier import Classifier, load_classifier
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS
from tegakari.store import Run, Store
from tegakari.store.queries.pairs import Pairs, similar_pairs
from tegakari.store.results import find_analysis
from tests.indexer.conftest import SmallCase, with_index
from tests.models.rerun.test_patching import whole_run
from tests.support.recorded_progress import RecordedProgress

SETTINGS = CircuitSettings(pairs=40, min_cosine=-1.0, documents=10_000)


def test_the_formula_by_hand():
    clean, corrupted = torch.tensor([[3.0, 0], [1, 0], [1, 5]]), torch.tensor([[1.0, 0], [1, 0], [2, 0]])
    patched = torch.tensor([[[[2.0, 9], [0.5, 9]]], [[[7.0, 9], [1, 9]]], [[[9.0, 9], [9, 9]]]])
    found = effects(clean, corrupted, patched, torch.tensor([0, 0, 0]))
    assert found.values.tolist() == [[[0.5, -0.25]], [[0, 0]], [[0, 0]]]  # no gain, and a loss: no effect
    assert found.gain.tolist() == [2, 0, -1]


def test_effects_are_those_of_whole_runs(run: Run, models: RunModels):
    pairs = similar_pairs(run, min_cosine=-1.0, n=6, seed=1)
    progress = RecordedProgress()
    progress.stage("pairs")
    found = pair_effects(run, models, pairs, progress)
    assert progress.steps[-1][0] == len(np.unique(pairs.clean)) + len(np.unique(pairs.corrupted))
    text, label = run.blocks.documents.text, np.asarray(run.blocks.documents.label_id)
    largest = 0.0
    for row, (clean, corrupted) in enumerate(zip(pairs.clean.tolist(), pairs.corrupted.tolist(), strict=True)):
        y = int(label[clean])
        z_clean, given = whole_run(models.classifier, text[clean].as_py(), lambda *_: None)
        z_corrupted, _ = whole_run(models.classifier, text[corrupted].as_py(), lambda *_: None)
        gained = float(z_clean[y] - z_corrupted[y])
        assert found.gain[row] == pytest.approx(gained, abs=1e-4)
        for at in given:
            patched, _ = whole_run(
                models.classifier,
                text[corrupted].as_py(),
                lambda *place, at=at, given=given: given[at] if place[:2] == at else None,
            )
            expected = float(patched[y] - z_corrupted[y]) / gained if gained >= 1e-6 else 0.0
            assert found.values[row][at] == pytest.approx(expected, abs=1e-3)
            largest = max(largest, abs(expected))
    assert largest > 0.1


@pytest.mark.parametrize("by", ["mean", "zero"])
def test_ablations_are_those_of_whole_runs(run: Run, models: RunModels, by: str):
    numbers = np.arange(0, run.manifest.corpus.documents, 2)
    chosen = np.zeros((models.classifier.layers, 2), bool)
    chosen[1, 0] = chosen[2, 1] = True
    found = ablation_accuracies(run, models, numbers, chosen, NoProgress())
    texts = [run.blocks.documents.text[number].as_py() for number in numbers.tolist()]
    label = np.asarray(run.blocks.documents.label_id)[numbers]
    runs = [whole_run(models.classifier, text, lambda *_: None) for text in texts]
    assert found.full.tolist() == [int(logits.argmax()) == y for (logits, _), y in zip(runs, label, strict=True)]
    mean = {at: torch.stack([given[at] for _, given in runs]).mean(0) for at in runs[0][1]}

    def right(ablated: np.ndarray) -> list[bool]:
        def change(layer: int, number: int, value: torch.Tensor) -> torch.Tensor | None:
            if not ablated[layer, number]:
                return None
            return mean[layer, number] if by == "mean" else torch.zeros_like(value)

        said = [int(whole_run(models.classifier, text, change)[0].argmax()) for text in texts]
        return [each == y for each, y in zip(said, label, strict=True)]

    kept, removed = found.of(by)
    assert kept.tolist() == right(~chosen)
    assert removed.tolist() == right(chosen)


def test_what_is_reported(store: Path, run: Run, models: RunModels):
    progress = RecordedProgress()
    found = circuit(store, run, lambda: models, SETTINGS, progress=progress)
    assert progress.steps[-1][0] == progress.steps[-1][1]
    pairs = similar_pairs(run, min_cosine=-1.0, n=40, seed=0)
    values = pair_effects(run, models, pairs, NoProgress()).values
    assert [each.effect.value for each in found.components] == pytest.approx(values.mean(0).ravel().tolist())
    assert all(each.effect.low <= each.effect.value <= each.effect.high for each in found.components)
    assert [each.in_circuit for each in found.components] == (values.mean(0) >= 0.01).ravel().tolist()
    inside = [each for each in found.components if each.in_circuit]
    assert inside
    assert found.total.value == pytest.approx(sum(each.effect.value for each in inside))
    assert (found.bands[0].first, found.bands[-1].last) == (0, found.layers - 1)
    for band in found.bands:
        mine = [each.effect.value for each in inside if band.first <= each.layer <= band.last]
        assert band.components == len(mine)
        assert band.share
        assert band.share.value == pytest.approx(sum(mine) / found.total.value)
    assert (found.pairs, found.qualifying, found.correct) == (len(pairs.clean), pairs.found, pairs.correct)
    assert found.accuracy == pytest.approx(run.manifest.scores.accuracy)
    for each in found.ablated:
        assert each.sufficiency
        assert each.sufficiency.value == pytest.approx(each.accuracy_kept / found.accuracy)
        assert each.necessity.value == pytest.approx(found.accuracy - each.accuracy_removed)

    def never() -> RunModels:
        raise AssertionError("it is stored")

    assert circuit(store, run, never, SETTINGS) == found == stored_circuit(store, run, SETTINGS)
    analysis = find_analysis(store, "circuit", [run.manifest], SETTINGS)
    assert analysis
    assert analysis.table(CIRCUIT).num_rows == 2 * found.layers
    assert analysis.table(CIRCUIT_PAIRS)["cosine"].to_numpy() == pytest.approx(pairs.cosine)
    drawn = to_svg(effect_maps([found, msgspec.structs.replace(found, run="other")]))
    assert "other" in drawn
    assert "MLP" in drawn


def plant(classifier: Classifier, silent: set[tuple[int, int]]) -> None:
    """Let components add nothing, at any position."""
    for layer, block in enumerate(classifier.blocks):
        for number, norm in enumerate((block.post_attention_layernorm, block.post_feedforward_layernorm)):
            if (layer, number) in silent:
                norm.weight.data.fill_(-1)  # Gemma's norm multiplies by 1 + weight


def test_planted_components_are_the_circuit(small_case: SmallCase, tmp_path: Path):
    """A classifier in which only some components add anything: no other one has an effect."""
    speaking = {(0, 0), (2, 1)}
    config = with_index(small_case, tmp_path / "store")
    planted = tmp_path / "classifier"
    shutil.copytree(config.classifier.path, planted)
    classifier = load_classifier(planted, max_length=config.classifier.max_length, device="cpu")
    plant(classifier, {(layer, number) for layer in range(classifier.layers) for number in range(2)} - speaking)
    classifier.model.save_pretrained(planted)
    changed = msgspec.structs.replace(config.classifier, path=str(planted))
    index(msgspec.structs.replace(config, classifier=changed))
    store = tmp_path / "store"
    run = Store(store).run(config.index.run)
    found = circuit(store, run, lambda: load_run_models(run, "cpu"), SETTINGS)
    effect = {(each.layer, ("attention", "mlp").index(each.component)): each.effect.value for each in found.components}
    assert {at for at, value in effect.items() if value != 0} == speaking
    assert {at for at, each in zip(effect, found.components, strict=True) if each.in_circuit} <= speaking
    assert max(effect.values()) > 0.1
    chosen = np.zeros((found.layers, 2), bool)
    chosen[tuple(np.array(sorted(speaking)).T)] = True
    models = load_run_models(run, "cpu")
    kept = ablation_accuracies(run, models, np.arange(run.manifest.corpus.documents), chosen, NoProgress())
    assert kept.zero_kept.tolist() == kept.full.tolist()


def test_no_pair_is_said(store: Path, run: Run, models: RunModels):
    with pytest.raises(NotFoundError, match="cosine >= 1"):
        circuit(store, run, lambda: models, CircuitSettings(min_cosine=1.0))


def test_fewer_pairs_than_asked_are_counted(run: Run):
    found: Pairs = similar_pairs(run, min_cosine=0.99, n=1000)
    assert found.found == len(found.clean) < 1000
