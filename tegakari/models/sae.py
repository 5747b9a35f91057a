"""Sparse autoencoder (SAE) of one layer: its weights, encoder and decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tegakari.kernels import Encoder, InputNorm, TokenStatistics, token_statistics
from tegakari.models.sae_site import Site
from tegakari.schemas.errors import SaeError

Activation = Literal["relu", "jumprelu", "topk", "batch_topk", "gated"]

TINY_NORM = 1e-8
"""Minimum divisor of decoder rows when they are normalized; a row of zeros stays zero."""


class TrainingConditions(NamedTuple):
    """What a configuration says about the activations that an SAE was trained on; None: nothing."""

    model_name: str | None = None
    """name of the model, of a hub or of TransformerLens"""
    prepend_bos: bool | None = None
    """whether documents began with a BOS token"""
    context_size: int | None = None
    """tokens per document"""
    centring_assumed: bool = False
    """whether `Sae.centred` is the default of the version that trained it, and not in its configuration"""


UNKNOWN = TrainingConditions()
"""Conditions of an SAE whose files say nothing."""


@dataclass(frozen=True)
class Sae:
    """`a = act(W_enc^T (s*x - [b_dec]) + b_enc)`, `x_hat = (a W_dec + b_dec) / s`; float32 unless moved.

    x is the residual h, or h without its mean over d_model (`centred`), times a factor of its own per position
    (`input_norm`); `h_hat` undoes both, so decoder rows count in units of the residual of their position.
    """

    W_enc: Tensor
    """[d_model, d_sae]"""
    W_dec: Tensor
    """[d_sae, d_model]"""
    b_enc: Tensor
    """[d_sae]; of a gated SAE, the bias of its gate"""
    b_dec: Tensor
    """[d_model]"""
    activation: Activation = "relu"
    threshold: Tensor | None = None
    """[d_sae]: theta of jumprelu and batch_topk"""
    k: int | None = None
    """active features per position: topk"""
    r_mag: Tensor | None = None
    """[d_sae]: log of the magnitude path's gain: gated"""
    b_mag: Tensor | None = None
    """[d_sae]: bias of the magnitude path: gated"""
    scale: float = 1.0
    """s, factor of the input"""
    input_norm: InputNorm = "none"
    """factor of each position's input, before s"""
    centred: bool = False
    """whether the mean over d_model is subtracted from the residual first, as of a model that was loaded with
    `center_writing_weights`; input_norm layer_norm always does"""
    apply_b_dec_to_input: bool = False
    """whether b_dec is subtracted from the scaled input"""
    layer: int | None = None
    """the layer it was trained on; None: its files do not name one"""
    sites: tuple[Site, ...] = ()
    """what its configuration says about its layer, see `tegakari.models.sae_site`"""
    training: TrainingConditions = UNKNOWN
    """model and tokens that it was trained on, see `tegakari.models.sae_conditions`"""
    doubts: tuple[str, ...] = ()
    """reasons to doubt that it is read as it was trained, as sentences"""
    max_norm: float | None = None
    """norm of a residual above which it is an outlier, see `tegakari.models.outliers`; inf: no residual is; None: its
    files do not say, and no residual is until `index` has determined a limit"""
    source: str = "."
    """path of its files relative to the directory of its set"""

    def __post_init__(self) -> None:
        check_weights(self)

    @property
    def d_model(self) -> int:
        """Width of the residual."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of features."""
        return self.W_enc.shape[1]

    def to(self, device: torch.device | str) -> Sae:
        """Copy of the SAE on a device."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def encoder(self, dtype: torch.dtype) -> Encoder:
        """Encoder for `tegakari.kernels.encode`, with input scale, centring and `b_dec` folded into weight and bias.

        Args:
            dtype: float32 or bfloat16, in which encode computes. Biases and thresholds stay float32.
        """
        scaled = self.W_enc if self.scale == 1 else self.scale * self.W_enc  # a weight mapped from disk is not copied
        if self.subtracts_mean:
            # (h - mean(h)) W is h times W without the means of its columns.
            scaled = scaled - scaled.mean(0, dtype=torch.float64).float()
        weight = scaled.to(dtype)
        zero = torch.zeros_like(self.b_enc, dtype=torch.float32)
        shift = zero
        if self.apply_b_dec_to_input:
            # b_dec passes through the rounded weight, as the residual does: most of a residual is its mean, and the
            # rounding error of the mean then cancels, since encode keeps its products in float32.
            b_dec = self.b_dec.double()
            constant = zero
            if self.subtracts_mean:  # the rounded weight knows the differences of b_dec from its mean alone
                constant = b_dec.mean() * self.W_enc.sum(0, dtype=torch.float64)
                b_dec = b_dec - b_dec.mean()
            shift = -((b_dec / self.scale) @ weight.double() + constant).float()
        bias = self.b_enc.float() + shift
        encoder = Encoder(weight, bias, zero, input_norm=self.input_norm, centred=self.subtracts_mean)
        match self.activation:
            case "relu":
                return encoder
            case "jumprelu" | "batch_topk":
                assert self.threshold is not None  # by check_weights
                return encoder._replace(threshold=self.threshold.float().clamp_min(0))
            case "topk":
                return encoder._replace(k=self.k)
            case "gated":
                assert self.r_mag is not None
                assert self.b_mag is not None
                gain = self.r_mag.float().exp()
                return encoder._replace(gate_scale=gain, gate_bias=shift * gain + self.b_mag.float())

    @property
    def subtracts_mean(self) -> bool:
        """Whether the input is the residual without its mean over d_model."""
        return self.centred or self.input_norm == "layer_norm"

    def decode(self, activations: Tensor, residual: Tensor) -> Tensor:
        """Reconstruct residuals from dense activations.

        Args:
            activations: [T, d_sae]
            residual: [T, d_model], from which the activations are; its mean and norm are those of the reconstruction
                if the SAE's input has lost them, and nothing else of it is read.

        Returns:
            [T, d_model]
        """
        return self.in_residual_units(activations @ self.W_dec + self.b_dec, residual)

    def in_residual_units(self, decoded: Tensor, residual: Tensor) -> Tensor:
        """Reconstructions of residuals [T, d_model] from those of the SAE's input, `a W_dec + b_dec`."""
        decoded = decoded / self.scale
        if self.input_norm == "none" and not self.centred:
            return decoded
        statistics = self._statistics(residual)
        decoded = decoded * statistics.size[:, None]
        return decoded + statistics.mean[:, None] if self.subtracts_mean else decoded

    def token_sizes(self, residual: Tensor) -> Tensor | None:
        """Factor of `decoder_directions` at each position of a residual [T, d_model], [T] float32; None: 1."""
        return None if self.input_norm == "none" else self._statistics(residual).size

    def _statistics(self, residual: Tensor) -> TokenStatistics:
        return token_statistics(residual, self.input_norm, centred=self.centred)

    def decoder_directions(self) -> Tensor:
        """Contribution of one unit of activation to the residual, per feature: [d_sae, d_model].

        With an input norm, a contribution is `token_sizes` of its position times as large.
        """
        return self.W_dec / self.scale

    def with_unit_decoder(self) -> Sae:
        """Copy of the SAE with decoder rows of norm 1 and activations multiplied by the former norms.

        Reconstructions stay the same, except that TopK selects by the new activations.
        """
        norms = self.W_dec.norm(dim=1).clamp_min(TINY_NORM)
        decoder = self.W_dec / norms[:, None]
        if self.activation == "gated":
            assert self.r_mag is not None
            assert self.b_mag is not None
            # The gate keeps its units: only the magnitude path is multiplied by the norms.
            return replace(self, W_dec=decoder, r_mag=self.r_mag + norms.log(), b_mag=self.b_mag * norms)
        threshold = None if self.threshold is None else self.threshold * norms
        return replace(self, W_dec=decoder, W_enc=self.W_enc * norms, b_enc=self.b_enc * norms, threshold=threshold)


