"""Passes of changed residuals through the blocks above a layer, as far as the logits need them.

Two shortcuts hold for decoders whose head reads the last position. In the last block all positions need keys and
values, but only the last position needs the rest. And a change at the last position changes nothing elsewhere, because
attention is causal: alternatives of that position run as as many queries of one document, each attending to the keys
and values of the positions before it and to its own. Both equal a whole pass, up to the order of additions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tegakari.models.architecture import block_output, with_residual
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import replaced_forward
from tegakari.models.rerun.prefix import BlockCall, Keys, Prefix, run_model
from tegakari.models.rerun.tail import logits_of


def run_block(classifier: Classifier, prefix: Prefix, layer: int, residual: Tensor) -> Tensor:
    """Run one block on all positions of n copies of the batch, [n * B, S, d_model]."""
    call = prefix.calls[layer]
    args, kwargs = _repeated(classifier, prefix, call, len(residual) // len(prefix.batch.input_ids))
    return block_output(classifier.blocks[layer](residual, *args, **kwargs))


def run_last_block(classifier: Classifier, prefix: Prefix, residual: Tensor) -> Tensor:
    """Run the last block as far as the head reads it: [n * B, S, d_model] -> [n * B, 1, d_model]."""
    layer = classifier.layers - 1
    call = prefix.calls[layer]
    repeats = len(residual) // len(prefix.batch.input_ids)
    repeated = _repeated(classifier, prefix, call, repeats)
    block = classifier.blocks[layer]
    store = _KeysOnly()
    with _without_queries(block), suppress(_KeysCompleteError):
        block(residual, *repeated.args, **repeated.kwargs, past_key_values=store)
    assert store.keys is not None  # `follows_last` admits only decoders, whose attention has a cache
    last = prefix.last.repeat(repeats)
    rows = residual[torch.arange(len(last), device=last.device), last][:, None]
    mask = _mask_rows(repeated.kwargs.get("attention_mask"), last, residual)
    places = _Places(torch.arange(len(prefix.last), device=last.device).repeat(repeats), last)
    return _call_at(block, call, places, rows, mask, _FixedKeys(store.keys))


class Alternatives:
    """Alternatives of the last position of documents, and what every block needs to run them.

    Made once per document and request: masks and rotary angles are the same in many blocks.
    """

    def __init__(self, classifier: Classifier, prefix: Prefix, owner: Tensor | None = None) -> None:
        """Prepare alternatives of N documents.

        Args:
            classifier: a decoder.
            prefix: with the keys and values of the layers that are run.
            owner: int64 [N], index in the batch of each of the N documents; default: they are the batch.
        """
        self._classifier = classifier
        self._prefix = prefix
        self._owner = owner
        documents = torch.arange(len(prefix.last), device=prefix.last.device) if owner is None else owner
        self._places = _Places(documents, prefix.last[documents])
        self._masks: dict[int, Tensor] = {}
        self._angles: dict[int, tuple[Tensor, ...]] = {}

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run one block: [N, P, d_model] -> [N, P, d_model], P alternatives of the last position of N documents."""
        call, keys = self._prefix.calls[layer], self._prefix.keys[layer]
        mask = self._document_mask(call, keys)
        if self._owner is not None:
            keys = Keys(keys.keys[self._owner], keys.values[self._owner])
        count = rows.shape[1]
        diagonal = mask.new_full((count, count), torch.finfo(mask.dtype).min).fill_diagonal_(0)
        mask = torch.cat([mask.expand(-1, -1, count, -1), diagonal.expand(len(mask), 1, -1, -1)], 3)
        block = self._classifier.blocks[layer]
        return _call_at(block, call, self._places, rows, mask, _AppendedKeys(keys), self._angles)

    def _document_mask(self, call: BlockCall, keys: Keys) -> Tensor:
        """Mask of the last positions' attention to the positions before them, [N, 1, 1, S].

        The key of the last position itself is masked: each alternative attends to its own, appended behind all others.
        """
        recorded = call.kwargs.get("attention_mask")
        if id(recorded) not in self._masks:
            mask = _mask_rows(recorded, self._prefix.last, keys.keys)
            mask = mask.scatter(3, self._prefix.last[:, None, None, None], torch.finfo(mask.dtype).min)
            self._masks[id(recorded)] = mask if self._owner is None else mask[self._owner]
        return self._masks[id(recorded)]


def read_rows(classifier: Classifier, prefix: Prefix, rows: Tensor) -> Tensor:
    """Logits of residuals of the last position: [N, P, d_model] -> float32 [N, P, labels]."""
    flat = rows.reshape(-1, 1, rows.shape[-1])
    if classifier.tail:
        return logits_of(classifier, flat, classifier.tail).view(*rows.shape[:2], -1)
    ids = prefix.batch.input_ids[:1, :1].expand(len(flat), 1)  # the head uses them only to find padding
    with _blocks_replaced(classifier, flat, prefix.others):
        # transformers takes a mask of four dimensions as it is; of another it reads values, and waits for a GPU.
        return run_model(classifier, ids, flat.new_zeros(len(flat), 1, 1, 1)).view(*rows.shape[:2], -1)


