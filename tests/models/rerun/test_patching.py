"""Patches and ablations at the last position, against whole runs in which a hook changes that position alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tegakari.models.classifier import Classifier
from tegakari.models.rerun.components import run_components
from tegakari.models.rerun.patching import Ablation, run_ablations, run_patches
from tegakari.schemas.errors import ModelError
from tests.models.rerun.test_edits import classifier  # noqa: F401 - a fixture

TEXTS = ["今日は会議です。\nよろしくお願いします", "車です", "MTG の 打ち合わせ です", "質問があります"]

Change = Callable[[int, int, torch.Tensor], torch.Tensor | None]


def parts(classifier: Classifier, layer: int) -> tuple[torch.nn.Module, torch.nn.Module]:  # noqa: F811
    block = classifier.blocks[layer]
    if classifier.model.config.model_type == "gemma2":
        return block.post_attention_layernorm, block.post_feedforward_layernorm
    return block.self_attn, block.mlp


def whole_run(classifier: Classifier, text: str, change: Change) -> tuple[torch.Tensor, dict]:  # noqa: F811
    """One unpadded document: its logits, and what each component gave at the last position."""
    (document,) = classifier.tokenize([text])
    last = document.positions[-1]
    given, handles = {}, []
    for layer in range(classifier.layers):
        for number, module in enumerate(parts(classifier, layer)):

            def hook(_module, _inputs, output, layer=layer, number=number):
                value = output if isinstance(output, torch.Tensor) else output[0]
                given[layer, number] = value[0, last].clone()
                new = change(layer, number, value[0, last])
                if new is None:
                    return None
                value = value.clone()
                value[0, last] = new
                return value if isinstance(output, torch.Tensor) else (value, *output[1:])

            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        logits = classifier.model(torch.tensor([document.input_ids]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return logits, given


def decoder(classifier: Classifier) -> Classifier:  # noqa: F811
    if classifier.model.config.model_type == "bert":
        pytest.skip("an encoder: see the last test")
    return classifier


def test_a_block_adds_its_components(classifier: Classifier):  # noqa: F811
    decoder(classifier)
    batch = classifier.batch(classifier.tokenize(TEXTS))
    found = run_components(classifier, batch, keys=False)
    assert found.added.shape == (len(TEXTS), classifier.layers, 2, classifier.d_model)
    assert not found.prefix.keys
    for row, text in enumerate(TEXTS):
        logits, given = whole_run(classifier, text, lambda *_: None)
        torch.testing.assert_close(found.prefix.logits[row], logits, atol=1e-4, rtol=1e-4)
        for (layer, number), value in given.items():
            torch.testing.assert_close(found.added[row, layer, number], value, atol=1e-4, rtol=1e-4)


def test_patches_are_those_of_whole_runs(classifier: Classifier):  # noqa: F811
    decoder(classifier)
    pairs = [(0, 1), (0, 2), (3, 2), (1, 0), (2, 1)]  # clean, corrupted
    batch = classifier.batch(classifier.tokenize(TEXTS))
    documents = run_components(classifier, batch, keys=True)
    owner = torch.tensor([corrupted for _, corrupted in pairs])
    clean = documents.added[[clean for clean, _ in pairs]]
    found = run_patches(classifier, documents, owner, clean)
    assert found.shape == (len(pairs), classifier.layers, 2, len(classifier.labels))
    largest = 0.0
    for row, (clean_, corrupted) in enumerate(pairs):
        _, given = whole_run(classifier, TEXTS[clean_], lambda *_: None)
        plain, _ = whole_run(classifier, TEXTS[corrupted], lambda *_: None)
        for layer in range(classifier.layers):
            for number in range(2):
                at = (layer, number)
                logits, _ = whole_run(
                    classifier,
                    TEXTS[corrupted],
                    lambda *place, at=at, given=given: given[at] if place[:2] == at else None,
                )
                torch.testing.assert_close(found[row, layer, number], logits, atol=1e-4, rtol=1e-4)
                largest = max(largest, float((logits - plain).abs().max()))
    assert largest > 0.1  # the agreement says something


def test_ablations_are_those_of_whole_runs(classifier: Classifier):  # noqa: F811
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
    found = run_ablations(classifier, documents, ablations)
    torch.testing.assert_close(found[0], documents.prefix.logits, atol=1e-4, rtol=1e-4)
    for number, ablation in enumerate(ablations):
        for row, text in enumerate(TEXTS):
            logits, _ = whole_run(
                classifier,
                text,
                lambda layer, part, _, ablation=ablation: (
                    ablation.values[layer, part] if ablation.ablated[layer, part] else None
                ),
            )
            torch.testing.assert_close(found[number, row], logits, atol=1e-4, rtol=1e-4)


def test_what_is_no_decoder_is_refused(classifier: Classifier):  # noqa: F811
    if classifier.model.config.model_type != "bert":
        pytest.skip("a decoder")
    with pytest.raises(ModelError, match="self_attn and mlp"):
        run_components(classifier, classifier.batch(classifier.tokenize(TEXTS)), keys=True)
