"""One ordinary pass over a batch, recorded for passes that start at a higher layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GenericForSequenceClassification

from tegakari.models.architecture import block_output, check_rows, other_outputs
from tegakari.models.attention import ATTENTION
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import forward_hooks
from tegakari.models.rerun.cuda_graph import CudaGraph
from tegakari.models.rerun.recordings import Recordings
from tegakari.models.tokens import Batch
from tegakari.schemas.progress import OnStep, no_step


class BlockCall(NamedTuple):
    """Arguments of a block besides the residual: masks, rotary angles, positions."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Keys(NamedTuple):
    """Keys and values of a block's attention at all positions, [B, heads, S, head size]."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Prefix:
    """Record of an ordinary pass over a batch."""

    batch: Batch
    logits: Tensor
    """float32 [B, labels]"""
    residuals: Mapping[int, Tensor]
    """layer -> raw output of its block, [B, S, d_model]"""
    calls: Mapping[int, BlockCall]
    """layer -> arguments of its block"""
    keys: Mapping[int, Keys]
    """layer -> keys and values of its block; only of the layers requested"""
    last: Tensor
    """int64 [B], see `last_positions`"""
    follows_last: bool
    """Whether, given keys and values, the logits depend on the last position alone: attention is causal, and the head
    reads that position of every document."""
    others: tuple[Any, ...] | None
    """what the last block returned behind its residual, as `other_outputs`"""
    recordings: Recordings = field(default_factory=Recordings)
    """of passes that start from the residuals"""

    @property
    def has_positions(self) -> Tensor:
        """Documents with a position that is not special, bool [B]; no feature can be removed from the others."""
        return self.batch.offsets.diff() > 0

    @property
    def nbytes(self) -> int:
        """Bytes of the residuals, keys, values and masks."""
        tensors = [*self.residuals.values(), *(tensor for keys in self.keys.values() for tensor in keys)]
        masks = {id(mask): mask.nbytes for call in self.calls.values() for mask in tensors_of(call.kwargs)}
        return sum(tensor.nbytes for tensor in tensors) + sum(masks.values())


@torch.inference_mode()
def run_prefix(
    classifier: Classifier,
    batch: Batch,
    layers: Sequence[int],
    *,
    keys_above: int | None = None,
    on_step: OnStep = no_step,
) -> Prefix:
    """Run the classifier once and record the pass.

    Args:
        classifier: any.
        batch: documents.
        layers: layers whose residuals are kept, special positions and padding included.
        keys_above: keep the keys and values of all layers above this one (-1: of all), for passes of single positions.
        on_step: called after each block; it may raise, to end the pass.

    Raises:
        ModelError: a block does not return one row per token.
    """
    last = last_positions(batch)
    single = follows_last(classifier, batch, last)
    with_keys = range(keys_above + 1, classifier.layers) if keys_above is not None and single else range(0)
    with _recording(classifier, batch, layers, with_keys, on_step) as record:
        logits = run_model(classifier, batch.input_ids, batch.attention_mask)
    recordings = Recordings(CudaGraph if classifier.device.type == "cuda" else None)
    return Prefix(batch, logits, record.residuals, record.calls, record.keys, last, single, record.others, recordings)


def last_positions(batch: Batch) -> Tensor:
    """The last countable position of each document, which its head reads, int64 [B]; without one, its last token.

    Countable positions are ordered (`Batch.positions`): of a head that reads the first position, that is the last here.
    """
    last_tokens = batch.attention_mask.sum(1) - 1
    if not len(batch.positions):
        return last_tokens
    last_countable = batch.positions[(batch.offsets[1:] - 1).clamp_min(0)] % batch.input_ids.shape[1]
    return torch.where(batch.offsets.diff() > 0, last_countable, last_tokens)


def run_model(classifier: Classifier, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Logits of a batch, float32 [B, labels]."""
    return classifier.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits.float()


def follows_last(classifier: Classifier, batch: Batch, last: Tensor) -> bool:
    """Value of `Prefix.follows_last`. The head of transformers' decoders reads the last token that is not padding."""
    model = classifier.model
    config = model.config.get_text_config()
    if not classifier.last_alone or not isinstance(model, GenericForSequenceClassification):
        return False
    if getattr(config, "use_bidirectional_attention", False):
        return False
    if config._attn_implementation not in ("eager", "sdpa", ATTENTION):  # other implementations take other masks
        return False
    not_padding = (batch.input_ids != config.pad_token_id).int()
    read = (torch.arange(batch.input_ids.shape[1], device=last.device) * not_padding).argmax(1)
    return bool((read == last).all())


class KeyStore:
    """Cache of keys and values that attention fills; it records them and changes nothing."""

    def __init__(self) -> None:
        self.keys: dict[int, Keys] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        self.keys[layer] = Keys(keys, values)
        return keys, values


class _Record:
    """What `_recording` collects during a pass."""

    def __init__(self) -> None:
        self.residuals: dict[int, Tensor] = {}
        self.calls: dict[int, BlockCall] = {}
        self.store = KeyStore()
        self.others: tuple[Any, ...] | None = None

    @property
    def keys(self) -> dict[int, Keys]:
        return self.store.keys


@contextmanager
def _recording(
    classifier: Classifier, batch: Batch, layers: Sequence[int], with_keys: range, on_step: OnStep
) -> Iterator[_Record]:
    """Record the blocks' arguments, the residuals of `layers`, and the keys and values of the layers `with_keys`."""
    record = _Record()
    with forward_hooks() as hooks:
        for layer, block in enumerate(classifier.blocks):

            def record_call(
                _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int = layer
            ) -> Any:
                omitted = ("hidden_states", "past_key_values")
                record.calls[layer] = BlockCall(
                    args[1:], {name: value for name, value in kwargs.items() if name not in omitted}
                )
                return (args, {**kwargs, "past_key_values": record.store}) if layer in with_keys else None

            def record_output(block: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                record.others = other_outputs(output)
                if layer in layers:
                    record.residuals[layer] = block_output(output)
                    check_rows(block, record.residuals[layer], batch.input_ids)

            hooks.before(block, record_call)
            hooks.after(block, record_output)
        if on_step is not no_step:
            hooks.after_each(classifier.blocks, on_step)
        yield record


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item)
