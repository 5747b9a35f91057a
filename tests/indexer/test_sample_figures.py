"""Figures of samples: one pass for both samples gives what a pass for each gives."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.index_models import load_models
from tegakari.indexer.pipeline import _documents
from tegakari.indexer.sample_figures import sample_figures
from tegakari.models.explained_variance import explained_variance
from tegakari.models.label_effects import label_gradients
from tegakari.schemas.progress import NoProgress
from tests.support.small_case import SmallCase

TOKENS = 100


@pytest.mark.parametrize("measured", [256, 5], ids=["the same documents", "other documents"])
def test_one_pass_gives_the_figures_of_two(small_case: SmallCase, tmp_path: Path, measured: int):
    settings = msgspec.structs.replace(
        small_case.config.index, batch_tokens=TOKENS, explained_variance_documents=measured
    )
    config = msgspec.structs.replace(small_case.config, index=settings)
    classifier, saes = load_models(config)
    documents, _ = _documents(config, classifier, read_manifest(Path(config.corpus.path)))
    passed: list[int] = []
    handle = classifier.blocks[0].register_forward_pre_hook(lambda _block, _inputs: passed.append(1))
    files = tmp_path / "quality", tmp_path / "gradients"
    arguments = config, classifier, saes, documents, files, NoProgress()
    figures = sample_figures(*arguments, effects=True)
    again = sample_figures(*arguments, effects=True)  # from the files
    handle.remove()

    texts = [document.text for document in read_documents(Path(config.corpus.path), "eval")]
    sample = texts if measured > len(texts) else [texts[place * len(texts) // measured] for place in range(measured)]
    assert figures.quality == explained_variance(classifier, saes, sample, batch_tokens=TOKENS)
    tokens = [document.tokens for document in documents]
    expected = label_gradients(classifier, saes, tokens, TOKENS)
    assert figures.gradients.keys() == expected.keys()
    for layer, gradients in expected.items():
        torch.testing.assert_close(figures.gradients[layer], gradients, rtol=0, atol=0)
        torch.testing.assert_close(again.gradients[layer], gradients, rtol=0, atol=0)
    assert again.quality == figures.quality
    one_pass = 1 + sum(1 for _ in classifier.batches(tokens, TOKENS))  # and one over a few tokens, for `direct_layers`
    assert (len(passed) == one_pass) == (measured >= len(texts))
    assert sample_figures(*arguments, effects=False).gradients == {}
