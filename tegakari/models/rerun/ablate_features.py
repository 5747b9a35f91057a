"""The classifier with features ablated: the edited residual of a layer runs through the layers above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from tegakari.models.architecture import inner_width, text_config
from tegakari.models.classifier import Classifier
from tegakari.models.memory import free_bytes
from tegakari.models.outliers import ordinary_positions
from tegakari.models.rerun.edited_pass import EditedPass, edit_groups, edited_logits, last_rows
from tegakari.models.rerun.edits import Edit, check_edits, is_separable
from tegakari.models.rerun.prefix import Prefix
from tegakari.models.sae import Sae
from tegakari.schemas.errors import KernelError
from tegakari.schemas.progress import OnStep, no_step

POSITIONS_PER_PASS = 4096
"""Positions of a pass through a block on a CPU; sets of edits share passes up to it."""

GPU_POSITIONS_PER_PASS = 65_536
"""The same on a GPU, where a small pass takes as long to issue as a large one; less if memory is short."""

GPU_MEMORY_SHARE = 0.5
"""Share of a GPU's free memory that a pass may take."""

RECORDED_POSITIONS = 16_384
"""Maximum positions of a pass that is recorded: the memory of the longest stays allocated, and the longer a pass, the
smaller is the share of its time that a recording saves."""


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
        for start in range(0, len(numbers), size):
            members = numbers[start : start + size]
            groups = edit_groups([ordered[number] for number in members])
            pass_logits, pass_finite = _run_pass(
                classifier, saes, prefix, EditedPass(first, last_only, len(members), groups), on_step
            )
            finite.append(pass_finite)
            for number, set_logits in zip(members, pass_logits, strict=True):
                logits[number] = set_logits
    if finite and not bool(torch.cat(finite).all()):
        raise KernelError(
            "a residual or a pre-activation is not finite",
            field="residual",
            fix="use a classifier and SAEs without NaN, in a dtype that does not overflow",
        )
    return torch.stack(logits) if logits else prefix.logits[None][:0]


def _run_pass(
    classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, sets: EditedPass, on_step: OnStep
) -> tuple[Tensor, ...]:
    """Results of `edited_logits` for the sets, computed or replayed."""

    def compute(indices: Tensor, on_step: OnStep) -> tuple[Tensor, Tensor]:
        return edited_logits(classifier, saes, prefix, sets, indices, on_step)

    numbers = [number for group in sets.groups for number in group.indices]
    # A copy from pinned memory does not wait for the GPU.
    indices = torch.tensor(numbers, pin_memory=classifier.device.type == "cuda")
    indices = indices.to(classifier.device, non_blocking=True)
    if not (prefix.recordings.active and _is_recordable(classifier, saes, prefix, sets)):
        return compute(indices, on_step)
    return prefix.recordings.run(
        compute,
        indices,
        shape=(*sets.shape, torch.get_float32_matmul_precision()),
        models=(classifier, *(saes[group.layer] for group in sets.groups)),
        on_step=on_step,
    )


def _is_recordable(classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, sets: EditedPass) -> bool:
    """Whether a pass is short, and computed on the device alone.

    Edits that need the activations of all features check them on the host, and a run of the whole model behind the
    last block makes masks by values that it reads.
    """
    documents, tokens = prefix.batch.input_ids.shape
    positions = documents * (tokens + sets.sets) if sets.last_only else documents * tokens * sets.sets
    return (
        positions <= RECORDED_POSITIONS
        and prefix.follows_last
        and bool(classifier.tail)
        and all(is_separable(saes[group.layer], edit.mode) for group in sets.groups for edit in group.edits)
    )


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
    ordinary = ordinary_positions(last_rows(prefix, prefix.residuals[edit.layer])[:, 0], sae.max_norm)
    return ordinary is None or bool(ordinary.any())
