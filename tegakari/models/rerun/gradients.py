"""Gradients of a classifier's logits with respect to its residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tegakari.models.architecture import block_output, other_outputs, with_residual
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import forward_hooks
from tegakari.models.rerun.prefix import run_model
from tegakari.models.tokens import Batch
from tegakari.schemas.progress import OnStep, no_step


def residual_gradients(
    classifier: Classifier,
    batch: Batch,
    layers: Sequence[int],
    weights: Tensor,
    *,
    on_step: OnStep = no_step,
) -> Mapping[int, Tensor]:
    """Gradient of a weighted sum of the logits with respect to the residuals, at all positions, by one backward pass.

    Args:
        classifier: any.
        batch: documents.
        layers: layers of the residuals, not empty.
        weights: [B, labels], of the logits in the sum.
        on_step: called after each block, forward and backward; it may raise, to end the work.

    Returns:
        layer -> [B, S, d_model], dtype of the classifier.
    """
    first = min(layers)
    residuals: dict[int, Tensor] = {}
    with torch.inference_mode(False), torch.enable_grad(), forward_hooks() as hooks:
        for layer in layers:

            def record(_module: nn.Module, _inputs: object, output: object, layer: int = layer) -> object:
                residual = block_output(output)
                if layer > first:
                    residuals[layer] = residual
                    return None
                residuals[layer] = residual = residual.detach().requires_grad_()  # blocks below need no gradient
                return with_residual(residual, other_outputs(output))

            hooks.after(classifier.blocks[layer], record)
        if on_step is not no_step:
            hooks.after_each(classifier.blocks, on_step)
        logits = run_model(classifier, batch.input_ids, batch.attention_mask)
        for residual in residuals.values():
            residual.register_hook(lambda _: on_step())
        gradients = torch.autograd.grad((weights * logits).sum(), [residuals[layer] for layer in layers])
    return dict(zip(layers, gradients, strict=True))