def check_weights(sae: Sae) -> None:
    """Refuse weights of inconsistent shapes or with values that are not finite.

    Raises:
        SaeError: inconsistent shapes, NaN or infinity, a missing parameter of the activation, or k out of range.
    """
    if sae.W_enc.ndim != 2:
        raise SaeError(
            f"has shape {tuple(sae.W_enc.shape)}, not [d_model, d_sae]", field="W_enc", fix="export the SAE again"
        )
    d_model, d_sae = sae.W_enc.shape
    per_feature = (d_sae,)
    shapes = {"W_dec": (d_sae, d_model), "b_enc": per_feature, "b_dec": (d_model,)}
    match sae.activation:
        case "jumprelu" | "batch_topk":
            shapes["threshold"] = per_feature
        case "gated":
            shapes |= {"r_mag": per_feature, "b_mag": per_feature}
        case "topk":
            if sae.k is None or not 1 <= sae.k <= d_sae:
                raise SaeError(f"{sae.k} is not from 1 to {d_sae}", field="k", fix="correct the SAE's configuration")
    for name, shape in {"W_enc": (d_model, d_sae), **shapes}.items():
        tensor = getattr(sae, name)
        if tensor is None:
            raise SaeError(f"an SAE with {sae.activation} needs it", field=name, fix="export the SAE with this weight")
        if tuple(tensor.shape) != shape:
            raise SaeError(f"has shape {tuple(tensor.shape)}, not {shape}", field=name, fix="export the SAE again")
        if not torch.isfinite(tensor).all():
            raise SaeError("holds NaN or infinity", field=name, fix="train or download the SAE again")
