"""Batches whose documents stand behind each other in one row, without padding, and their loss.

Each document is read as if it were alone: its positions begin at 0, and attention does not reach the others. So the
gradient is that of a padded batch, up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GenericForSequenceClassification

from tegakari.indexer.training.classifier.examples import Example
from tegakari.models.architecture import text_config
from tegakari.models.tokens import head_index
from tegakari.schemas.errors import ModelError


def check_packable(model: PreTrainedModel) -> None:
    """Check that a model can be trained on packed batches.

    Raises:
        ModelError: it is no decoder whose head reads the last token, or its attention needs padding.
    """
    config = text_config(model)
    if (
        not isinstance(model, GenericForSequenceClassification)
        or getattr(config, "use_bidirectional_attention", False)
        or config._attn_implementation not in ("eager", "sdpa")
    ):
        raise ModelError(
            f"{type(model).__name__} cannot read several documents in one row",
            field="classifier.packed",
            fix="set it to false; decoders such as Gemma 2, Llama, Mistral or Qwen 2 can",
        )


def make_packed_batch(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Arguments of `packed_loss`, int64: token ids and positions [1, T], classes and places that the head reads [B]."""
    lengths = [len(example.input_ids) for example in examples]
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    heads = [head_index(example.input_ids.tolist(), "last", pad_id) or 0 for example in examples]
    return {
        "input_ids": torch.cat([torch.from_numpy(example.input_ids).long() for example in examples])[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "head_places": torch.tensor([start + head for start, head in zip(starts, heads, strict=True)]),
        "labels": torch.tensor([example.label for example in examples]),
    }


def packed_loss(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Mean cross-entropy of the documents of a batch of `make_packed_batch`, on the model's device."""
    hidden = model.base_model(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
    ).last_hidden_state[0]
    logits = model.score(hidden.index_select(0, batch["head_places"]))  # type: ignore[operator]
    return torch.nn.functional.cross_entropy(logits.float(), batch["labels"])
