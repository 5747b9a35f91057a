"""Explained variance of SAEs with a norm of their input, against the definition in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tegakari.kernels import InputNorm
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import explained_variance
from tests.support.classifier_families import make_sae
from tests.support.hooked_passes import mean_and_size, naive_activations

TEXTS = ["今日は会議です。\nよろしくお願いします", "車", "MTG の 打ち合わせ です", "質問があります"]


@pytest.mark.parametrize(("norm", "centred"), [("none", True), ("constant_norm", True), ("layer_norm", False)])
def test_reconstructions_are_in_units_of_the_residual(classifier: Classifier, norm: InputNorm, centred: bool):
    sae = replace(make_sae("relu", 3), input_norm=norm, centred=centred)
    quality = explained_variance(classifier, {1: sae}, TEXTS, batch_tokens=64)[1]
    residuals: list[torch.Tensor] = []
    for document in classifier.tokenize(TEXTS):
        classifier.run(classifier.batch([document]), lambda _layer, residual: residuals.append(residual), [1])
    h = torch.cat(residuals).double()
    reconstructions = []
    for row in h:
        mean, size = mean_and_size(row, sae)
        decoded = naive_activations(row, sae) @ sae.W_dec.double() + sae.b_dec.double()
        reconstructions.append(decoded / sae.scale * size + mean)
    error = (h - torch.stack(reconstructions)).square().sum()
    assert quality.explained_variance == pytest.approx(float(1 - error / (h - h.mean(0)).square().sum()), rel=1e-4)
