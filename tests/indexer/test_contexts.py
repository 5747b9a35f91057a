"""Contexts and probes of an index against plain Python over dense activations of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.indexer.add_contexts import add_contexts
from tegakari.indexer.corpus import read_manifest
from tegakari.indexer.effects import SAMPLE_DOCUMENTS
from tegakari.indexer.executors import Processes
from tegakari.indexer.index_models import load_models
from tegakari.indexer.pipeline import _documents, index
from tegakari.kernels import encode
from tegakari.models.label_effects import label_effects, label_gradients
from tegakari.schemas.errors import NotFoundError, RunExistsError
from tegakari.schemas.progress import NoProgress
from tegakari.store import Run, Store
from tegakari.store.contexts import FeatureContexts, layer_contexts, probes, silent_probes
from tegakari.store.disk.garbage import find_garbage
from tegakari.store.disk.layout import additions_directory, context_file
from tegakari.store.disk.publish import damaged_files, delete_run
from tegakari.store.effects import layer_effects
from tests.support.plain_contexts import plain_contexts, plain_probe_bits, plain_probes
from tests.support.small_case import SmallCase, with_index


def contexts_of(run: Run, layer: int) -> list[np.ndarray]:
    """Feature and all columns of a layer's contexts."""
    parts = [part for _, part in layer_contexts(run, layer)]
    columns = zip(*((part.feature, *part.contexts) for part in parts), strict=True)
    return [np.concatenate(column) for column in columns]


@pytest.fixture(scope="module")
def run(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("store")
    index(with_index(small_case, store))
    return Store(store).run("small")


def dense_activations(case: SmallCase):
    """Documents, and by layer the activations of each document, encoded alone."""
    classifier, saes = load_models(case.config)
    documents, _ = _documents(case.config, classifier, read_manifest(Path(case.config.corpus.path)))
    encoders = {layer: sae.encoder(classifier.dtype) for layer, sae in saes.items()}
    activations: dict[int, list[np.ndarray]] = {layer: [] for layer in saes}

    def on_residual(layer: int, residual: torch.Tensor) -> None:
        offsets = torch.tensor([0, len(residual)])
        rows = encode(residual, encoders[layer], offsets, rows="all").rows
        assert rows is not None
        values = np.zeros((len(residual), encoders[layer].weight.shape[1]), np.float32)
        for position in range(len(residual)):
            entries = slice(rows.indptr[position], rows.indptr[position + 1])
            values[position, rows.feature[entries]] = rows.activation[entries]
        activations[layer].append(values)

    for document in documents:
        classifier.run(classifier.batch([document.tokens]), on_residual, layers=list(saes))
    return documents, activations


def test_contexts_are_those_of_the_definition(small_case: SmallCase, run: Run):
    documents, activations = dense_activations(small_case)
    expected_probes = plain_probes(documents)
    assert all(map(np.array_equal, probes(run), expected_probes))
    for layer, values in activations.items():
        expected = plain_contexts(documents, values, layer, run.manifest.top_tokens)
        feature, *columns = contexts_of(run, layer)
        for name, column, reference in zip(FeatureContexts._fields, columns, expected.contexts, strict=True):
            np.testing.assert_allclose(column, reference, rtol=2**-10, err_msg=f"{layer} {name}")
        np.testing.assert_array_equal(feature, expected.feature)
        active = plain_probe_bits(values, expected_probes)
        for number, of_probes in enumerate(active):
            np.testing.assert_array_equal(silent_probes(run, layer, number), ~of_probes)


def test_label_effects_are_those_of_the_models(run: Run):
    models = load_run_models(run, "cpu")
    texts = [row["text"] for row in run.rows("SELECT text FROM documents ORDER BY document")]
    documents = models.classifier.tokenize(texts)
    assert len(documents) <= SAMPLE_DOCUMENTS
    gradients = label_gradients(models.classifier, models.saes, documents, 1000)
    for layer, sae in models.saes.items():
        expected = label_effects(gradients[layer], sae).T.numpy()
        np.testing.assert_allclose(layer_effects(run, layer), expected, rtol=2**-9, atol=1e-6)


def test_several_processes_and_a_resumed_index_give_the_same_files(small_case: SmallCase, run: Run, tmp_path: Path):
    config = with_index(small_case, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        index(config, _Interrupted())
    assert index(config, executor=Processes(2)).manifest.files
    directories = ("contexts/", "activations/", "hot/")
    sizes = {file.path: file.sha256 for file in run.manifest.files if file.path.startswith(directories)}
    other = Store(tmp_path).run("small").manifest
    assert sizes == {file.path: file.sha256 for file in other.files if file.path.startswith(directories)}
    assert sum(path.startswith("contexts/") for path in sizes) == 1 + 2 * len(run.manifest.saes.layers)


def test_contexts_added_later_are_the_same(
    small_case: SmallCase, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = with_index(small_case, tmp_path)
    index(config, run_format=3)
    old = Store(tmp_path).run("small")
    assert old.manifest.format == 3
    with pytest.raises(NotFoundError, match="has no contexts"):
        probes(old)
    with pytest.raises(NotFoundError, match="no label effects"):
        layer_effects(old, 0)
    models = load_run_models(old, "cpu")
    arguments = old, models.classifier, models.saes
    batch_tokens = config.index.batch_tokens
    monkeypatch.setattr("tegakari.indexer.add_contexts.shard_documents", lambda *_: 5)
    with pytest.raises(KeyboardInterrupt):
        add_contexts(*arguments, _Interrupted(), batch_tokens=batch_tokens)
    assert not additions_directory(tmp_path, old.manifest).exists()
    add_contexts(*arguments, batch_tokens=batch_tokens)
    for layer in run.manifest.saes.layers:
        for column, reference in zip(contexts_of(old, layer), contexts_of(run, layer), strict=True):
            np.testing.assert_array_equal(column, reference)
        np.testing.assert_array_equal(silent_probes(old, layer, 3), silent_probes(run, layer, 3))
        np.testing.assert_allclose(layer_effects(old, layer), layer_effects(run, layer), rtol=2**-9, atol=1e-6)
    with pytest.raises(RunExistsError, match="has contexts"):
        add_contexts(*arguments)
    assert damaged_files(tmp_path, "small") == []
    assert find_garbage(tmp_path) == []
    file = context_file(additions_directory(tmp_path, old.manifest), 0)
    file.write_bytes(file.read_bytes()[:-1])
    assert damaged_files(tmp_path, "small") == [
        "additions: contexts/layer=00/part-0.parquet: content differs from its checksum"
    ]
    delete_run(tmp_path, "small")
    assert [garbage.reason for garbage in find_garbage(tmp_path)] == ["additions to a deleted run"]


class _Interrupted(NoProgress):
    """Interrupts the index after a few shards."""

    def advance(self, steps: int = 1) -> None:
        self.done = getattr(self, "done", 0) + steps
        if self.done > 20:
            raise KeyboardInterrupt
