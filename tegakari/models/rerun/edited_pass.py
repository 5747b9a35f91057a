"""A pass of edited residuals: sets of edits run together through the layers above their lowest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.rerun.edits import (
    Edit,
    EditedRows,
    EditGroup,
    GroupIndices,
    Positions,
    edited_rows,
    group_indices,
    is_separable,
    remove_features,
)
from tegakari.models.rerun.prefix import Prefix
from tegakari.models.rerun.suffix import Alternatives, read_all, read_rows, run_block, run_last_block
from tegakari.models.sae import Sae
from tegakari.schemas.progress import OnStep


class EditedPass(NamedTuple):
    """Sets of edits of one lowest layer, whose residuals run through the layers above it together."""

    first: int
    """the lowest layer"""
    last_only: bool
    """whether the last positions alone run"""
    sets: int
    groups: tuple[EditGroup, ...]
    """all edits, layers ascending"""

    @property
    def shape(self) -> tuple[object, ...]:
        """Everything about the sets that decides about the operations of the pass, if all edits are separable."""
        groups = [
            (group.layer, group.positions, len(group.edits), group.sets is None, group.width) for group in self.groups
        ]
        return self.first, self.last_only, self.sets, *groups


def edit_groups(sets: Sequence[Sequence[Edit]]) -> tuple[EditGroup, ...]:
    """Edits of several sets, those of one layer at the same positions together."""
    members: dict[tuple[int, Positions], list[tuple[int, Edit]]] = {}
    for number, edits in enumerate(sets):
        for edit in edits:
            members.setdefault((edit.layer, edit.positions), []).append((number, edit))
    return tuple(
        EditGroup(
            layer,
            positions,
            tuple(edit for _, edit in of_group),
            None if len(of_group) == len(sets) else tuple(number for number, _ in of_group),
        )
        for (layer, positions), of_group in sorted(members.items())
    )


def edited_logits(
    classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, sets: EditedPass, indices: Tensor, on_step: OnStep
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] of a pass, and whether all activations of each group of edits are finite, bool [groups].

    If all edits are separable, these are operations on the device alone, and passes of one shape differ in `indices`.

    Args:
        classifier: of the prefix.
        saes: of the layers with edits.
        prefix: with the residuals of the lowest layer; with keys and values of those above it, if `last_only`.
        sets: of edits.
        indices: int64 [n], `EditGroup.indices` of all groups.
        on_step: called after each block and each edit.
    """
    edits = _GroupEdits(classifier, saes, sets.groups, indices, on_step)
    run = _at_last_positions if sets.last_only else _at_all_positions
    edited, changed = run(classifier, prefix, sets, edits, on_step)
    return torch.where(changed[..., None], edited, prefix.logits), torch.stack(edits.finite)


class _GroupEdits:
    """The edits of a pass, by layer."""

    def __init__(
        self,
        classifier: Classifier,
        saes: Mapping[int, Sae],
        groups: Sequence[EditGroup],
        indices: Tensor,
        on_step: OnStep,
    ) -> None:
        self._classifier, self._saes, self._on_step = classifier, saes, on_step
        self._groups = list(zip(groups, group_indices(groups, indices), strict=True))
        self.finite: list[Tensor] = []
        """per group of edits made so far, whether all activations that it computed are finite, bool []"""

    def of_layer(self, layer: int) -> list[tuple[EditGroup, GroupIndices]]:
        return [(group, indices) for group, indices in self._groups if group.layer == layer]

    def edit_rows(self, residual: Tensor, places: Tensor | None, group: EditGroup, indices: GroupIndices) -> Tensor:
        """Edit rows of the residuals of several sets, [sets, R, d_model], in place.

        Args:
            residual: of all sets of the pass.
            places: int64, indices of the rows that are edited; None: all.
            group: of edits.
            indices: of the group.

        Returns:
            the rows that each edit changed, bool [edits, rows].
        """
        sae, dtype = self._saes[group.layer], self._classifier.dtype
        selected = residual[indices.sets]
        rows = selected if places is None else selected.index_select(1, places)
        if all(is_separable(sae, edit.mode) for edit in group.edits):
            edited = remove_features(rows, sae, indices.features, dtype)
        else:
            parts: list[EditedRows] = []
            for set_rows, edit in zip(rows, group.edits, strict=True):
                parts.append(edited_rows(set_rows, sae, edit, dtype))
                self._on_step()
            edited_sets, changed, finite = (torch.stack(values) for values in zip(*parts, strict=True))
            edited = EditedRows(edited_sets, changed, finite.all())
        self.finite.append(edited.finite)
        self._on_step()
        if places is not None:
            selected.index_copy_(1, places, edited.rows)
        if places is None or group.sets is not None:  # of all sets, `selected` is the residual itself
            residual[indices.sets] = edited.rows if places is None else selected
        return edited.changed


