"""The classifier without some of its features: a set of them is taken out of a residual, and what follows runs again.

Only the blocks above the edited layer run again; the residual that enters them is kept from one ordinary pass. The
model itself runs them, with the blocks below replaced by nothing for that time, so that masks, rotary angles, norms and
the head are the model's own whatever its family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tegakari.kernels import Encoder
from tegakari.kernels.reference import activations
from tegakari.models.classifier import Classifier, block_output
from tegakari.models.sae import Sae
from tegakari.models.tokens import Batch
from tegakari.schemas.errors import SaeError

Mode = Literal["error_preserving", "reconstruction"]
Positions = Literal["all", "last"]


class Edit(NamedTuple):
    """Features taken out of the residual of a layer."""

    layer: int
    features: tuple[int, ...]
    mode: Mode = "error_preserving"
    """error_preserving: `h' = h - sum_f a_f(h) W_dec[f] / s`; reconstruction: `h' = decode(a with these at 0)`."""
    positions: Positions = "all"
    """all non-special positions of a document, or its last one."""


class Prefix(NamedTuple):
    """What an ordinary pass over a batch leaves behind for passes that start further up."""

    batch: Batch
    logits: Tensor
    """float32 [B, labels]"""
    residuals: Mapping[int, Tensor]
    """layer -> raw output of its block, [B, S, d_model]"""
    tuples: bool
    """whether the blocks return their residual in a tuple, as some older families do"""

    @property
    def nbytes(self) -> int:
        return sum(residual.nbytes for residual in self.residuals.values())


@torch.inference_mode()
def run_prefix(classifier: Classifier, batch: Batch, layers: Sequence[int]) -> Prefix:
    """Run the classifier once and keep the residuals of some layers, special positions and padding included."""
    residuals: dict[int, Tensor] = {}
    tuples = False
    handles = []
    for layer in layers:

        def keep(_module: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
            nonlocal tuples
            tuples = isinstance(output, tuple)
            residuals[layer] = block_output(output)

        handles.append(classifier.blocks[layer].register_forward_hook(keep))
    try:
        logits = _logits(classifier, batch)
    finally:
        for handle in handles:
            handle.remove()
    return Prefix(batch, logits, residuals, tuples)


@torch.inference_mode()
def rerun(classifier: Classifier, saes: Mapping[int, Sae], prefix: Prefix, edits: Sequence[Edit]) -> Tensor:
    """Logits of a batch with features taken out.

    Args:
        classifier: the one that made the prefix.
        saes: by layer.
        prefix: with the residual of the lowest edited layer.
        edits: one a layer; that of a higher layer sees the residual that those below have changed.

    Returns:
        float32 [B, labels]. Without edits, or where no feature of an error-preserving edit is active, they are those of
        the prefix, bit for bit.

    Raises:
        SaeError: a layer without SAE, two edits of one layer, or a feature out of range.
    """
    if not edits:
        return prefix.logits
    ordered = sorted(edits)
    _check(ordered, saes)
    first, *above = ordered
    residual = prefix.residuals[first.layer]
    edited = edited_residual(residual, prefix.batch, saes[first.layer], first, classifier.dtype)
    if not above and torch.equal(edited, residual):
        return prefix.logits
    with (
        _starting_from(classifier, first.layer, edited, prefix.tuples),
        _edited_above(classifier, saes, prefix.batch, above),
    ):
        return _logits(classifier, prefix.batch)


def edited_residual(residual: Tensor, batch: Batch, sae: Sae, edit: Edit, dtype: torch.dtype) -> Tensor:
    """A residual [B, S, d_model] with an edit made; the residual itself stays as it is.

    Args:
        residual: of the edit's layer.
        batch: whose positions count.
        sae: of the layer.
        edit: what is taken out.
        dtype: what activations are computed in, as the index computed them.
    """
    rows = batch.positions if edit.positions == "all" else batch.positions[batch.offsets[1:] - 1]
    flat = residual.reshape(-1, residual.shape[-1]).clone()
    h = flat.index_select(0, rows)
    features = torch.tensor(edit.features, dtype=torch.int64, device=h.device)
    encoder = sae.encoder(dtype)
    if edit.mode == "reconstruction":
        a = activations(h, encoder).index_fill(1, features, 0)
        changed = sae.decode(a)
    else:
        # TopK chooses among all features; every other kind decides about each feature alone.
        a = activations(h, encoder)[:, features] if encoder.k else activations(h, _columns(encoder, features))
        changed = h.float() - a @ sae.decoder_directions()[features].float()
    return flat.index_copy_(0, rows, changed.to(flat.dtype)).view_as(residual)


def _columns(encoder: Encoder, features: Tensor) -> Encoder:
    def chosen(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[features]

    return Encoder(
        encoder.weight[:, features],
        encoder.bias[features],
        encoder.threshold[features],
        gate_scale=chosen(encoder.gate_scale),
        gate_bias=chosen(encoder.gate_bias),
    )


def _check(edits: Sequence[Edit], saes: Mapping[int, Sae]) -> None:
    layers = [edit.layer for edit in edits]
    for layer in layers:
        if layer not in saes:
            there = ", ".join(map(str, sorted(saes)))
            raise SaeError(f"layer {layer} has no SAE", field="layer", fix=f"layers with one: {there}")
    if len(set(layers)) < len(layers):
        raise SaeError(f"two edits of one layer in {layers}", field="layer", fix="join their features")
    for edit in edits:
        wrong = [feature for feature in edit.features if not 0 <= feature < saes[edit.layer].d_sae]
        if wrong:
            last = saes[edit.layer].d_sae - 1
            raise SaeError(f"layer {edit.layer} has features 0 to {last}, not {wrong[0]}", field="features")


def _logits(classifier: Classifier, batch: Batch) -> Tensor:
    model = classifier.model
    return model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits.float()


@contextmanager
def _starting_from(classifier: Classifier, layer: int, residual: Tensor, tuples: bool) -> Iterator[None]:
    """Let the blocks up to a layer do nothing but hand a residual to the next."""
    replaced = list(classifier.blocks)[: layer + 1]

    def handing_on(block: nn.Module) -> Callable[..., Any]:
        def forward(*inputs: Any, **named: Any) -> Any:
            hidden = inputs[0] if inputs else named["hidden_states"]
            out = residual if block is replaced[-1] else hidden
            return (out,) if tuples else out

        return forward

    for block in replaced:
        block.forward = handing_on(block)
    try:
        yield
    finally:
        for block in replaced:
            del block.forward  # the class's own is seen again


@contextmanager
def _edited_above(
    classifier: Classifier, saes: Mapping[int, Sae], batch: Batch, edits: Sequence[Edit]
) -> Iterator[None]:
    handles = []
    for edit in edits:

        def change(_module: nn.Module, _inputs: object, output: Any, edit: Edit = edit) -> Any:
            changed = edited_residual(block_output(output), batch, saes[edit.layer], edit, classifier.dtype)
            return changed if isinstance(output, Tensor) else (changed, *output[1:])

        handles.append(classifier.blocks[edit.layer].register_forward_hook(change))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
