"""Patches and ablations at the last position, against whole passes with a hook that changes that position alone."""

from __future__ import annotations

import pytest
import torch

from tegakari.models.classifier import Classifier
from tegakari.models.rerun.components import run_components
from tegakari.models.rerun.patching import Ablation, run_ablations, run_patches
from tegakari.schemas.errors import ModelError
from tests.support.hooked_passes import hooked_pass

TEXTS = ["今日は会議です。\nよろしくお願いします", "車です", "MTG の 打ち合わせ です", "質問があります"]


def decoder(classifier: Classifier) -> Classifier:
    if classifier.head != "last":
        pytest.skip("an encoder: see test_an_encoder_is_refused")
    return classifier


def test_components_are_what_a_block_adds(classifier: Classifier):
    decoder(classifier)
    batch = classifier.batch(classifier.tokenize(TEXTS))
    result = run_components(classifier, batch, keys=False)
    assert result.added.shape == (len(TEXTS), classifier.layers, 2, classifier.d_model)
    assert not result.prefix.keys
    for row, text in enumerate(TEXTS):
        logits, outputs = hooked_pass(classifier, text, lambda *_: None)
        torch.testing.assert_close(result.prefix.logits[row], logits, atol=1e-4, rtol=1e-4)
        for (layer, number), value in outputs.items():
            torch.testing.assert_close(result.added[row, layer, number], value, atol=1e-4, rtol=1e-4)


def test_patches_equal_whole_passes(classifier: Classifier):
    decoder(classifier)
    pairs = [(0, 1), (0, 2), (3, 2), (1, 0), (2, 1)]  # clean, corrupted
    batch = classifier.batch(classifier.tokenize(TEXTS))
    documents = run_components(classifier, batch, keys=True)
    owner = torch.tensor([corrupted for _, corrupted in pairs])
    clean = documents.added[[clean for clean, _ in pairs]]
    patched = run_patches(classifier, documents, owner, clean)
    assert patched.shape == (len(pairs), classifier.layers, 2, len(classifier.labels))
    largest = 0.0
    for row, (clean_document, corrupted) in enumerate(pairs):
        _, outputs = hooked_pass(classifier, TEXTS[clean_document], lambda *_: None)
        plain, _ = hooked_pass(classifier, TEXTS[corrupted], lambda *_: None)
        for layer in range(classifier.layers):
            for number in range(2):
                component = (layer, number)
                logits, _ = hooked_pass(
                    classifier,
                    TEXTS[corrupted],
                    lambda *place, component=component, outputs=outputs: (
                        outputs[component] if place[:2] == component else None
                    ),
                )
                torch.testing.assert_close(patched[row, layer, number], logits, atol=1e-4, rtol=1e-4)
                largest = max(largest, float((logits - plain).abs().max()))
    assert largest > 0.1  # the patches change the logits


def test_ablations_equal_whole_passes(classifier: Classifier):
    decoder(classifier)
    generator = torch.Generator().manual_seed(0)
    shape = (classifier.layers, 2)
    ablations = [
        Ablation(torch.zeros(shape, dtype=torch.bool), torch.zeros(*shape, classifier.d_model)),
        Ablation(torch.ones(shape, dtype=torch.bool), torch.randn(*shape, classifier.d_model, generator=generator)),
        Ablation(torch.rand(shape, generator=generator) < 0.5, torch.zeros(*shape, classifier.d_model)),
    ]
    batch = classifier.batch(classifier.tokenize(TEXTS))
    documents = run_components(classifier, batch, keys=True)
    ablated = run_ablations(classifier, documents, ablations)
    torch.testing.assert_close(ablated[0], documents.prefix.logits, atol=1e-4, rtol=1e-4)
    for number, ablation in enumerate(ablations):
        for row, text in enumerate(TEXTS):
            logits, _ = hooked_pass(
                classifier,
                text,
                lambda layer, component, _, ablation=ablation: (
                    ablation.values[layer, component] if ablation.ablated[layer, component] else None
                ),
            )
            torch.testing.assert_close(ablated[number, row], logits, atol=1e-4, rtol=1e-4)


def test_an_encoder_is_refused(classifier: Classifier):
    if classifier.head == "last":
        pytest.skip("a decoder")
    with pytest.raises(ModelError, match=r"reads (the first position|several positions)"):
        run_components(classifier, classifier.batch(classifier.tokenize(TEXTS)), keys=True)
