"""Forward passes with components patched or ablated at the last position, computed from one ordinary pass.

A change at the last position changes nothing elsewhere (attention is causal), so a patched run is one position
through the layers above, with the keys and values of the positions before it; all patches of a pair run as as many
queries of one document. Exact, up to the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.models.classifier import Classifier
from tegakari.models.rerun.components import Components, replaced_components
from tegakari.models.rerun.suffix import Alternatives, read_rows


@torch.inference_mode()
def run_patches(classifier: Classifier, corrupted: Components, owner: Tensor, clean: Tensor) -> Tensor:
    """Logits of corrupted documents in which one component at a time has its output in a clean document.

    Args:
        classifier: a decoder.
        corrupted: documents, with keys and values.
        owner: int64 [P], the corrupted document of each pair.
        clean: [P, layers, 2, d_model], contributions of the components in the clean document of each pair.

    Returns:
        float32 [P, layers, 2, labels]; components are attention and MLP.
    """
    rows = clean.new_empty(len(owner), 0, clean.shape[-1])
    alternatives = Alternatives(classifier, corrupted.prefix, owner)
    for layer, block in enumerate(classifier.blocks):
        entering, added = corrupted.entering[owner, layer], corrupted.added[owner, layer]

        def patch(output: Tensor, layer: int = layer) -> Tensor:
            return torch.cat([output[:, :-1], clean[:, layer, 0, None].to(output.dtype)], 1)

        # The last of the rows is the patch of this block's attention; the rows before it were patched further down.
        with replaced_components(block, (patch, None)):
            above = torch.cat([rows, entering[:, None]], 1)
            rows = alternatives.run_block(layer, above)
        mlp = entering + added[:, 0] + clean[:, layer, 1].to(entering.dtype)
        rows = torch.cat([rows, mlp[:, None]], 1)
    logits = read_rows(classifier, corrupted.prefix, rows)
    return logits.view(len(owner), classifier.layers, 2, -1)


class Ablation(NamedTuple):
    """Components whose output is replaced by the same values in every document."""

    ablated: Tensor
    """bool [layers, 2]"""
    values: Tensor
    """[layers, 2, d_model], the output of the ablated components"""


@torch.inference_mode()
def run_ablations(classifier: Classifier, documents: Components, ablations: Sequence[Ablation]) -> Tensor:
    """Logits of documents with many components ablated at the last position.

    Args:
        classifier: a decoder.
        documents: with keys and values.
        ablations: independent of each other.

    Returns:
        float32 [ablations, B, labels].
    """
    rows = documents.entering[:, :1].repeat(1, len(ablations), 1)
    ablated = torch.stack([ablation.ablated for ablation in ablations]).to(rows.device)
    values = torch.stack([ablation.values for ablation in ablations]).to(rows)
    alternatives = Alternatives(classifier, documents.prefix)
    for layer, block in enumerate(classifier.blocks):

        def replacement(number: int, layer: int = layer) -> Callable[[Tensor], Tensor]:
            mask = ablated[None, :, layer, number, None]
            return lambda output: torch.where(mask, values[None, :, layer, number], output)

        with replaced_components(block, (replacement(0), replacement(1))):
            rows = alternatives.run_block(layer, rows)
    return read_rows(classifier, documents.prefix, rows).transpose(0, 1)
