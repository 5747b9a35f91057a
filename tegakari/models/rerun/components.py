"""Attention and MLP blocks as what they add to the residual, at the position that the head reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tegakari.models.classifier import Classifier, block_output
from tegakari.models.rerun.prefix import Prefix, last_positions, run_prefix
from tegakari.models.tokens import Batch
from tegakari.schemas.errors import ModelError

Component = Literal["attention", "mlp"]
COMPONENTS: tuple[Component, ...] = ("attention", "mlp")
"""In the order in which a block adds them."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""How far a block may be from the sum of its parts, relative to its residual's largest entry."""


class Components(NamedTuple):
    """What the blocks read and add at the last position of each document of a batch."""

    entering: Tensor
    """[B, layers, d_model]: the residual that enters each block"""
    added: Tensor
    """[B, layers, 2, d_model]: what attention and MLP add to it, in that order"""
    prefix: Prefix
    """with keys and values of all layers, if they were asked for"""


@torch.inference_mode()
def run_components(classifier: Classifier, batch: Batch, *, keys: bool) -> Components:
    """One ordinary pass.

    Args:
        classifier: a decoder whose head reads the last position.
        batch: documents, each with a non-special position.
        keys: keep the keys and values of all layers.

    Raises:
        ModelError: it is not such a classifier, or its blocks add something else than their parts.
    """
    entering: dict[int, Tensor] = {}
    leaving: dict[int, Tensor] = {}
    added: dict[tuple[int, int], Tensor] = {}
    last = last_positions(batch)
    rows = torch.arange(len(last), device=last.device)
    handles = []
    for layer, block in enumerate(classifier.blocks):

        def entered(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int = layer) -> None:
            entering[layer] = (args[0] if args else kwargs["hidden_states"])[rows, last]

        def left(_module: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
            leaving[layer] = block_output(output)[rows, last]

        handles.append(block.register_forward_pre_hook(entered, with_kwargs=True))
        handles.append(block.register_forward_hook(left))
        for number, module in enumerate(_modules(block)):

            def gave(
                _module: nn.Module, _inputs: object, output: object, at: tuple[int, int] = (layer, number)
            ) -> None:
                added[at] = block_output(output)[rows, last]

            handles.append(module.register_forward_hook(gave))
    try:
        prefix = run_prefix(classifier, batch, [], keys_above=-1 if keys else None)
    finally:
        for handle in handles:
            handle.remove()
    _check(classifier, prefix, entering, leaving, added)
    layers = range(classifier.layers)
    return Components(
        torch.stack([entering[layer] for layer in layers], 1),
        torch.stack([torch.stack([added[layer, number] for number in range(2)], 1) for layer in layers], 1),
        prefix,
    )


@contextmanager
def replaced(block: nn.Module, replace: Sequence[Callable[[Tensor], Tensor] | None]) -> Iterator[None]:
    """Let the components of a block add something else.

    Args:
        block: of a decoder.
        replace: for attention and MLP what makes of what it adds what is added instead; None: nothing else.
    """
    handles = []
    for module, change in zip(_modules(block), replace, strict=True):
        if change is None:
            continue

        def hook(_module: nn.Module, _inputs: object, output: object, change: Any = change) -> object:
            changed = change(block_output(output))
            return changed if isinstance(output, Tensor) else (changed, *output[1:])  # type: ignore[index]

        handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _modules(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Whose outputs are added to the residual: in Gemma 2 and 3 the norms behind attention and MLP."""
    names = (
        ("post_attention_layernorm", "post_feedforward_layernorm")
        if hasattr(block, "post_feedforward_layernorm")
        else ("self_attn", "mlp")
    )
    found = [getattr(block, name, None) for name in names]
    if not all(isinstance(module, nn.Module) for module in found):
        raise ModelError(
            f"{type(block).__name__} has no {' and '.join(names)}",
            field="classifier",
            fix="circuits need a decoder such as Gemma 2, Llama, Mistral or Qwen 2",
        )
    return found[0], found[1]  # type: ignore[return-value]


def _check(
    classifier: Classifier,
    prefix: Prefix,
    entering: dict[int, Tensor],
    leaving: dict[int, Tensor],
    added: dict[tuple[int, int], Tensor],
) -> None:
    if not prefix.follows_last:
        raise ModelError(
            f"the head of {type(classifier.model).__name__} does not read the last position of these documents alone",
            field="classifier",
            fix="circuits need a decoder with a sequence classification head, and documents that end with a token",
        )
    for layer in range(classifier.layers):
        total = entering[layer].float() + added[layer, 0].float() + added[layer, 1].float()
        off = (total - leaving[layer].float()).abs().max() / leaving[layer].float().abs().max().clamp_min(1e-6)
        if not off <= TOLERANCE[classifier.dtype]:
            raise ModelError(
                f"block {layer} of {type(classifier.model).__name__} adds something else than its attention and MLP",
                field="classifier",
                fix="circuits need blocks that add attention, then MLP, to the residual",
            )
