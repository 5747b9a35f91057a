"""Parts of a transformers model: its text configuration, its list of blocks, and a block's output."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tegakari.schemas.errors import ModelError

OTHER_INPUTS = {
    "bbox": "the place of each token on a page",
    "xpath_tags_seq": "the path of each token in the markup of a page",
}
"""Arguments of a model's forward that hold what a text alone has not."""


def text_config(model: PreTrainedModel):  # noqa: ANN201 - transformers' configuration classes share no typed base
    """Configuration of the part of a model that reads text; of a model of text alone, its configuration."""
    return model.config.get_text_config()


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """List of decoder (or encoder) blocks: the outermost module list of the configured length.

    Raises:
        ModelError: the model has no such list; it is an encoder-decoder, whose decoder reads each token one position
            later; or it reads more than text.
    """
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder: its decoder reads the text shifted by one token, so that the residual of a "
            "position belongs to the token before it",
            field="classifier.base",
            fix="use a decoder such as Gemma 2 or Llama, or an encoder such as BERT",
        )
    for argument in inspect.signature(model.forward).parameters:
        if argument in OTHER_INPUTS:
            raise ModelError(
                f"{name} reads more than text: {OTHER_INPUTS[argument]} (`{argument}`)",
                field="classifier.base",
                fix="use a model of text alone",
            )
    depth = getattr(text_config(model), "num_hidden_layers", None)
    candidates = [
        (name.count("."), name, module)
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not candidates:
        raise ModelError(
            f"{name} has no list of blocks with one block per layer ({depth or 'no number of'} layers are configured): "
            "residuals are read behind each block",
            field="classifier.base",
            fix="use a family such as Gemma 2, Llama or BERT, whose layers have blocks of their own",
        )
    return min(candidates, key=lambda candidate: candidate[:2])[2]


def inner_width(block: nn.Module) -> int:
    """Width of the widest tensor within a block: the largest side of its weight matrices, the MLP's as a rule."""
    return max(max(parameter.shape[-2:]) for parameter in block.parameters() if parameter.ndim >= 2)


def block_output(output: object) -> Tensor:
    """Residual that a block or component returned: alone or, in older families, first in a tuple.

    Raises:
        ModelError: the output is neither.
    """
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor) or (first is not output and type(output) not in (tuple, list)):
        raise ModelError(
            f"a block returned a {type(output).__name__}, which is neither a residual nor a tuple that begins with one",
            field="classifier.base",
            fix="use a family such as Gemma 2, Llama or BERT",
        )
    return first


def other_outputs(output: object) -> tuple[Any, ...] | None:
    """What a block returned behind its residual; None: it returned the residual alone."""
    return tuple(output[1:]) if isinstance(output, tuple | list) else None


def with_residual(residual: Tensor, others: tuple[Any, ...] | None) -> Any:
    """Output of a block or component with another residual; `others` as of `other_outputs`."""
    return residual if others is None else (residual, *others)


def check_rows(block: nn.Module, residual: Tensor, input_ids: Tensor) -> None:
    """Refuse a residual that does not have one row per token, in the order of the tokens.

    Args:
        block: that returned it.
        residual: [B, S, d_model] if it is right.
        input_ids: int64 [B, S].

    Raises:
        ModelError: it has another shape.
    """
    if residual.shape[:-1] != input_ids.shape:
        documents, tokens = input_ids.shape
        raise ModelError(
            f"{type(block).__name__} returned a residual of shape {tuple(residual.shape)} for {documents} documents of "
            f"{tokens} tokens, where one row per token is needed, in the order of the tokens",
            field="classifier.base",
            fix="use a family that neither pads, shortens nor reorders the text within the model",
        )
