"""The classifier with features ablated: the edited residual of a layer runs through the layers above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.outliers import ordinary_positions
from tegakari.models.rerun.edits import Edit, check_edits, edited_rows
from tegakari.models.rerun.prefix import Prefix
from tegakari.models.rerun.suffix import read_all, read_rows, run_alternatives, run_block, run_last_block
from tegakari.models.sae import Sae

POSITIONS_PER_PASS = 4096
"""Maximum positions of a pass through a block; sets of edits share passes up to it."""


@torch.inference_mode()
def rerun(classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, sets: Sequence[Sequence[Edit]]) -> Tensor:
    """Logits of a batch with features ablated, for several sets of edits.

    Sets with the same lowest layer share passes.

    Args:
        classifier: the classifier of the prefix.
        saes: by layer.
        prefix: with the residuals of the lowest layer of each set. Keys and values of all layers above it, if present,
            shorten the passes of sets of edits at last positions alone.
        sets: at most one edit per layer in each; the edit of a layer applies to the residual that the edits below it
            have changed.

    Returns:
        float32 [sets, B, labels]. Documents that no edit changes have the logits of the prefix, bit for bit.

    Raises:
        SaeError: a layer without SAE, two edits of one layer, or a feature out of range.
    """
    for edits in sets:
        check_edits(edits, saes)
    if classifier.head == "all":  # the head reads all countable positions
        sets = [[edit._replace(positions="all") for edit in edits] for edits in sets]
    logits = prefix.logits.repeat(len(sets), 1, 1)
    ordered = {number: sorted(edits) for number, edits in enumerate(sets) if edits}

    def first_layer_and_scope(number: int) -> tuple[int, bool]:
        """Lowest layer of a set, and whether its passes need the last positions alone."""
        edits = ordered[number]
        last_only = prefix.follows_last and all(edit.positions == "head" for edit in edits)
        first = edits[0].layer
        return first, last_only and all(layer in prefix.keys for layer in range(first + 1, classifier.layers))

    sets_per_pass = max(1, POSITIONS_PER_PASS // prefix.batch.input_ids.numel())
    for (first, last_only), group in groupby(sorted(ordered, key=first_layer_and_scope), key=first_layer_and_scope):
        numbers = list(group)
        size = len(numbers) if last_only else sets_per_pass
        run = _at_last_positions if last_only else _at_all_positions
        for start in range(0, len(numbers), size):
            members = numbers[start : start + size]
            edited, changed = run(classifier, saes, prefix, first, [ordered[number] for number in members])
            logits[members] = torch.where(changed[..., None], edited, logits[members])
    return logits


def reaches_head(classifier: Classifier, sae: Sae, prefix: Prefix, edit: Edit) -> bool:
    """Whether an edit can change the logits of any document of a batch.

    An edit of the position that the head reads does, unless that position is a norm outlier, which no edit changes.
    An edit of other positions reaches the head through the attention of the layers above, which the last layer has not.

    Args:
        classifier: of the prefix.
        sae: of the edit's layer.
        prefix: with the residuals of the layer.
        edit: one layer's.
    """
    if classifier.head == "all" or (edit.positions == "all" and edit.layer < classifier.layers - 1):
        return True
    ordinary = ordinary_positions(_last_rows(prefix, prefix.residuals[edit.layer])[:, 0], sae.max_norm)
    return ordinary is None or bool(ordinary.any())


def _at_all_positions(
    classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, first: int, sets: Sequence[Sequence[Edit]]
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] from passes of all positions, and the documents that edits changed, bool [sets, B]."""
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
            set_residual = residual.view(len(sets), -1, *residual.shape[1:])[number]
            changed[number] |= _edit_in_place(set_residual, prefix, saes[layer], edit, classifier.dtype)
    if prefix.follows_last:
        logits = read_rows(classifier, prefix, residual)[:, 0]
    else:
        logits = read_all(classifier, prefix, residual)
    return logits.view(len(sets), len(prefix.last), -1), changed


def _at_last_positions(
    classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, first: int, sets: Sequence[Sequence[Edit]]
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] from passes of last positions, and the documents that edits changed, bool [sets, B]."""
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
    """Edits of a layer, with the index of their set."""
    return [(number, edit) for number, edits in enumerate(sets) for edit in edits if edit.layer == layer]


def _last_rows(prefix: Prefix, residual: Tensor) -> Tensor:
    """Last position of each document: [n * B, S, d_model] -> [n * B, 1, d_model]."""
    last = prefix.last.repeat(len(residual) // len(prefix.last))
    return residual[torch.arange(len(last), device=last.device), last][:, None]


def _edit_in_place(residual: Tensor, prefix: Prefix, sae: Sae, edit: Edit, dtype: torch.dtype) -> Tensor:
    """Edit a residual of all positions [B, S, d_model] or of the last ones [B, 1, d_model].

    Returns:
        the documents that the edit changed, bool [B].
    """
    flat = residual.view(-1, residual.shape[-1])
    batch = prefix.batch
    if residual.shape[1] == 1 and batch.input_ids.shape[1] > 1:
        edited = edited_rows(flat, sae, edit, dtype)
        flat.copy_(edited.rows)
        return edited.changed & prefix.has_positions
    if edit.positions == "head":
        width = batch.input_ids.shape[1]
        last = (torch.arange(len(prefix.last), device=flat.device) * width + prefix.last)[prefix.has_positions]
        edited = edited_rows(flat.index_select(0, last), sae, edit, dtype)
        flat.index_copy_(0, last, edited.rows)
        return torch.zeros_like(prefix.has_positions).masked_scatter(prefix.has_positions, edited.changed)
    edited = edited_rows(flat.index_select(0, batch.positions), sae, edit, dtype)
    flat.index_copy_(0, batch.positions, edited.rows)
    sums = torch.cat([edited.changed.new_zeros(1, dtype=torch.int64), edited.changed.cumsum(0)])
    return sums[batch.offsets[1:]] > sums[batch.offsets[:-1]]
