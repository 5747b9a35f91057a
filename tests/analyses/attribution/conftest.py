"""The small case with a head that reads the labels, and SAEs whose first features are the labels' clues."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.indexer.pipeline import index
from tegakari.store import Run, Store
from tests.support.small_case import D_SAE, LABELS, SmallCase, write_sae


@pytest.fixture(scope="session")
def clue_run(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("clues")
    source = Path(small_case.config.classifier.path)
    model = AutoModelForSequenceClassification.from_pretrained(source, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(source)
    texts = [document[3] for document in small_case.documents]
    labels = sorted(LABELS)
    final, residuals, clues = [], [], []
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt", return_offsets_mapping=True, truncation=True, max_length=24)
        spans = tokens.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            hidden = model(**tokens, output_hidden_states=True).hidden_states
        final.append(hidden[-1][0, -1].double().numpy())
        residuals.append(hidden[1][0, 1:].double().numpy())
        clues.append([_clue_of(text, start) for start, _ in spans[1:]])
    label = np.array([labels.index(document[1]) for document in small_case.documents])
    head = LogisticRegression(C=1e4, max_iter=5000, fit_intercept=False).fit(np.array(final), label)
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(head.coef_))
    model.save_pretrained(root / "classifier")
    tokenizer.save_pretrained(root / "classifier")
    sae = _sae(np.concatenate(residuals), np.array([clue for of_text in clues for clue in of_text]))
    write_sae(root / "saes" / "layer_00", 0, sae)
    config = msgspec.structs.replace(
        small_case.config,
        classifier=msgspec.structs.replace(small_case.config.classifier, path=str(root / "classifier")),
        saes=msgspec.structs.replace(small_case.config.saes, path=str(root / "saes")),
        index=msgspec.structs.replace(small_case.config.index, store=str(root / "store"), run="clues"),
    )
    index(config)
    return Store(root / "store").run("clues")


@pytest.fixture(scope="session")
def clue_models(clue_run: Run) -> RunModels:
    return load_run_models(clue_run, "cpu")


def _clue_of(text: str, character: int) -> int:
    """Class of the clue that covers a character of a text; -1: none."""
    for number, label in enumerate(sorted(LABELS)):
        start = text.find(LABELS[label])
        if start <= character < start + len(LABELS[label]) and start >= 0:
            return number
    return -1


def _sae(residual: np.ndarray, clue: np.ndarray) -> dict[str, np.ndarray]:
    """Feature c is active on the clue of class c, and decodes to what sets its positions apart; the others are weak."""
    generator = np.random.default_rng(0)
    d_model = residual.shape[1]
    encoder, decoder = generator.normal(size=(2, D_SAE, d_model)) / np.sqrt(d_model)
    bias = generator.normal(-0.2, 0.3, D_SAE)
    decoder *= 0.001
    for number in range(len(LABELS)):
        probe = LogisticRegression(C=1e3, max_iter=5000).fit(residual, clue == number)
        encoder[number], bias[number] = probe.coef_[0], probe.intercept_[0]
        active = np.maximum(residual @ encoder[number] + bias[number], 0)[clue == number]
        rest = residual[clue < 0].mean(0)
        decoder[number] = (residual[clue == number].mean(0) - rest) / active.mean()
    return {"W_enc": encoder.T, "W_dec": decoder, "b_enc": bias, "b_dec": np.zeros(d_model)}
