"""A classifier with norm outliers: training, index and re-runs leave them out, against plain transformers and numpy.

One token of the corpus has an embedding of 5,000 times its length, which every layer's residual keeps.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from structlog.testing import capture_logs
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.analyses.inference import encode_request
from tegakari.analyses.variants.forward import strongest_features
from tegakari.indexer.executors import Processes
from tegakari.indexer.pipeline import index
from tegakari.indexer.training.saes import train_saes
from tegakari.models.explained_variance import explained_variance
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.edits import Edit
from tegakari.models.rerun.prefix import run_prefix
from tegakari.models.sae_formats import load_saes
from tegakari.schemas.config import Config
from tegakari.schemas.inference import EncodeRequest
from tegakari.schemas.progress import NoProgress
from tegakari.store import Run, Store
from tests.support.small_case import NEUTRAL_WORDS, SmallCase, with_index

MASSIVE = 5000
WORD = NEUTRAL_WORDS[7]
"""Its last token has the long embedding; some documents end with it."""
D_SAE = 48


class Case(NamedTuple):
    config: Config
    documents: list[tuple[str, str, str, str]]
    token: int
    """the token of the long embedding"""


class Document(NamedTuple):
    """A document of the oracle; special tokens left out."""

    residuals: list[np.ndarray]
    """by layer, float64 [T, d_model]"""
    outlier: np.ndarray
    """bool [T]"""


def with_massive_token(case: SmallCase, root: Path) -> Case:
    """The small case with another classifier, in its own directories."""
    path = root / "classifier"
    shutil.copytree(case.config.classifier.path, path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    token = tokenizer(WORD, add_special_tokens=False)["input_ids"][-1]
    weights = load_file(path / "model.safetensors")
    weights["model.embed_tokens.weight"][token] *= MASSIVE
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    config = msgspec.structs.replace(
        with_index(case, root / "store"),
        classifier=msgspec.structs.replace(case.config.classifier, path=str(path)),
        saes=msgspec.structs.replace(
            case.config.saes, path=str(root / "saes"), d_sae=D_SAE, l1_coefficient=0.03, epochs=6, batch_size=32,
            learning_rate=1e-2,
        ),
    )  # fmt: skip
    return Case(config, case.documents, token)


def oracle(case: Case, split: str) -> list[Document]:
    """Residuals of every document alone."""
    path = case.config.classifier.path
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, attn_implementation="eager").eval()
    documents = []
    for _, _, document_split, text in case.documents:
        if document_split != split:
            continue
        ids = tokenizer(text, truncation=True, max_length=24)["input_ids"]
        with torch.no_grad():
            outputs: list[torch.Tensor] = []
            handles = [
                block.register_forward_hook(lambda m, i, o, outputs=outputs: outputs.append(o))
                for block in model.model.layers
            ]
            model(input_ids=torch.tensor([ids]))
            for handle in handles:
                handle.remove()
        residuals = [(o if isinstance(o, torch.Tensor) else o[0])[0, 1:].double().numpy() for o in outputs]
        documents.append(Document(residuals, np.array(ids[1:]) == case.token))
    return documents


def dense(h: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    return np.maximum((h - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0)


def sae_weights(case: Case, layer: int) -> dict[str, np.ndarray]:
    return load_file(Path(case.config.saes.path) / f"layer_{layer:02d}" / "sae_weights.safetensors")


@pytest.fixture(scope="module")
def case(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = with_massive_token(small_case, tmp_path_factory.mktemp("massive"))
    with capture_logs() as logs:
        train_saes(case.config)
    reasons = [entry["reason"] for entry in logs if entry["event"] == "doubtful SAE"]
    assert len(reasons) == 3, "one per layer: the outliers hold most of its variance"
    assert all("norm outliers, hold 100% of the variance" in reason for reason in reasons)
    return case


@pytest.fixture(scope="module")
def run(case: Case) -> Run:
    index(case.config)
    return Store(Path(case.config.index.store)).run("small")


def test_training_leaves_them_out_and_reports_both_explained_variances(case: Case):
    report = train_saes(case.config)  # finished: reads the report
    documents = oracle(case, "eval")
    for layer in report.layers:
        h = np.concatenate([document.residuals[layer.layer] for document in documents])
        outlier = np.concatenate([document.outlier for document in documents])
        norms = np.linalg.norm(h, axis=1)
        assert layer.max_norm is not None
        assert norms[~outlier].max() < layer.max_norm < norms[outlier].min()
        assert layer.outlier_positions == outlier.sum() > 0
        weights = sae_weights(case, layer.layer)
        h_hat = dense(h, weights) @ weights["W_dec"].astype(np.float64) + weights["b_dec"]
        error = ((h - h_hat) ** 2).sum(1)

        def variance(rows: np.ndarray, h: np.ndarray = h) -> float:
            return float(((h[rows] - h[rows].mean(0)) ** 2).sum())

        everything = np.ones_like(outlier)
        assert layer.explained_variance == pytest.approx(1 - error[~outlier].sum() / variance(~outlier), abs=1e-4)
        assert layer.explained_variance is not None
        assert layer.explained_variance > 0.5, "the SAE has learned the ordinary residuals"
        assert layer.explained_variance_all == pytest.approx(1 - error.sum() / variance(everything), abs=1e-4)
        assert layer.outlier_variance == pytest.approx(1 - variance(~outlier) / variance(everything), abs=1e-6)
        assert layer.l0 == pytest.approx((dense(h, weights)[~outlier] > 0).sum(1).mean(), rel=1e-2)
        assert load_saes(Path(case.config.saes.path))[layer.layer].max_norm == layer.max_norm


def test_statistics_of_the_index(case: Case, run: Run):
    documents = oracle(case, "eval")
    outlier = np.concatenate([document.outlier for document in documents])
    heads = [document.outlier[-1] for document in documents]
    assert {bool(head) for head in heads} == {False, True}, "one kind alone would prove half of it"
    for row in run.rows("SELECT * FROM layers ORDER BY layer"):
        layer = row["layer"]
        activations = [dense(document.residuals[layer], sae_weights(case, layer)) for document in documents]
        everything = np.concatenate(activations)
        assert (row["positions"], row["outlier_positions"]) == (len(outlier), outlier.sum())
        assert row["l0"] == pytest.approx((everything[~outlier] > 0).sum(1).mean(), rel=1e-2)
        assert row["explained_variance"] > 0.5
        assert row["outlier_variance"] > 0.99
        features = run.rows("SELECT * FROM features WHERE layer = $layer ORDER BY feature", {"layer": layer})
        near_zero = ((everything > 0) & (everything < 1e-4)).any(0)
        for feature in features:
            values = everything[~outlier, feature["feature"]]
            assert feature["max_activation"] == pytest.approx(values.max(), rel=1e-3, abs=1e-4)
            if not near_zero[feature["feature"]]:
                assert feature["density"] == pytest.approx((values > 0).mean())
        pooled = {
            "head": [a[-1] * (not document.outlier[-1]) for a, document in zip(activations, documents, strict=True)],
            "max": [a[~document.outlier].max(0) for a, document in zip(activations, documents, strict=True)],
            "mean": [a[~document.outlier].mean(0) for a, document in zip(activations, documents, strict=True)],
        }
        statistics = run.rows(
            "SELECT label, feature, mean_head, mean_max, mean_mean FROM feature_labels JOIN labels USING (label_id) "
            "WHERE layer = $layer",
            {"layer": layer},
        )
        labels = np.array([label for _, label, split, _ in case.documents if split == "eval"])
        assert statistics
        for statistic in statistics:
            for pooling, values in pooled.items():
                expected = np.array(values)[labels == statistic["label"], statistic["feature"]].mean()
                assert statistic[f"mean_{pooling}"] == pytest.approx(expected, rel=1e-3, abs=1e-4)
        top = run.rows(
            "SELECT token_ids[position + 1] AS token FROM top_tokens JOIN documents USING (document) "
            "WHERE layer = $layer",
            {"layer": layer},
        )
        assert case.token not in {row["token"] for row in top}


def test_analyses_use_the_limits_of_the_run(case: Case, run: Run):
    models = load_run_models(run, "cpu")
    for layer, sae in models.saes.items():
        assert sae.max_norm == run.manifest.saes.max_norms[layer]
    text = NEUTRAL_WORDS[1] + WORD + NEUTRAL_WORDS[2]
    (encoded,) = encode_request(models, run, EncodeRequest(texts=[text], layers=[1], pooling="none", top=48))
    active = {token.token_id == case.token: bool(token.features) for token in encoded.tokens if not token.special}
    assert active == {True: False, False: True}
    # Alone, the token is a document without an ordinary position.
    alone = str(models.classifier.tokenizer.decode([case.token]))
    assert strongest_features(models, [alone, text], 3, NoProgress())[:, 0].max() == -1
    classifier = models.classifier
    batch = classifier.batch(classifier.tokenize([text, alone]))
    prefix = run_prefix(classifier, batch, [1])
    for mode in ("error_preserving", "reconstruction"):
        edit = Edit(1, tuple(range(D_SAE)), mode)
        (logits,) = rerun(classifier, models.saes, prefix, [[edit]])
        without = {1: replace(models.saes[1], max_norm=None)}
        (edited_too,) = rerun(classifier, without, prefix, [[edit]])
        assert torch.equal(logits[1], prefix.logits[1]), "an outlier is not edited"
        assert not torch.equal(logits[0], prefix.logits[0])
        assert not torch.equal(edited_too[0], logits[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_saes_without_a_limit_get_one_from_the_documents(
    small_case: SmallCase, case: Case, tmp_path: Path, workers: int
):
    """SAEs of another tool: no limit in their files."""
    config = msgspec.structs.replace(
        case.config,
        saes=msgspec.structs.replace(case.config.saes, path=small_case.config.saes.path),
        index=msgspec.structs.replace(case.config.index, store=str(tmp_path)),
    )
    assert {sae.max_norm for sae in load_saes(Path(config.saes.path)).values()} == {None}
    manifest = index(config, executor=Processes(workers)).manifest
    rows = Store(tmp_path).run("small").rows("SELECT max_norm, outlier_positions FROM layers ORDER BY layer")
    assert [row["max_norm"] for row in rows] == manifest.saes.max_norms
    outliers = sum(int(document.outlier.sum()) for document in oracle(case, "eval"))
    assert [row["outlier_positions"] for row in rows] == [outliers] * 3


def test_without_outliers_no_layer_has_a_limit(small_case: SmallCase, tmp_path: Path):
    manifest = index(with_index(small_case, tmp_path)).manifest
    assert manifest.saes.max_norms == [None, None, None]


def test_an_sae_that_saw_outliers_is_doubted_when_worse_than_the_mean(case: Case, run: Run):
    """Weights that reconstruct the outliers alone: explained variance is 1 with them and negative without."""
    models = load_run_models(run, "cpu")
    sae = models.saes[1]
    constant = replace(sae, W_enc=torch.zeros_like(sae.W_enc), b_enc=sae.b_enc - 1e6, b_dec=sae.b_dec + 100)
    texts = [text for _, _, split, text in case.documents if split == "eval"]
    quality = explained_variance(models.classifier, {1: constant}, texts, batch_tokens=200)[1]
    assert quality.explained_variance is not None
    assert quality.explained_variance < 0
