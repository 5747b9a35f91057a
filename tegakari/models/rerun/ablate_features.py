"""The classifier with features ablated: the edited residual of a layer runs through the layers above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.models.architecture import inner_width, text_config
from tegakari.models.classifier import Classifier
from tegakari.models.memory import free_bytes
from tegakari.models.outliers import ordinary_positions
from tegakari.models.rerun.edits import (
    Edit,
    EditedRows,
    Positions,
    check_edits,
    edited_rows,
    is_separable,
    remove_features,
)
from tegakari.models.rerun.prefix import Prefix
from tegakari.models.rerun.suffix import Alternatives, read_all, read_rows, run_block, run_last_block
from tegakari.models.sae import Sae
from tegakari.schemas.errors import KernelError
from tegakari.schemas.progress import OnStep, no_step

POSITIONS_PER_PASS = 4096
"""Positions of a pass through a block on a CPU; sets of edits share passes up to it."""

GPU_POSITIONS_PER_PASS = 65_536
"""The same on a GPU, where a small pass takes as long to issue as a large one; less if memory is short."""

GPU_MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that a pass may take."""


def position_bytes(classifier: Classifier, tokens: int) -> int:
    """Estimated memory of a pass per position: residuals, two inner tensors of an MLP, attention scores.

    Args:
        classifier: any.
        tokens: of the longest document.
    """
    heads = text_config(classifier.model).num_attention_heads
    inner = max(map(inner_width, classifier.blocks))
    values = 4 * classifier.d_model + 2 * inner + heads * tokens
    return values * classifier.dtype.itemsize


def positions_per_pass(classifier: Classifier, tokens: int) -> int:
    """Maximum positions of a pass through a block of documents of up to `tokens` tokens."""
    if classifier.device.type == "cpu":
        return POSITIONS_PER_PASS
    fitting = int(GPU_MEMORY_SHARE * free_bytes(classifier.device) / position_bytes(classifier, tokens))
    return max(POSITIONS_PER_PASS, min(GPU_POSITIONS_PER_PASS, fitting))


