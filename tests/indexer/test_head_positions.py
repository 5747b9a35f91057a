"""Indexes of classifiers whose head reads another position than the last word, against transformers and numpy."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.analyses.inference import encode_request
from tegakari.analyses.knockout import compute_knockouts, resolve
from tegakari.analyses.knockout.forward import FeatureAblation, run_feature_ablations
from tegakari.indexer.pipeline import index
from tegakari.models.sae_formats import save_sae
from tegakari.schemas.errors import QueryError
from tegakari.schemas.inference import EncodeRequest
from tegakari.schemas.knockout import KnockoutSettings, LayerFeature
from tegakari.schemas.progress import NoProgress
from tegakari.store import Run, Store
from tests.support.classifier_families import D_SAE, make_classifier, make_sae
from tests.support.small_case import LABELS, SmallCase, with_index


class Document(NamedTuple):
    label: str
    activations: list[np.ndarray]
    """by layer, float64 [T, d_sae], of all tokens"""
    special: np.ndarray


class Case(NamedTuple):
    family: str
    run: Run
    documents: list[Document]
    text: str


@pytest.fixture(scope="module", params=["bert", "modernbert-mean", "gemma2-eos"])
def case(
    request: pytest.FixtureRequest,
    small_case: SmallCase,
    tiny_tokenizer: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    root = tmp_path_factory.mktemp(request.param)
    classifier = root / "classifier"
    made = make_classifier(request.param, classifier, tiny_tokenizer)
    made.tokenizer.save_pretrained(classifier)
    config_file = classifier / "config.json"
    names = dict(enumerate(sorted(LABELS)))
    config = {**json.loads(config_file.read_text()), "id2label": names, "label2id": {v: k for k, v in names.items()}}
    config_file.write_text(json.dumps(config))
    for layer in range(3):
        save_sae(root / "saes" / f"layer_{layer:02d}", make_sae("relu", layer))
    config = msgspec.structs.replace(
        with_index(small_case, root / "store"),
        classifier=msgspec.structs.replace(small_case.config.classifier, path=str(classifier)),
        saes=msgspec.structs.replace(small_case.config.saes, path=str(root / "saes")),
    )
    index(config)
    texts = [(label, text) for _, label, split, text in small_case.documents if split == "eval"]
    documents = [document(classifier, root / "saes", label, text) for label, text in texts]
    return Case(request.param, Store(root / "store").run("small"), documents, texts[0][1])


def document(classifier: Path, saes: Path, label: str, text: str) -> Document:
    """Activations of one document alone, by the formula of a ReLU SAE."""
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    encoded = tokenizer(text, truncation=True, max_length=24, return_special_tokens_mask=True)
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 3)
    outputs: list[torch.Tensor] = []
    for block in blocks:
        block.register_forward_hook(lambda m, i, o: outputs.append(o if isinstance(o, torch.Tensor) else o[0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([encoded["input_ids"]]))
    activations = []
    for layer, output in zip(count(), outputs):
        w = {
            name: value.astype(np.float64)
            for name, value in load_file(saes / f"layer_{layer:02d}" / "sae_weights.safetensors").items()
        }
        h = output[0].double().numpy()
        activations.append(np.maximum((h - w["b_dec"]) @ w["W_enc"] + w["b_enc"], 0))
    return Document(label, activations, np.array(encoded["special_tokens_mask"], bool))


def pooled(case: Case, document: Document, layer: int, pooling: str) -> np.ndarray:
    a, special = document.activations[layer], document.special
    if case.family == "modernbert-mean":
        a = a[~special]
        return {"head": a.mean(0), "max": a.max(0), "mean": a.mean(0)}[pooling]
    head = 0 if case.family == "bert" else len(a) - 1
    countable = a[~special | (np.arange(len(a)) == head)]
    return {"head": a[head], "max": countable.max(0), "mean": countable.mean(0)}[pooling]


def test_pooled_activations(case: Case):
    heads = {"bert": "first", "modernbert-mean": "all", "gemma2-eos": "last"}
    assert case.run.manifest.classifier.head == heads[case.family]
    labels = np.array([document.label for document in case.documents])
    for layer in range(3):
        rows = case.run.rows(
            "SELECT label, feature, mean_head, mean_max, mean_mean, sd_head FROM feature_labels JOIN labels "
            "USING (label_id) WHERE layer = $layer",
            {"layer": layer},
        )
        assert len(rows) > D_SAE
        for pooling in ("head", "max", "mean"):
            values = np.array([pooled(case, document, layer, pooling) for document in case.documents])
            for row in rows:
                expected = values[labels == row["label"], row["feature"]]
                assert row[f"mean_{pooling}"] == pytest.approx(expected.mean(), rel=1e-3, abs=1e-4)


def test_top_tokens_include_the_position_of_the_head(case: Case):
    rows = case.run.rows("SELECT position, token, token_id FROM top_tokens WHERE layer = 2")
    special = {row["token"] for row in rows if row["token_id"] in (1, 2)}
    assert special == {"bert": {"<bos>"}, "modernbert-mean": set(), "gemma2-eos": {"<eos>"}}[case.family]


def test_a_text_has_features_at_the_position_of_the_head(case: Case):
    models = load_run_models(case.run, "cpu")
    (text,) = encode_request(models, case.run, EncodeRequest(texts=[case.text], layers=[2], pooling="none", top=D_SAE))
    oracle = case.documents[0].activations[2]
    for token in text.tokens:
        active = {feature.feature: feature.activation for feature in token.features}
        head = {"bert": 0, "gemma2-eos": len(text.tokens) - 1}.get(case.family)
        if token.special and token.position != head:
            assert not active
            continue
        expected = {int(f): oracle[token.position, f] for f in np.flatnonzero(oracle[token.position] > 1e-4)}
        assert {f: a for f, a in active.items() if a > 1e-4} == pytest.approx(expected, rel=1e-3)


def test_a_knockout_of_the_last_layer_changes_logits(case: Case):
    models = load_run_models(case.run, "cpu")
    for positions in ("head", "all"):
        settings = KnockoutSettings(
            label=sorted(LABELS)[0], layer=2, k=20, positions=positions, details="logits", draws=0
        )
        (result,) = compute_knockouts(
            case.run.directory.parents[1], case.run, lambda: models, [resolve(case.run, settings)]
        )
        assert result.outcomes is not None
        for outcome in result.outcomes:
            assert outcome.logits_before != outcome.logits_after


def test_a_knockout_that_cannot_reach_the_head_is_refused(case: Case):
    """As if the head's position were a norm outlier in all documents."""
    models = load_run_models(case.run, "cpu")
    limited = replace(models, saes={layer: replace(sae, max_norm=1e-6) for layer, sae in models.saes.items()})
    features = (LayerFeature(2, 1), LayerFeature(2, 5))
    ablation = FeatureAblation(features, "error_preserving", "all", (2,))
    if case.family == "modernbert-mean":
        return
    with pytest.raises(QueryError, match="the head reads a norm outlier of layer 2") as caught:
        run_feature_ablations(limited, [case.text, "車"], [ablation], NoProgress())
    assert caught.value.field == "layer"
    run_feature_ablations(models, [case.text, "車"], [ablation], NoProgress())
