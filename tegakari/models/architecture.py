"""Parts of a transformers model: its text configuration, its list of blocks, and a block's output."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from tegakari.schemas.errors import ModelError


def text_config(model: PreTrainedModel):  # noqa: ANN201 - transformers' configuration classes share no typed base
    """Configuration of the part of a model that reads text; of a model of text alone, its configuration."""
    return model.config.get_text_config()


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """List of decoder (or encoder) blocks: the outermost module list of the configured length.

    Raises:
        ModelError: the model has no such list.
    """
    depth = text_config(model).num_hidden_layers
    candidates = [
        (name.count("."), name, module)
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not candidates:
        raise ModelError(f"{type(model).__name__} has no list of {depth} blocks", field="classifier.base")
    return min(candidates, key=lambda candidate: candidate[:2])[2]


def block_output(output: object) -> Tensor:
    """Residual that a block or component returned: alone or, in older families, first in a tuple."""
    return output if isinstance(output, Tensor) else output[0]  # type: ignore[index]