@torch.inference_mode()
def rerun(
    classifier: Classifier,
    saes: Mapping[int, Sae],
    prefix: Prefix,
    sets: Sequence[Sequence[Edit]],
    *,
    max_positions: int | None = None,
    on_step: OnStep = no_step,
) -> Tensor:
    """Logits of a batch with features ablated, for several sets of edits.

    Sets with the same lowest layer share passes.

    Args:
        classifier: the classifier of the prefix.
        saes: by layer.
        prefix: with the residuals of the lowest layer of each set. Keys and values of all layers above it, if present,
            shorten the passes of sets of edits at last positions alone.
        sets: at most one edit per layer in each; the edit of a layer applies to the residual that the edits below it
            have changed.
        max_positions: of a pass through a block, unless a document has more; None: as many as are fast on the device.
        on_step: called after each block and each edit; it may raise, to end the work.

    Returns:
        float32 [sets, B, labels]. Documents that no edit changes have the logits of the prefix, bit for bit.

    Raises:
        SaeError: a layer without SAE, two edits of one layer, or a feature out of range.
        KernelError: a residual or a pre-activation is NaN or infinite.
    """
    for edits in sets:
        check_edits(edits, saes)
    if classifier.head == "all":  # the head reads all countable positions
        sets = [[edit._replace(positions="all") for edit in edits] for edits in sets]
    ordered = {number: sorted(edits) for number, edits in enumerate(sets) if edits}

    def first_layer_and_scope(number: int) -> tuple[int, bool]:
        """Lowest layer of a set, and whether its passes need the last positions alone."""
        edits = ordered[number]
        last_only = prefix.follows_last and all(edit.positions == "head" for edit in edits)
        first = edits[0].layer
        return first, last_only and all(layer in prefix.keys for layer in range(first + 1, classifier.layers))

    logits = [prefix.logits] * len(sets)
    finite: list[Tensor] = []
    for (first, last_only), group in groupby(sorted(ordered, key=first_layer_and_scope), key=first_layer_and_scope):
        numbers = list(group)
        size = len(numbers) if last_only else _sets_per_pass(classifier, prefix, len(numbers))
        if max_positions is not None:
            size = min(
                size, max(1, max_positions // (len(prefix.last) if last_only else prefix.batch.input_ids.numel()))
            )
        run = _at_last_positions if last_only else _at_all_positions
        for start in range(0, len(numbers), size):
            members = numbers[start : start + size]
            edits_of_sets = [ordered[number] for number in members]
            edited, changed = run(classifier, saes, prefix, first, edits_of_sets, finite, on_step)
            selected = torch.where(changed[..., None], edited, prefix.logits)
            for number, set_logits in zip(members, selected, strict=True):
                logits[number] = set_logits
    if finite and not bool(torch.stack(finite).all()):
        raise KernelError(
            "a residual or a pre-activation is not finite",
            field="residual",
            fix="use a classifier and SAEs without NaN, in a dtype that does not overflow",
        )
    return torch.stack(logits) if logits else prefix.logits[None][:0]


def _sets_per_pass(classifier: Classifier, prefix: Prefix, sets: int) -> int:
    if sets == 1:
        return 1
    documents, tokens = prefix.batch.input_ids.shape
    return max(1, positions_per_pass(classifier, tokens) // (documents * tokens))


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
    classifier: Classifier,
    saes: Mapping[int, Sae],
    prefix: Prefix,
    first: int,
    sets: Sequence[Sequence[Edit]],
    finite: list[Tensor],
    on_step: OnStep,
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] from passes of all positions, and the documents that edits changed, bool [sets, B].

    `finite` receives a flag per edit, as of `EditedRows`.
    """
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
        by_set = residual.view(len(sets), -1, residual.shape[-1])
        for positions, numbers, edits in _edits_of(sets, layer):
            rows = _rows_of(prefix, positions, whole=residual.shape[1] == prefix.batch.input_ids.shape[1])
            of_sets = _edit_rows(by_set, numbers, rows.places, saes[layer], edits, classifier.dtype, finite, on_step)
            changed[numbers] |= _changed_documents(prefix, rows, of_sets)
        on_step()
    if prefix.follows_last:
        logits = read_rows(classifier, prefix, residual)[:, 0]
    else:
        logits = read_all(classifier, prefix, residual)
    return logits.view(len(sets), len(prefix.last), -1), changed


def _at_last_positions(
    classifier: Classifier,
    saes: Mapping[int, Sae],
    prefix: Prefix,
    first: int,
    sets: Sequence[Sequence[Edit]],
    finite: list[Tensor],
    on_step: OnStep,
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] from passes of last positions, and the documents that edits changed, bool [sets, B].

    `finite` as of `_at_all_positions`.
    """
    rows = _last_rows(prefix, prefix.residuals[first]).repeat(1, len(sets), 1)
    alternatives = Alternatives(classifier, prefix)
    changed = torch.zeros(len(sets), len(prefix.last), dtype=torch.bool, device=rows.device)
    for layer in range(first, classifier.layers):
        if layer > first:
            rows = alternatives.run_block(layer, rows)
        by_set = rows.transpose(0, 1)
        for _, numbers, edits in _edits_of(sets, layer):
            of_sets = _edit_rows(by_set, numbers, None, saes[layer], edits, classifier.dtype, finite, on_step)
            changed[numbers] |= of_sets & prefix.has_positions
        on_step()
    return read_rows(classifier, prefix, rows).transpose(0, 1), changed


def _edits_of(sets: Sequence[Sequence[Edit]], layer: int) -> list[tuple[Positions, slice | list[int], list[Edit]]]:
    """Edits of a layer, those of the same positions together, with the indices of their sets."""
    groups: dict[Positions, list[tuple[int, Edit]]] = {}
    for number, edits in enumerate(sets):
        for edit in edits:
            if edit.layer == layer:
                groups.setdefault(edit.positions, []).append((number, edit))
    return [
        (
            positions,
            slice(None) if len(members) == len(sets) else [number for number, _ in members],
            [edit for _, edit in members],
        )
        for positions, members in groups.items()
    ]


class _EditedPositions(NamedTuple):
    """Positions that an edit applies to."""

    places: Tensor | None
    """int64, indices of the rows of a flat residual; None: all of its rows"""
    per_document: bool
    """whether they are one row per document, and not all countable positions"""


def _rows_of(prefix: Prefix, positions: Positions, *, whole: bool) -> _EditedPositions:
    """Positions of an edit in a residual of the whole batch, or of one row per document."""
    if not whole or prefix.batch.input_ids.shape[1] == 1:
        return _EditedPositions(None, per_document=True)
    if positions == "all":
        return _EditedPositions(prefix.batch.positions, per_document=False)
    width = prefix.batch.input_ids.shape[1]
    starts = torch.arange(0, len(prefix.last) * width, width, device=prefix.last.device)
    return _EditedPositions(starts + prefix.last, per_document=True)


def _edit_rows(
    residual: Tensor,
    numbers: slice | list[int],
    places: Tensor | None,
    sae: Sae,
    edits: Sequence[Edit],
    dtype: torch.dtype,
    finite: list[Tensor],
    on_step: OnStep,
) -> Tensor:
    """Edit rows of the residuals of several sets, [sets, R, d_model], in place.

    Returns:
        the rows that each edit changed, bool [edits, rows].
    """
    selected = residual[numbers]
    rows = selected if places is None else selected.index_select(1, places)
    if all(is_separable(sae, edit.mode) for edit in edits):
        edited = remove_features(rows, sae, [edit.features for edit in edits], dtype)
    else:
        parts: list[EditedRows] = []
        for set_rows, edit in zip(rows, edits, strict=True):
            parts.append(edited_rows(set_rows, sae, edit, dtype))
            on_step()
        edited = EditedRows(*(torch.stack(values) for values in zip(*parts, strict=True)))
    finite.append(edited.finite.all())
    on_step()
    if places is not None:
        selected.index_copy_(1, places, edited.rows)
    if places is None or not isinstance(numbers, slice):  # a slice of the residual is the residual itself
        residual[numbers] = edited.rows if places is None else selected
    return edited.changed


def _changed_documents(prefix: Prefix, rows: _EditedPositions, changed: Tensor) -> Tensor:
    """Documents of which a row changed, [n, R] -> bool [n, B]."""
    if rows.per_document:
        return changed & prefix.has_positions
    offsets = prefix.batch.offsets
    sums = torch.cat([changed.new_zeros(len(changed), 1, dtype=torch.int64), changed.cumsum(1)], 1)
    return sums[:, offsets[1:]] > sums[:, offsets[:-1]]


def _last_rows(prefix: Prefix, residual: Tensor) -> Tensor:
    """Last position of each document: [n * B, S, d_model] -> [n * B, 1, d_model]."""
    last = prefix.last.repeat(len(residual) // len(prefix.last))
    return residual[torch.arange(len(last), device=last.device), last][:, None]
