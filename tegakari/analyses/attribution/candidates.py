"""Candidates: the active features of a text whose ablation is estimated to cost most margin."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.analyses.engine.run_models import RunModels
from tegakari.models.rerun.ablate_features import position_bytes
from tegakari.models.rerun.gradients import residual_gradients
from tegakari.models.rerun.prefix import Prefix
from tegakari.schemas.knockout import LayerFeature
from tegakari.schemas.progress import Progress


class ActiveFeatures(NamedTuple):
    """Active features of one text in several layers, by layer and feature."""

    features: list[LayerFeature]
    activations: np.ndarray
    """float32 [T, n], at the countable positions in the order of the text"""
    estimates: np.ndarray
    """float64 [n], estimated loss of margin with each ablated"""
    reaching: np.ndarray
    """float32 [n], largest activation where an edit reaches the head: in the last block, at its own position"""
    positions: np.ndarray
    """int64 [T], of the countable positions in the text"""

    @property
    def peaks(self) -> np.ndarray:
        """Largest activation of each feature, float32 [n]."""
        return self.activations.max(axis=0)

    def strongest(self, n: int) -> list[int]:
        """Numbers of the n features with the largest estimate, ties in their order."""
        return np.argsort(-self.estimates, kind="stable")[:n].tolist()


def active_features(
    models: RunModels, prefix: Prefix, layers: list[int], label: int, other: int, progress: Progress
) -> ActiveFeatures:
    """Active features of a text, each with a first-order estimate of the margin that its ablation costs.

    The estimate is `sum_t a_f(t) g(t) . W_dec[f] / s` with g the gradient of the margin with respect to the layer's
    residual and s the input scale of the SAE, times the size of the position if the SAE has an input norm: attribution
    patching towards 0 (Syed et al. 2023, arXiv:2310.10348; Marks et al. 2024, arXiv:2403.19647), one backward pass for
    all features of all layers.

    Args:
        models: of the run.
        prefix: of a batch of one text, with the residuals of the layers.
        layers: ascending.
        label: class whose margin is attributed.
        other: class with the largest other logit.
        progress: advanced by 0 after each step.

    Raises:
        MemoryShortError: the backward pass would take more memory than is free.
        KernelError: a residual is not finite.
    """
    on_step = partial(progress.advance, 0)
    classifier, batch = models.classifier, prefix.batch
    _check_memory(models, batch.input_ids.shape[1], layers)
    weights = torch.zeros_like(prefix.logits)
    weights[0, label], weights[0, other] = 1, -1
    gradients = residual_gradients(classifier, batch, layers, weights, on_step=on_step)
    order = torch.argsort(batch.positions).cpu().numpy()  # the position of the head is the last of a batch
    features: list[LayerFeature] = []
    activations: list[np.ndarray] = []
    estimates: list[np.ndarray] = []
    reaching: list[np.ndarray] = []
    for layer in layers:
        dense, estimated = _layer_features(models, layer, prefix, gradients[layer])
        numbers = np.flatnonzero(dense.any(axis=0))
        features += [LayerFeature(layer, feature) for feature in numbers.tolist()]
        activations.append(dense[order][:, numbers])
        estimates.append(estimated[numbers])
        head_alone = layer == classifier.layers - 1 and classifier.head != "all"
        reaching.append((dense[-1] if head_alone else dense.max(axis=0))[numbers])
        on_step()
    positions = batch.positions.cpu().numpy()[order]
    return ActiveFeatures(
        features,
        np.concatenate(activations, axis=1),
        np.concatenate(estimates),
        np.concatenate(reaching),
        positions,
    )


@torch.inference_mode()
def _layer_features(models: RunModels, layer: int, prefix: Prefix, gradient: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Activations of all features of a layer, float32 [T, d_sae], and their estimates, float64 [d_sae]."""
    batch, sae = prefix.batch, models.saes[layer]
    residual, gradient = (
        values.flatten(0, 1).index_select(0, batch.positions) for values in (prefix.residuals[layer], gradient)
    )
    rows = models.encode(layer, residual, batch.offsets, rows="all").rows
    assert rows is not None
    indptr, feature, activation = rows.trimmed()
    dense = torch.zeros(len(residual), sae.d_sae, device=residual.device)
    position = torch.repeat_interleave(torch.arange(len(residual), device=residual.device), indptr.diff())
    dense[position, feature.long()] = activation
    gradient = gradient.float()
    sizes = sae.token_sizes(residual)
    if sizes is not None:
        gradient = gradient * sizes[:, None]
    # sum_t a_f(t) g(t) is [d_sae, d_model]; its product with the directions needs no [T, d_sae] matrix of products.
    estimates = ((dense.T @ gradient) * sae.decoder_directions().float()).sum(1, dtype=torch.float64)
    return dense.cpu().numpy(), estimates.cpu().numpy()


def _check_memory(models: RunModels, tokens: int, layers: list[int]) -> None:
    """Estimate what a backward pass keeps of each block, and the matrices of one layer's features."""
    classifier = models.classifier
    blocks = classifier.layers - min(layers)
    width = max(models.saes[layer].d_sae for layer in layers)
    required = tokens * position_bytes(classifier, tokens) * blocks + 4 * width * (tokens + 3 * classifier.d_model)
    refuse_beyond_memory(required, classifier.device, fix="give a shorter text, or fewer layers")
