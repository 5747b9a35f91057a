"""The blocks above a layer, run again on residuals that were changed, and no more of them than the logits need.

Two shortcuts hold for decoders whose head reads the last position. In the last block every position gives keys and
values, and only the last one needs the rest. And what changes at the last position alone changes nothing elsewhere,
because attention is causal: alternatives of that position run as so many queries of one document, each seeing the keys
and values of the positions before it and its own. Both give what a whole pass gives, up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from tegakari.models.classifier import Classifier, block_output
from tegakari.models.rerun.prefix import BlockCall, Keys, Prefix, run_model


def run_block(classifier: Classifier, prefix: Prefix, layer: int, residual: Tensor) -> Tensor:
    """Run one block on all positions: [n * B, S, d_model], the batch n times over."""
    call = prefix.calls[layer]
    size = len(prefix.batch.input_ids)
    args, kwargs = _repeated((call.args, call.kwargs), size, len(residual) // size)
    return block_output(classifier.blocks[layer](residual, *args, **kwargs))


def run_last_block(classifier: Classifier, prefix: Prefix, residual: Tensor) -> Tensor:
    """Run the last block as far as the head reads it: [n * B, S, d_model] -> [n * B, 1, d_model]."""
    layer = classifier.layers - 1
    call = prefix.calls[layer]
    size = len(prefix.batch.input_ids)
    repeats = len(residual) // size
    args, kwargs = _repeated((call.args, call.kwargs), size, repeats)
    block = classifier.blocks[layer]
    store = _KeysOnly()
    with _without_queries(block), suppress(_KeysAreKnownError):
        block(residual, *args, **kwargs, past_key_values=store)
    assert store.known is not None  # `follows_last` asked for a decoder, whose attention has a cache
    last = prefix.last.repeat(repeats)
    rows = residual[torch.arange(len(last), device=last.device), last][:, None]
    mask = _mask_rows(kwargs.get("attention_mask"), last, residual)
    return _call_at(block, call, last, rows, mask, _Known(store.known))


def run_alternatives(
    classifier: Classifier, prefix: Prefix, layer: int, rows: Tensor, owner: Tensor | None = None
) -> Tensor:
    """Run one block on alternatives of the last position.

    Args:
        classifier: a decoder.
        prefix: with the keys and values of the layer.
        layer: of the block.
        rows: [N, P, d_model], P alternatives of the last position of N documents.
        owner: int64 [N], the document of the batch each row belongs to; default: they are the batch.

    Returns:
        [N, P, d_model].
    """
    call, known = prefix.calls[layer], prefix.keys[layer]
    last = prefix.last
    mask = _mask_rows(call.kwargs.get("attention_mask"), last, known.keys)
    # The key of the last position itself is replaced by each alternative's own, which stand behind all others.
    mask = mask.scatter(3, last[:, None, None, None], torch.finfo(mask.dtype).min)
    if owner is not None:
        last, mask, known = last[owner], mask[owner], Keys(known.keys[owner], known.values[owner])
    count = rows.shape[1]
    own = mask.new_full((count, count), torch.finfo(mask.dtype).min).fill_diagonal_(0)
    mask = torch.cat([mask.expand(-1, -1, count, -1), own.expand(len(mask), 1, -1, -1)], 3)
    return _call_at(classifier.blocks[layer], call, last, rows, mask, _Behind(known))


def read_rows(classifier: Classifier, prefix: Prefix, rows: Tensor) -> Tensor:
    """What the head makes of residuals of the last position: [N, P, d_model] -> float32 [N, P, labels]."""
    flat = rows.reshape(-1, 1, rows.shape[-1])
    ids = prefix.batch.input_ids[:1, :1].expand(len(flat), 1)  # the head looks at them only to tell padding
    with _blocks_replaced(classifier, flat, prefix.tuples):
        return run_model(classifier, ids, torch.ones_like(ids)).view(*rows.shape[:2], -1)


def read_all(classifier: Classifier, prefix: Prefix, residual: Tensor) -> Tensor:
    """What the head makes of all positions: [n * B, S, d_model] -> float32 [n * B, labels]."""
    repeats = len(residual) // len(prefix.batch.input_ids)
    with _blocks_replaced(classifier, residual, prefix.tuples):
        return run_model(
            classifier, prefix.batch.input_ids.repeat(repeats, 1), prefix.batch.attention_mask.repeat(repeats, 1)
        )


class _Known:
    """Keys and values that are complete."""

    def __init__(self, known: Keys) -> None:
        self.known = known

    def update(self, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return self.known


class _Behind:
    """Keys and values with those of the alternatives behind them."""

    def __init__(self, known: Keys) -> None:
        self.known = known

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        return torch.cat([self.known.keys, keys], 2), torch.cat([self.known.values, values], 2)


class _KeysAreKnownError(Exception):
    """Ends a block where its keys and values are known: what follows is not needed at all positions."""


class _KeysOnly:
    known: Keys | None = None

    def update(self, keys: Tensor, values: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        self.known = Keys(keys, values)
        raise _KeysAreKnownError


@contextmanager
def _without_queries(block: nn.Module) -> Iterator[None]:
    """Spare the queries, where they are a projection of their own."""
    found = [module for name, module in block.named_modules() if name.endswith(".q_proj")]
    projection = found[0] if found else None
    if not isinstance(projection, nn.Linear):
        yield
        return
    width = projection.out_features

    def nothing(input: Tensor) -> Tensor:
        return input.new_zeros(()).expand(*input.shape[:-1], width)

    projection.forward = nothing
    try:
        yield
    finally:
        del projection.forward  # the class's own is seen again


def _call_at(block: nn.Module, call: BlockCall, last: Tensor, rows: Tensor, mask: Tensor, cache: object) -> Tensor:
    """Call a block on rows [N, P, d_model] that all stand at the last positions [N]."""
    kwargs = dict(call.kwargs)
    kwargs.pop("cache_position", None)
    kwargs["attention_mask"] = mask
    if kwargs.get("position_ids") is not None:
        kwargs["position_ids"] = last[:, None].expand(-1, rows.shape[1])
    if kwargs.get("position_embeddings") is not None:
        kwargs["position_embeddings"] = tuple(
            (angles[0, last] if len(angles) == 1 else angles[torch.arange(len(last), device=last.device), last])[
                :, None
            ].expand(-1, rows.shape[1], -1)
            for angles in kwargs["position_embeddings"]
        )
    return block_output(block(rows, *call.args, **kwargs, past_key_values=cache))


def _mask_rows(mask: Tensor | None, last: Tensor, like: Tensor) -> Tensor:
    """Which positions the last ones see: what is added to their scores, [N, 1, 1, S], 0 or the dtype's least."""
    least = torch.finfo(like.dtype).min
    if mask is None:  # plainly causal
        width = like.shape[-2]
        seen = (torch.arange(width, device=last.device) <= last[:, None])[:, None, None]
    else:
        rows = mask.expand(len(last), -1, -1, -1)[torch.arange(len(last), device=last.device), :, last][:, :, None]
        if rows.dtype != torch.bool:
            return rows.to(like.dtype)
        seen = rows
    return torch.zeros(seen.shape, dtype=like.dtype, device=last.device).masked_fill(~seen, least)


def _repeated(value: Any, size: int, times: int) -> Any:
    """Repeat what belongs to the documents of a batch; what they share has a first dimension of 1, or none."""
    if times == 1 or size == 1:
        return value
    if isinstance(value, Tensor):
        return value.repeat(times, *[1] * (value.ndim - 1)) if value.ndim > 1 and len(value) == size else value
    if isinstance(value, dict):
        return {name: _repeated(item, size, times) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_repeated(item, size, times) for item in value)
    return value


@contextmanager
def _blocks_replaced(classifier: Classifier, residual: Tensor, tuples: bool) -> Iterator[None]:
    """Let the blocks do nothing but end with a residual."""
    blocks = list(classifier.blocks)

    def handing_on(block: nn.Module) -> Callable[..., Any]:
        def forward(*inputs: Any, **named: Any) -> Any:
            hidden = inputs[0] if inputs else named["hidden_states"]
            out = residual if block is blocks[-1] else hidden
            return (out,) if tuples else out

        return forward

    for block in blocks:
        block.forward = handing_on(block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
