"""The modules behind the last block that make logits of its residual: the final norm and the head.

A run of the whole model whose blocks are replaced gives the same logits, but embeds tokens, makes masks and turns
angles for nothing: of a knockout's time on a GPU, where each operation is a launch, that is a third.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tegakari.models.architecture import block_output
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import forward_hooks
from tegakari.models.rerun.prefix import run_model
from tegakari.models.tokens import Batch


def find_tail(classifier: Classifier, batch: Batch) -> tuple[str, ...]:
    """Names of the modules that lead from the last block's residual to the logits of each position, in order.

    Each reads exactly what the one before returned. What the model computes without a module is not seen, so the
    caller compares `logits_of` with a pass.

    Args:
        classifier: any.
        batch: documents for one pass.
    """
    names = {module: name for name, module in classifier.model.named_modules()}
    within = {module for block in classifier.blocks for module in block.modules()}
    tail: list[str] = []
    reached: list[Tensor] = []

    def leave_blocks(_block: nn.Module, _inputs: object, output: object) -> None:
        tail.clear()
        reached[:] = [block_output(output)]

    def follow(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if reached and inputs and inputs[0] is reached[0] and isinstance(output, Tensor) and output is not inputs[0]:
            tail.append(names[module])
            reached[:] = [output]

    with forward_hooks() as hooks:
        hooks.after(classifier.blocks[-1], leave_blocks)
        for module in names.keys() - within:
            hooks.after(module, follow)
        run_model(classifier, batch.input_ids, batch.attention_mask)
    return tuple(tail)


def logits_of(classifier: Classifier, rows: Tensor, tail: tuple[str, ...]) -> Tensor:
    """Logits of residuals of the last block: [N, 1, d_model] -> float32 [N, labels].

    Raises:
        RuntimeError, TypeError: the modules are not a chain from residuals to logits.
    """
    values = rows
    for name in tail:
        values = classifier.model.get_submodule(name)(values)
    return values[:, 0].float()


def tail_of(classifier: Classifier, batch: Batch, rows: Tensor, logits: Tensor) -> tuple[str, ...]:
    """The tail, if it gives the same logits as the whole model to the last bit; else none.

    Args:
        classifier: any.
        batch: documents for one pass.
        rows: [N, 1, d_model], residuals of the last block.
        logits: float32 [N, labels], of the rows by the whole model.
    """
    tail = find_tail(classifier, batch)
    try:
        return tail if tail and torch.equal(logits_of(classifier, rows, tail), logits) else ()
    except (RuntimeError, TypeError):  # modules that are not a chain, or that need more arguments
        return ()
