"""The classifier without some of its features: what they leave of a residual runs on through the layers above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.rerun.edits import Edit, check_edits, edited_rows
from tegakari.models.rerun.prefix import Prefix
from tegakari.models.rerun.suffix import read_all, read_rows, run_alternatives, run_block, run_last_block
from tegakari.models.sae import Sae

TOKENS_TOGETHER = 4096
"""Positions that go through a block together; sets of edits share a pass up to this."""


@torch.inference_mode()
def rerun(classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, sets: Sequence[Sequence[Edit]]) -> Tensor:
    """Logits of a batch with features taken out, for several sets of edits.

    Sets that begin at the same layer go through the model together.

    Args:
        classifier: the one that made the prefix.
        saes: by layer.
        prefix: with the residuals of the lowest layer of each set; for sets of edits at last positions alone, with the
            keys and values above it, where it has any.
        sets: each has one edit a layer at most; that of a higher layer sees the residual that those below have changed.

    Returns:
        float32 [sets, B, labels]. Documents that no edit reaches have those of the prefix, bit for bit.

    Raises:
        SaeError: a layer without SAE, two edits of one layer, or a feature out of range.
    """
    for edits in sets:
        check_edits(edits, saes)
    logits = prefix.logits.repeat(len(sets), 1, 1)
    ordered = {number: sorted(edits) for number, edits in enumerate(sets) if edits}

    def way(number: int) -> tuple[int, bool]:
        edits = ordered[number]
        at_last = prefix.follows_last and all(edit.positions == "last" for edit in edits)
        first = edits[0].layer
        return first, at_last and all(layer in prefix.keys for layer in range(first + 1, classifier.layers))

    for (first, single), group in groupby(sorted(ordered, key=way), key=way):
        members = list(group)
        at_once = max(1, TOKENS_TOGETHER // prefix.batch.input_ids.numel())
        for start in range(0, len(members), len(members) if single else at_once):
            chosen = members[start : start + (len(members) if single else at_once)]
            parts = [ordered[number] for number in chosen]
            run = _at_last_positions if single else _at_all_positions
            found, changed = run(classifier, saes, prefix, first, parts)
            logits[chosen] = torch.where(changed[..., None], found, logits[chosen])
    return logits


def _at_all_positions(
    classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, first: int, sets: Sequence[Sequence[Edit]]
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels], and which documents were changed, [sets, B]."""
    residual = prefix.residuals[first].repeat(len(sets), 1, 1)
    changed = torch.zeros(len(sets), len(prefix.last), dtype=torch.bool, device=residual.device)
    top = classifier.layers - 1
    for layer in range(first, classifier.layers):
        if layer > first:
            if layer == top and prefix.follows_last:
                residual = run_last_block(classifier, prefix, residual)
            else:
                residual = run_block(classifier, prefix, layer, residual)
        elif layer == top and prefix.follows_last:
            residual = _last_rows(prefix, residual)
        for number, edit in _edits_of(sets, layer):
            mine = residual.view(len(sets), -1, *residual.shape[1:])[number]
            changed[number] |= _edit_in_place(mine, prefix, saes[layer], edit, classifier.dtype)
    if prefix.follows_last:
        logits = read_rows(classifier, prefix, residual)[:, 0]
    else:
        logits = read_all(classifier, prefix, residual)
    return logits.view(len(sets), len(prefix.last), -1), changed


def _at_last_positions(
    classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, first: int, sets: Sequence[Sequence[Edit]]
) -> tuple[Tensor, Tensor]:
    rows = _last_rows(prefix, prefix.residuals[first]).repeat(1, len(sets), 1)
    changed = torch.zeros(len(sets), len(prefix.last), dtype=torch.bool, device=rows.device)
    for layer in range(first, classifier.layers):
        if layer > first:
            rows = run_alternatives(classifier, prefix, layer, rows)
        for number, edit in _edits_of(sets, layer):
            edited = edited_rows(rows[:, number], saes[layer], edit, classifier.dtype)
            rows[:, number] = edited.rows
            changed[number] |= edited.changed & prefix.has_positions
    return read_rows(classifier, prefix, rows).transpose(0, 1), changed


def _edits_of(sets: Sequence[Sequence[Edit]], layer: int) -> list[tuple[int, Edit]]:
    return [(number, edit) for number, edits in enumerate(sets) for edit in edits if edit.layer == layer]


def _last_rows(prefix: Prefix, residual: Tensor) -> Tensor:
    """Of all positions [n * B, S, d_model] the last ones, [n * B, 1, d_model]."""
    last = prefix.last.repeat(len(residual) // len(prefix.last))
    return residual[torch.arange(len(last), device=last.device), last][:, None]


def _edit_in_place(residual: Tensor, prefix: Prefix, sae: Sae, edit: Edit, dtype: torch.dtype) -> Tensor:
    """Edit [B, S, d_model], or the last positions alone, [B, 1, d_model]; says which documents it changed, [B]."""
    flat = residual.view(-1, residual.shape[-1])
    batch = prefix.batch
    if residual.shape[1] == 1 and batch.input_ids.shape[1] > 1:
        edited = edited_rows(flat, sae, edit, dtype)
        flat.copy_(edited.rows)
        return edited.changed & prefix.has_positions
    if edit.positions == "last":
        width = batch.input_ids.shape[1]
        at = (torch.arange(len(prefix.last), device=flat.device) * width + prefix.last)[prefix.has_positions]
        edited = edited_rows(flat.index_select(0, at), sae, edit, dtype)
        flat.index_copy_(0, at, edited.rows)
        return torch.zeros_like(prefix.has_positions).masked_scatter(prefix.has_positions, edited.changed)
    edited = edited_rows(flat.index_select(0, batch.positions), sae, edit, dtype)
    flat.index_copy_(0, batch.positions, edited.rows)
    sums = torch.cat([edited.changed.new_zeros(1, dtype=torch.int64), edited.changed.cumsum(0)])
    return sums[batch.offsets[1:]] > sums[batch.offsets[:-1]]
