"""A clue planted in classifier and SAE: its knockout is beyond its control, that of other features is not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.analyses.knockout import sweeps
from tegakari.analyses.knockout.mean import knockout_mean
from tegakari.indexer.pipeline import index
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.store import Run, Store
from tests.support.small_case import D_SAE, LABELS, SmallCase, write_sae

PLANTED_LAYER = 1


@pytest.fixture(scope="module")
def planted_run(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The small case with a head that reads the labels, and an SAE whose first features carry one label each."""
    root = tmp_path_factory.mktemp("planted")
    source = Path(small_case.config.classifier.path)
    model = AutoModelForSequenceClassification.from_pretrained(source, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(source)
    label = np.array([sorted(LABELS).index(document[1]) for document in small_case.documents])
    final, residual = _last_positions(model, tokenizer, [document[3] for document in small_case.documents])
    head = LogisticRegression(C=1e4, max_iter=5000, fit_intercept=False).fit(final, label)
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(head.coef_))
    model.save_pretrained(root / "classifier")
    tokenizer.save_pretrained(root / "classifier")
    for layer in range(model.config.num_hidden_layers):
        write_sae(root / "saes" / f"layer_{layer:02d}", layer, _sae(residual, label, planted=layer == PLANTED_LAYER))
    config = msgspec.structs.replace(
        small_case.config,
        classifier=msgspec.structs.replace(small_case.config.classifier, path=str(root / "classifier")),
        saes=msgspec.structs.replace(small_case.config.saes, path=str(root / "saes")),
        index=msgspec.structs.replace(small_case.config.index, store=str(root / "store"), run="planted"),
    )
    index(config)
    return Store(root / "store").run("planted")


def _last_positions(model: torch.nn.Module, tokenizer: object, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """What the head reads, and the residual of the planted layer, of each text: float64 [texts, d_model]."""
    final, residual = [], []
    for text in texts:
        with torch.no_grad():
            outputs = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)  # type: ignore[operator]
        final.append(outputs.hidden_states[-1][0, -1].double().numpy())
        residual.append(outputs.hidden_states[PLANTED_LAYER + 1][0, -1].double().numpy())
    return np.array(final), np.array(residual)


def _sae(residual: np.ndarray, label: np.ndarray, *, planted: bool) -> dict[str, np.ndarray]:
    """Random weak features; where planted, feature c is active on label c and decodes to what sets it apart."""
    generator = np.random.default_rng(0)
    d_model = residual.shape[1]
    encoder, decoder = generator.normal(size=(2, D_SAE, d_model)) / np.sqrt(d_model)
    bias = generator.normal(-0.5, 0.3, D_SAE)
    decoder *= 0.01
    if planted:
        for number in range(len(LABELS)):
            rest = residual[label != number].mean(0)
            difference = residual[label == number].mean(0) - rest
            encoder[number] = 2 * difference / (difference @ difference)
            bias[number] = -encoder[number] @ rest - 0.6
            decoder[number] = 3 * difference
    return {"W_enc": encoder.T, "W_dec": decoder, "b_enc": bias, "b_dec": np.zeros(d_model)}


def test_a_planted_clue_is_found_in_its_layer_and_beyond_its_control(planted_run: Run):
    models = load_run_models(planted_run, "cpu")
    settings = KnockoutSettings(k=1, draws=5, holdout=True)
    knockouts = sweeps.over_labels(planted_run.store, planted_run, lambda: models, planted_run.labels, settings)
    assert knockouts.choice
    assert knockouts.choice.layer == PLANTED_LAYER
    assert [row.features[0].feature for row in knockouts.results] == list(range(len(LABELS)))
    assert all(row.beyond_control for row in knockouts.results)
    mean = knockout_mean(knockouts.results)
    assert mean.shown
    elsewhere = msgspec.structs.replace(settings, layer=0)
    others = sweeps.over_labels(planted_run.store, planted_run, lambda: models, planted_run.labels, elsewhere)
    assert not any(row.beyond_control for row in others.results)
    assert not knockout_mean(others.results).shown
