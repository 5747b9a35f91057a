"""Label effects against small steering steps in classifiers of several families."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.label_effects import direct_layers, label_effects, label_gradients
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized
from tests.support.classifier_families import make_sae

TEXTS = ["今日は軽トラで買い物に行きました", "質問があります", "とても楽しい一日でした よろしく", "軽トラ"]
STEP = 1e-2
NORMALIZING = ("bert",)
"""Families whose blocks end with a norm."""


def hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def steered_logits(classifier: Classifier, document: Tokenized, layer: int, added: Tensor) -> Tensor:
    """Logits of one document with something added to the output of a block where the head reads.

    The blocks above add what they add in an ordinary pass: only the direct path is left.
    """
    ids = torch.tensor([document.input_ids])
    entering: dict[int, Tensor] = {}
    leaving: dict[int, Tensor] = {}

    def enter(number: int) -> Any:
        return lambda _block, args, kwargs: entering.__setitem__(number, args[0] if args else kwargs["hidden_states"])

    def leave(number: int) -> Any:
        return lambda _block, _inputs, output: leaving.__setitem__(number, hidden(output))

    with torch.no_grad():
        handles = []
        for number, block in enumerate(classifier.blocks):
            handles.append(block.register_forward_pre_hook(enter(number), with_kwargs=True))
            handles.append(block.register_forward_hook(leave(number)))
        classifier.model(input_ids=ids)
        for handle in handles:
            handle.remove()
        ordinary = {number: leaving[number] - entering[number] for number in leaving}
        steered = leaving[layer].clone()
        steered[:, slice(None) if document.head is None else document.head] += added
        for number in range(layer + 1, classifier.layers):
            steered = steered + ordinary[number]

        def replace_output(_block: Any, _inputs: Any, output: Any) -> Any:
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        handle = classifier.blocks[-1].register_forward_hook(replace_output)
        logits = classifier.model(input_ids=ids).logits[0]
        handle.remove()
    return logits


def token_size(classifier: Classifier, sae: Sae, document: Tokenized, layer: int) -> float:
    """Mean of the SAE's token sizes where the head reads."""
    residuals: list[Tensor] = []
    classifier.run(classifier.batch([document]), lambda _layer, rows: residuals.append(rows), [layer])
    sizes = sae.token_sizes(residuals[0])
    assert sizes is not None
    return float(sizes.mean() if document.head is None else sizes[-1])


def test_an_effect_is_that_of_a_small_step(classifier: Classifier):
    top = classifier.layers - 1
    normed = replace(make_sae("relu", 1), input_norm="layer_norm", scale=1.0)
    saes = {0: make_sae("topk", 0), top: normed}
    layers = direct_layers(classifier)
    if classifier.model.config.model_type in NORMALIZING:
        assert layers == range(top, top + 1)
        del saes[0]
    else:
        assert layers == range(classifier.layers)
    documents = classifier.tokenize(TEXTS)
    gradients = label_gradients(classifier, saes, documents, batch_tokens=40)
    for layer, sae in saes.items():
        effects = label_effects(gradients[layer], sae)
        assert effects.shape == (sae.d_sae, len(classifier.labels))
        for feature in (0, 7):
            direction = sae.W_dec[feature] / sae.scale
            expected = torch.zeros(len(classifier.labels))
            for document in documents:
                size = token_size(classifier, sae, document, layer) if layer == top else 1.0
                step = STEP * direction
                up, down = (steered_logits(classifier, document, layer, sign * step) for sign in (1, -1))
                expected += size * (up - down) / (2 * STEP) / len(documents)
            torch.testing.assert_close(effects[feature], expected, rtol=0.02, atol=0.01 * float(expected.abs().max()))


def test_gradients_do_not_depend_on_the_batches(classifier: Classifier):
    documents = classifier.tokenize(TEXTS)
    saes = {classifier.layers - 1: make_sae("relu", 1)}
    one, other = (label_gradients(classifier, saes, documents, batch_tokens=tokens) for tokens in (1, 1000))
    for layer, gradient in one.items():
        torch.testing.assert_close(gradient, other[layer], rtol=1e-3, atol=1e-5)
