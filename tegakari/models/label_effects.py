"""Direct effects of features on the logits of labels: decoder directions through the classifier's final norm and head.

A feature adds its decoder direction to the residual. What is added where the head reads arrives at the head, whatever
the blocks between add to it. The head is not linear (a norm, a pooler with tanh, capped logits), so that an effect is a
derivative, averaged over documents. The derivative at the documents' mean residual is another one: a mean of vectors is
shorter than they are, and a norm makes up for that. For language models, whose head gives tokens, such effects are the
logit weights of features (Bricken et al., Towards Monosemanticity, 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tegakari.models.architecture import block_output, check_rows, other_outputs, with_residual
from tegakari.models.classifier import Classifier, document_means, select
from tegakari.models.hooks import forward_hooks
from tegakari.models.rerun.prefix import run_model
from tegakari.models.sae import Sae
from tegakari.models.tokens import Batch, Tokenized, make_batch
from tegakari.schemas.progress import OnStep, no_step

LONG = 1e5
"""Factor of a residual beside which what a block adds to it is small: its branches read normalized residuals."""

PASSED_ON = 1e-2
"""Largest difference between such a residual before and after a block that passes it on, relative to its length."""


def label_gradients(
    classifier: Classifier,
    saes: Mapping[int, Sae],
    documents: Sequence[Tokenized],
    batch_tokens: int,
    on_step: OnStep = no_step,
    *,
    on_residual: Callable[[Batch, int, Tensor], None] = lambda *_: None,
    layers: Sequence[int] = (),
) -> dict[int, Tensor]:
    """Mean gradient of each logit with respect to the residual that the head reads, at the output of the last block.

    Args:
        classifier: any; where its head reads several positions, the same is added to all of them.
        saes: by layer; of one with an input norm, the gradients of a document count by its token size there
            (`Sae.token_sizes`), which is what a unit of activation adds to the residual.
        documents: to average over, each with a countable position.
        batch_tokens: tokens per forward pass.
        on_step: called after each block; it may raise, to end the work.
        on_residual: called with the batch, the layer and its residuals, as by `Classifier.run`, so that other figures
            of the same documents need no pass of their own.
        layers: that it is called for.

    Returns:
        layer of an SAE -> float32 [labels, d_model], on the classifier's device.
    """
    weighted = [layer for layer, sae in saes.items() if sae.input_norm != "none"]
    shape = (1 + len(weighted), len(classifier.labels), classifier.d_model)
    sums = torch.zeros(shape, dtype=torch.float64, device=classifier.device)
    for _, batch in classifier.batches(documents, batch_tokens):
        weights = {layer: torch.empty(0) for layer in weighted}
        added = torch.zeros(len(batch.input_ids), 1, classifier.d_model, device=classifier.device, requires_grad=True)
        # Blocks keep nothing for a backward pass, which ends at the output of the last one.
        with torch.inference_mode(False), torch.no_grad(), forward_hooks() as hooks:
            for layer in weighted:

                def weigh(_block: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                    weights[layer] = _sizes_at_head(classifier, saes[layer], select(block_output(output), batch), batch)  # noqa: B023

                hooks.after(classifier.blocks[layer], weigh)

            classifier.report_residuals(hooks, batch, partial(on_residual, batch), layers)

            def add(block: nn.Module, _inputs: object, output: object) -> Any:
                residual = block_output(output)
                check_rows(block, residual, batch.input_ids)  # noqa: B023
                torch.set_grad_enabled(True)
                return with_residual(residual + added.to(residual.dtype), other_outputs(output))  # noqa: B023

            hooks.after(classifier.blocks[-1], add)
            hooks.after_each(classifier.blocks, on_step)
            logits = run_model(classifier, batch.input_ids, batch.attention_mask)
            rows = torch.stack([torch.ones(len(added), device=added.device), *weights.values()]).double()
            for label in range(len(classifier.labels)):
                (gradient,) = torch.autograd.grad(logits[:, label].sum(), added, retain_graph=True)
                sums[:, label] += rows @ gradient[:, 0].double()
    means = (sums / len(documents)).float()
    return {layer: means[1 + weighted.index(layer) if layer in weighted else 0] for layer in saes}


def _sizes_at_head(classifier: Classifier, sae: Sae, residual: Tensor, batch: Batch) -> Tensor:
    """Token size of each document where the head reads, float32 [B]; the mean of all, if it reads several positions."""
    sizes = sae.token_sizes(residual.float())
    assert sizes is not None
    # The position that the head reads is the last countable one of its document.
    return (
        document_means(sizes[:, None], batch.offsets)[:, 0]
        if classifier.head == "all"
        else sizes[batch.offsets[1:] - 1]
    )


def label_effects(gradients: Tensor, sae: Sae) -> Tensor:
    """Change of the logits of labels per unit of each feature's activation, float32 [d_sae, labels].

    `effect[f, label] = W_dec[f] / s . mean over documents of n d logit_label / d h`, with the input scale s of the SAE
    and, if it has an input norm, the token size n.

    Args:
        gradients: of the SAE's layer, from `label_gradients`, [labels, d_model].
        sae: of one of `direct_layers`.
    """
    return sae.decoder_directions().to(gradients.device, torch.float32) @ gradients.T


def direct_layers(classifier: Classifier) -> range:
    """Layers whose residual reaches the head by addition alone: the last one, and below it as far as blocks pass it on.

    A block with its norms on the branches returns its residual with something added; one that normalizes the sum (BERT)
    changes what a feature added below it. The test needs no list of families: of a residual that is 100,000 times as
    long, what is added is negligible.
    """
    passed = _passed_on(classifier)
    first = classifier.layers - 1
    while first > 0 and passed[first]:
        first -= 1
    return range(first, classifier.layers)


@torch.inference_mode()
def _passed_on(classifier: Classifier) -> list[bool]:
    """Whether each block passes its residual on."""
    ids = classifier.ordinary_tokens(min(3, classifier.max_length))
    document = Tokenized(ids, [(0, 0)] * len(ids), [False] * len(ids), False)
    batch = make_batch([document], classifier.model.config.pad_token_id).to(classifier.device)
    entered: list[Tensor] = []
    passed: list[bool] = []

    def lengthen(
        _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        long = (args[0] if args else kwargs["hidden_states"]) * LONG
        entered.append(long)
        return ((long, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": long})

    def compare(_block: nn.Module, _inputs: object, output: object) -> Any:
        before, after = entered[-1], block_output(output)
        difference = (after.float() - before.float()).norm() / before.float().norm()
        passed.append(bool(difference <= PASSED_ON))
        return with_residual(before / LONG, other_outputs(output))

    with forward_hooks() as hooks:
        for block in classifier.blocks:
            hooks.before(block, lengthen)
            hooks.after(block, compare)
        run_model(classifier, batch.input_ids, batch.attention_mask)
    return passed
