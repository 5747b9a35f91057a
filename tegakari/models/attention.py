"""Attention of Gemma 2 in the passes of an index on a GPU: one kernel, where it is as exact as eager attention.

Gemma 2 caps its scores, which no attention of torch does: eager attention writes and reads [documents, heads, S, S]
scores some ten times. The kernel is used by `Classifier.run` and `run_blocks` of a classifier that `choose_attention`
returned. All other passes through the same model, such as re-runs, give it a mask of padding and run eager attention:
what a pass gives to attention as mask says which one runs, so that passes of several threads do not meet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from tegakari.kernels.dispatch import tallies_on_gpu
from tegakari.models.architecture import text_config
from tegakari.models.classifier import Classifier, padding_mask
from tegakari.models.tokens import Batch, Tokenized

ATTENTION = "triton_soft_capped"
"""Name of the attention in a model's configuration, and in the manifest of a run."""

NOISE = 2.0
"""Largest difference of the kernel from exact attention, over that of eager attention; and not below `ROUNDING`."""

ROUNDING = 2.0**-10
"""Relative difference that the rounding of a residual to bfloat16 makes by itself."""

SAMPLE_DOCUMENTS = 8
SAMPLE_TOKENS = 1024
"""Documents on which the attentions are compared, and the tokens of the longest."""

log = logging.getLogger(__name__)


def choose_attention(classifier: Classifier, documents: Sequence[Tokenized]) -> Classifier:
    """The classifier with the kernel for its passes, if it can be used and gives what eager attention gives.

    Exact attention is eager attention in float32 between projections of the model's dtype. Both attentions are compared
    with it, by the residuals of the last block and by the logits of a few documents in one batch: the kernel's
    difference has to be within eager attention's, which is the noise of bfloat16.

    Args:
        classifier: as loaded.
        documents: of the index, each with a countable position. Short and long ones are run.

    Returns:
        the classifier with the kernel, or unchanged. The reason is logged, as a warning if the kernel failed or
        differed; not of another family, or a device without the Triton kernels (`TEGAKARI_KERNELS`).
    """
    if text_config(classifier.model).model_type != "gemma2" or not tallies_on_gpu(classifier.device):
        return classifier
    if reason := obstacle(classifier):
        log.info("attention: eager, since %s", reason)
        return classifier
    try:
        fused = with_kernel(classifier)
        reason = _excess(fused, sample_of(documents))
    except Exception as error:  # whatever the compiler or the card says: an index in eager attention is right
        log.debug("the kernel of attention failed", exc_info=True)
        reason = f"{type(error).__name__}: {error}"
    else:
        if reason is None:
            log.info("attention: one kernel")
            return fused
    classifier.model.set_attn_implementation("eager")
    log.warning("attention: eager, since %s", reason)
    return classifier


def obstacle(classifier: Classifier) -> str | None:
    """Why the kernel cannot compute the attention of a Gemma 2 classifier; None: it can."""
    from tegakari.kernels.gpu.attention import HEAD_SIZES, MAX_CAP  # Triton is not everywhere

    config = text_config(classifier.model)
    cap = config.attn_logit_softcapping
    if classifier.dtype != torch.bfloat16:
        return f"the kernel is for bfloat16, and the classifier is in {str(classifier.dtype).removeprefix('torch.')}"
    if cap is None or not 0 < cap <= MAX_CAP:
        return f"the kernel is for scores that are capped at {MAX_CAP:g} or less, not at {cap}"
    if config.head_dim not in HEAD_SIZES:
        return f"the kernel has no tile for heads of {config.head_dim}"
    if getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True):
        return "the kernel is for causal attention"
    return None


def with_kernel(classifier: Classifier) -> Classifier:
    """The classifier with the kernel for its passes; they fail where `obstacle` has a reason or Triton cannot run."""
    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    classifier.model.set_attn_implementation(ATTENTION)
    return replace(classifier, masks=_lengths)


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **settings: Any
) -> tuple[Tensor, Tensor | None]:
    """Attention of one layer as transformers calls it: the kernel for lengths of documents, eager for masks of scores.

    A mask of another dtype than the query's is that of the attention's arithmetic.
    """
    if attention_mask.ndim == 1:
        from tegakari.kernels.gpu.attention import soft_capped_attention  # Triton is not everywhere

        scale, cap, window = (settings[name] for name in ("scaling", "softcap", "sliding_window"))
        return soft_capped_attention(query, key, value, attention_mask, scale=scale, cap=cap, window=window), None
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    dtype = attention_mask.dtype
    mixed, weights = eager_attention_forward(
        module, query.to(dtype), key.to(dtype), value.to(dtype), attention_mask, **settings
    )
    return mixed.to(query.dtype), weights


def sample_of(documents: Sequence[Tokenized]) -> list[Tokenized]:
    """Documents of all lengths up to `SAMPLE_TOKENS`, the shortest and the longest among them."""
    ordered = sorted(documents, key=len)
    within = [document for document in ordered if len(document) <= SAMPLE_TOKENS] or ordered[:1]
    last, places = len(within) - 1, min(len(within), SAMPLE_DOCUMENTS)
    return [within[last * place // max(1, places - 1)] for place in range(places)]


def _lengths(batch: Batch) -> dict[str, Tensor]:
    """Lengths of right-padded documents, int32 [B], for the layers of both kinds."""
    lengths = batch.attention_mask.sum(1, dtype=torch.int32)
    return {"full_attention": lengths, "sliding_attention": lengths}


def _excess(fused: Classifier, documents: Sequence[Tokenized]) -> str | None:
    """How the kernel's difference from exact attention exceeds the noise of eager attention; None: it does not."""
    window = text_config(fused.model).sliding_window

    def exact_masks(batch: Batch) -> dict[str, Tensor]:
        return {
            "full_attention": _float32_mask(batch, batch.input_ids.shape[1]),
            "sliding_attention": _float32_mask(batch, window),
        }

    batch = fused.batch(documents)
    exact = _values(replace(fused, masks=exact_masks), batch)
    eager = _values(replace(fused, masks=padding_mask), batch)
    kernel = _values(fused, batch)
    for name, values in exact.items():
        noise, difference = (_difference(other[name], values) for other in (eager, kernel))
        log.info("difference of %s from exact attention: kernel %.2g, eager %.2g", name, difference, noise)
        if not difference <= max(NOISE * noise, ROUNDING):  # NaN is an excess
            return f"{name} differ from those of exact attention by {difference:.2g} (eager attention: {noise:.2g})"
    return None


def _float32_mask(batch: Batch, window: int) -> Tensor:
    """Mask of scores, float32 [B, 1, S, S], as transformers makes it for eager attention in the model's dtype."""
    place = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
    distance = place[:, None] - place
    visible = (distance >= 0) & (distance < window) & (batch.attention_mask[:, None, None] != 0)
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)


def _values(classifier: Classifier, batch: Batch) -> dict[str, Tensor]:
    """Residuals of the last block, [T, d_model], and logits, [1, B * labels]."""
    residuals: list[Tensor] = []
    output = classifier.run(batch, lambda _, residual: residuals.append(residual), [classifier.layers - 1])
    return {"residuals": residuals[0].float(), "logits": output.logits.flatten()[None]}


def _difference(values: Tensor, exact: Tensor) -> float:
    """Mean over rows of the length of the difference, relative to that of the row."""
    return float(((values - exact).norm(dim=1) / exact.norm(dim=1).clamp_min(1e-30)).mean())
