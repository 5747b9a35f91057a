"""Positions that a classification head reads, found by the gradient of its logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tegakari.kernels import Pooled
from tegakari.models.architecture import block_output, check_rows, other_outputs, with_residual
from tegakari.models.finite import finite_outputs
from tegakari.models.hooks import forward_hooks
from tegakari.models.tokens import Head, Tokenized, head_index, make_batch
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import ModelError

PROBES = ("1 2 3 4 5 6 7 8", "1 2 3")
"""Texts of different length, so that the batch has padding; every tokenizer has tokens for them."""


def detect_head(model: PreTrainedModel, blocks: nn.ModuleList, probes: Sequence[Tokenized]) -> Head:
    """The positions that a head reads: those at which the logits depend on the residual of the last block.

    The test needs no list of architectures: one pass over two short documents, one of them padded, and the gradient of
    a random sum of their logits.

    Args:
        model: the classifier, with `pad_token_id` in its configuration.
        blocks: of the model; behind the last one, no position reads another but in the head.
        probes: documents of different length.

    Raises:
        ModelError: the head reads single positions that are neither the first nor the last, or none; the last block is
            not called, or returns no residual with one row per token; or a value is not finite.
    """
    batch = make_batch(probes, model.config.pad_token_id).to(model.device)
    residuals: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, output: object) -> object:
        residual = block_output(output).detach().requires_grad_()
        check_rows(blocks[-1], residual, batch.input_ids)
        residuals.append(residual)
        return with_residual(residual, other_outputs(output))

    with finite_outputs(model), torch.enable_grad(), forward_hooks() as hooks:
        hooks.after(blocks[-1], cut)
        try:
            logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"{type(model).__name__} cannot read two short texts: {str(error).strip().partition(chr(10))[0]}",
                field="classifier.path",
                fix="compare config.json with that of the model's base: an entry is missing or wrong",
            ) from error
        if not residuals:
            raise ModelError(
                f"{type(model).__name__} does not call its blocks as modules, so that no hook sees their residuals",
                field="classifier.path",
                fix="use a family such as Gemma 2, Llama or BERT",
            )
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        (gradient,) = torch.autograd.grad((weights * logits).sum(), residuals[-1:])
    read = [
        set(row[:length].any(1).nonzero()[:, 0].tolist())
        for row, length in zip(gradient != 0, map(len, probes), strict=True)
    ]
    for head in ("last", "first"):
        if all(
            positions == {head_index(probe.input_ids, head, model.config.pad_token_id)}
            for positions, probe in zip(read, probes, strict=True)
        ):
            return head
    if all(len(positions) > 1 for positions in read):
        return "all"
    raise ModelError(
        f"the head of {type(model).__name__} reads the positions {sorted(read[0])} of a document of "
        f"{len(probes[0])} tokens",
        field="classifier.path",
        fix="use a classifier whose head reads the first position, the last one, or several",
    )


def pooled_by(pooled: Pooled, pooling: Pooling, head: Head) -> Tensor:
    """Activations of documents by a pooling, float32 [D, d_sae].

    For a head that reads several positions, `head` is the mean over the countable ones, which is the input of a head
    that averages them.
    """
    return getattr(pooled, "mean" if pooling == "head" and head == "all" else pooling)