def _at_all_positions(
    classifier: Classifier, prefix: Prefix, sets: EditedPass, edits: _GroupEdits, on_step: OnStep
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] from passes of all positions, and the documents that edits changed, bool [sets, B]."""
    residual = prefix.residuals[sets.first].repeat(sets.sets, 1, 1)
    changed = torch.zeros(sets.sets, len(prefix.last), dtype=torch.bool, device=residual.device)
    top = classifier.layers - 1
    for layer in range(sets.first, classifier.layers):
        if layer > sets.first:
            if layer == top and prefix.follows_last:
                residual = run_last_block(classifier, prefix, residual)
            else:
                residual = run_block(classifier, prefix, layer, residual)
        elif layer == top and prefix.follows_last:
            residual = last_rows(prefix, residual)
        by_set = residual.view(sets.sets, -1, residual.shape[-1])
        for group, indices in edits.of_layer(layer):
            rows = _rows_of(prefix, group.positions, whole=residual.shape[1] == prefix.batch.input_ids.shape[1])
            of_sets = edits.edit_rows(by_set, rows.places, group, indices)
            changed[indices.sets] |= _changed_documents(prefix, rows, of_sets)
        on_step()
    if prefix.follows_last:
        logits = read_rows(classifier, prefix, residual)[:, 0]
    else:
        logits = read_all(classifier, prefix, residual)
    return logits.view(sets.sets, len(prefix.last), -1), changed


def _at_last_positions(
    classifier: Classifier, prefix: Prefix, sets: EditedPass, edits: _GroupEdits, on_step: OnStep
) -> tuple[Tensor, Tensor]:
    """Logits [sets, B, labels] from passes of last positions, and the documents that edits changed, bool [sets, B]."""
    rows = last_rows(prefix, prefix.residuals[sets.first]).repeat(1, sets.sets, 1)
    alternatives = Alternatives(classifier, prefix)
    changed = torch.zeros(sets.sets, len(prefix.last), dtype=torch.bool, device=rows.device)
    for layer in range(sets.first, classifier.layers):
        if layer > sets.first:
            rows = alternatives.run_block(layer, rows)
        by_set = rows.transpose(0, 1)
        for group, indices in edits.of_layer(layer):
            of_sets = edits.edit_rows(by_set, None, group, indices)
            changed[indices.sets] |= of_sets & prefix.has_positions
        on_step()
    return read_rows(classifier, prefix, rows).transpose(0, 1), changed


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


def _changed_documents(prefix: Prefix, rows: _EditedPositions, changed: Tensor) -> Tensor:
    """Documents of which a row changed, [n, R] -> bool [n, B]."""
    if rows.per_document:
        return changed & prefix.has_positions
    offsets = prefix.batch.offsets
    sums = torch.cat([changed.new_zeros(len(changed), 1, dtype=torch.int64), changed.cumsum(1)], 1)
    return sums[:, offsets[1:]] > sums[:, offsets[:-1]]


def last_rows(prefix: Prefix, residual: Tensor) -> Tensor:
    """Last position of each document: [n * B, S, d_model] -> [n * B, 1, d_model]."""
    last = prefix.last.repeat(len(residual) // len(prefix.last))
    return residual[torch.arange(len(last), device=last.device), last][:, None]
