"""Attention and MLP of each block as their contributions to the residual at the position that the head reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tegakari.models.architecture import block_output, other_outputs, with_residual
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import forward_hooks
from tegakari.models.rerun.prefix import Prefix, last_positions, run_prefix
from tegakari.models.tokens import Batch
from tegakari.schemas.errors import ModelError

Component = Literal["attention", "mlp"]
COMPONENTS: tuple[Component, ...] = ("attention", "mlp")
"""In the order in which a block adds them."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Maximum difference between a block and the sum of its components, relative to its residual's largest entry."""


class Components(NamedTuple):
    """Residuals and contributions of all blocks at the last position of each document of a batch."""

    entering: Tensor
    """[B, layers, d_model]: the residual that enters each block"""
    added: Tensor
    """[B, layers, 2, d_model]: the contributions of attention and MLP, in that order"""
    prefix: Prefix
    """with keys and values of all layers, if `run_components` was called with `keys`"""


@torch.inference_mode()
def run_components(classifier: Classifier, batch: Batch, *, keys: bool) -> Components:
    """Run one ordinary pass and record the components of every block.

    Args:
        classifier: a decoder whose head reads the last position.
        batch: documents, each with a countable position.
        keys: keep the keys and values of all layers.

    Raises:
        ModelError: the classifier is not such a decoder, or a block is not the sum of its components.
    """
    check_decoder(classifier)
    entering: dict[int, Tensor] = {}
    leaving: dict[int, Tensor] = {}
    added: dict[tuple[int, int], Tensor] = {}
    last = last_positions(batch)
    rows = torch.arange(len(last), device=last.device)
    with forward_hooks() as hooks:
        for layer, block in enumerate(classifier.blocks):

            def record_input(
                _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int = layer
            ) -> None:
                entering[layer] = (args[0] if args else kwargs["hidden_states"])[rows, last]

            def record_output(_module: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                leaving[layer] = block_output(output)[rows, last]

            hooks.before(block, record_input)
            hooks.after(block, record_output)
            for number, module in enumerate(component_modules(block)):

                def record_component(
                    _module: nn.Module, _inputs: object, output: object, key: tuple[int, int] = (layer, number)
                ) -> None:
                    added[key] = block_output(output)[rows, last]

                hooks.after(module, record_component)
        prefix = run_prefix(classifier, batch, [], keys_above=-1 if keys else None)
    _check_sums(classifier, prefix, entering, leaving, added)
    layers = range(classifier.layers)
    return Components(
        torch.stack([entering[layer] for layer in layers], 1),
        torch.stack([torch.stack([added[layer, number] for number in range(2)], 1) for layer in layers], 1),
        prefix,
    )


def check_decoder(classifier: Classifier) -> None:
    """Refuse a classifier whose components cannot be patched at the last position; nothing is computed.

    Raises:
        ModelError: its head reads other positions, a block has no attention and MLP, or its layers need more of the
            positions before than keys and values.
    """
    name = type(classifier.model).__name__
    if classifier.head != "last":
        raise ModelError(
            f"the head of {name} reads {'the first position' if classifier.head == 'first' else 'several positions'}",
            field="classifier",
            fix="circuits patch the last position: use a decoder such as Gemma 2, Llama, Mistral or Qwen 2",
        )
    for block in classifier.blocks:
        component_modules(block)
    if not classifier.last_alone:
        raise ModelError(
            f"the last position of {name} cannot pass its blocks alone: they read more of the positions before than "
            "keys and values",
            field="classifier",
            fix="use a decoder such as Gemma 2, Llama, Mistral or Qwen 2 for circuits",
        )


@contextmanager
def replaced_components(block: nn.Module, replacements: Sequence[Callable[[Tensor], Tensor] | None]) -> Iterator[None]:
    """A block whose components add something else to the residual in the `with` block.

    Args:
        block: of a decoder.
        replacements: for attention and MLP, function from the component's output to the one that replaces it; None
            leaves the component as it is.
    """
    with forward_hooks() as hooks:
        for module, replacement in zip(component_modules(block), replacements, strict=True):
            if replacement is None:
                continue

            def replace(_module: nn.Module, _inputs: object, output: object, replacement: Any = replacement) -> object:
                return with_residual(replacement(block_output(output)), other_outputs(output))

            hooks.after(module, replace)
        yield


def component_modules(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Modules whose outputs a block adds to the residual; in Gemma 2 and 3 the norms behind attention and MLP.

    Raises:
        ModelError: the block has no such modules.
    """
    names = (
        ("post_attention_layernorm", "post_feedforward_layernorm")
        if hasattr(block, "post_feedforward_layernorm")
        else ("self_attn", "mlp")
    )
    attention, mlp = (getattr(block, name, None) for name in names)
    if not (isinstance(attention, nn.Module) and isinstance(mlp, nn.Module)):
        raise ModelError(
            f"{type(block).__name__} has no {' and '.join(names)}, whose outputs circuits replace",
            field="classifier",
            fix="use a decoder such as Gemma 2, Llama, Mistral or Qwen 2 for circuits",
        )
    return attention, mlp


def _check_sums(
    classifier: Classifier,
    prefix: Prefix,
    entering: dict[int, Tensor],
    leaving: dict[int, Tensor],
    added: dict[tuple[int, int], Tensor],
) -> None:
    """Refuse a classifier whose head reads other positions, or whose blocks are not the sum of their components."""
    if not prefix.follows_last:
        raise ModelError(
            f"the head of {type(classifier.model).__name__} does not read the last position of these documents alone",
            field="classifier",
            fix="circuits need a decoder with a sequence classification head, and documents that end with a token",
        )
    layers = range(classifier.layers)
    after = torch.stack([leaving[layer] for layer in layers]).float()
    total = torch.stack(
        [entering[layer].float() + added[layer, 0].float() + added[layer, 1].float() for layer in layers]
    )
    difference = (total - after).abs().amax((1, 2)) / after.abs().amax((1, 2)).clamp_min(1e-6)
    for layer in (~(difference <= TOLERANCE[classifier.dtype])).nonzero()[:, 0].tolist():
        raise ModelError(
            f"block {layer} of {type(classifier.model).__name__} adds something else than its attention and MLP",
            field="classifier",
            fix="circuits need blocks that add attention, then MLP, to the residual",
        )