def read_all(classifier: Classifier, prefix: Prefix, residual: Tensor) -> Tensor:
    """Logits of residuals of all positions: [n * B, S, d_model] -> float32 [n * B, labels]."""
    repeats = len(residual) // len(prefix.batch.input_ids)
    with _blocks_replaced(classifier, residual, prefix.others):
        return run_model(
            classifier, prefix.batch.input_ids.repeat(repeats, 1), prefix.batch.attention_mask.repeat(repeats, 1)
        )


class _Places(NamedTuple):
    """Positions at which a block runs, one per document."""

    documents: Tensor
    """int64 [N], indices in the batch"""
    positions: Tensor
    """int64 [N]"""


class _FixedKeys:
    """Cache that holds all keys and values and ignores new ones."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def update(self, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return self._keys


class _AppendedKeys:
    """Cache that appends the keys and values of the alternatives to those of the documents."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return torch.cat([self._keys.keys, keys], 2), torch.cat([self._keys.values, values], 2)


class _KeysCompleteError(Exception):
    """Ends a block once its keys and values are computed: the rest is not needed at all positions."""


class _KeysOnly:
    """Cache that records keys and values and ends the block."""

    keys: Keys | None = None

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        self.keys = Keys(keys, values)
        raise _KeysCompleteError


def _without_queries(block: nn.Module) -> AbstractContextManager[None]:
    """A block that does not compute queries, where they are a linear projection of their own."""
    projections = [module for name, module in block.named_modules() if name.endswith(".q_proj")]
    if not (projections and isinstance(projection := projections[0], nn.Linear)):
        return nullcontext()
    width = projection.out_features

    def zeros(input: Tensor) -> Tensor:
        return input.new_zeros(()).expand(*input.shape[:-1], width)

    return replaced_forward({projection: zeros})


def _call_at(
    block: nn.Module,
    call: BlockCall,
    places: _Places,
    rows: Tensor,
    mask: Tensor,
    cache: object,
    angles: dict[int, tuple[Tensor, ...]] | None = None,
) -> Tensor:
    """Call a block on rows [N, P, d_model], those of each document at its place.

    `angles` keeps the rotary angles of the places, by the tuple that the block was called with.
    """
    kwargs = dict(call.kwargs)
    kwargs.pop("cache_position", None)
    kwargs["attention_mask"] = mask
    count = rows.shape[1]
    if kwargs.get("position_ids") is not None:
        kwargs["position_ids"] = places.positions[:, None].expand(-1, count)
    if (recorded := kwargs.get("position_embeddings")) is not None:
        angles = {} if angles is None else angles
        single = isinstance(recorded, Tensor)  # complex angles instead of their cosine and sine
        if id(recorded) not in angles:
            angles[id(recorded)] = tuple(_angles_at(values, places) for values in ((recorded,) if single else recorded))
        expanded = tuple(values.expand(-1, count, -1) for values in angles[id(recorded)])
        kwargs["position_embeddings"] = expanded[0] if single else expanded
    return block_output(block(rows, *call.args, **kwargs, past_key_values=cache))


def _angles_at(angles: Tensor, places: _Places) -> Tensor:
    """Rotary angles of the places: [1 or B, S, size] -> [N, 1, size]."""
    if len(angles) == 1:
        return angles[0, places.positions][:, None]
    return angles[places.documents, places.positions][:, None]


def _mask_rows(mask: Tensor | None, last: Tensor, like: Tensor) -> Tensor:
    """Additive attention mask of the last positions, [N, 1, 1, S]: 0 where they attend, else the dtype's minimum."""
    if mask is None:  # causal
        width = like.shape[-2]
        visible = (torch.arange(width, device=last.device) <= last[:, None])[:, None, None]
    else:
        rows = mask.expand(len(last), -1, -1, -1)[torch.arange(len(last), device=last.device), :, last][:, :, None]
        if rows.dtype != torch.bool:
            return rows.to(like.dtype)
        visible = rows
    return torch.zeros(visible.shape, dtype=like.dtype, device=last.device).masked_fill(
        ~visible, torch.finfo(like.dtype).min
    )


def _repeated(classifier: Classifier, prefix: Prefix, call: BlockCall, times: int) -> BlockCall:
    """Arguments of a block for `times` copies of the batch; what all documents share stays as it is."""
    documents = len(prefix.batch.input_ids)

    def repeat(value: Any, path: tuple[int | str, ...]) -> Any:
        if isinstance(value, Tensor):
            if path not in classifier.document_arguments or len(value) % documents:
                return value
            others = [1] * (value.ndim - 1)
            return value.repeat(times, *others) if len(value) > 1 else value.expand(times, *value.shape[1:])
        if isinstance(value, dict):
            return {name: repeat(item, (*path, name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(repeat(item, (*path, index)) for index, item in enumerate(value))
        return value

    return call if times == 1 else BlockCall(repeat(call.args, (0,)), repeat(call.kwargs, (1,)))


def _blocks_replaced(
    classifier: Classifier, residual: Tensor, others: tuple[Any, ...] | None
) -> AbstractContextManager[None]:
    """Blocks that compute nothing; the last one returns `residual`. `others` as of `other_outputs`."""
    *lower, top = classifier.blocks

    def identity(*inputs: Any, **named: Any) -> Any:
        hidden = inputs[0] if inputs else named["hidden_states"]
        return with_residual(hidden, others)

    def end(*_inputs: Any, **_named: Any) -> Any:
        return with_residual(residual, others)

    return replaced_forward({**dict.fromkeys(lower, identity), top: end})
