"""Oracles of edited forward passes: one unpadded document in a whole pass, edited by plain hooks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tegakari.models.classifier import Classifier
from tegakari.models.rerun.edits import Edit
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized

Change = Callable[[int, int, torch.Tensor], torch.Tensor | None]


def naive_activations(h: torch.Tensor, sae: Sae) -> torch.Tensor:
    """Activations of one position by the definition, in float64: [d_model] -> [d_sae]."""
    mean, size = mean_and_size(h, sae)
    tiny = 1e-5 if sae.input_norm == "layer_norm" else 0.0
    x = sae.scale * (h.double() - mean) / (size + tiny) - sae.b_dec.double()
    y = x @ sae.W_enc.double()
    pre = y + sae.b_enc.double()
    if sae.activation == "relu":
        return pre.relu()
    if sae.activation in ("jumprelu", "batch_topk"):
        return torch.where(pre > sae.threshold.double(), pre, 0.0)
    if sae.activation == "topk":
        largest = pre.relu().topk(sae.k).indices
        return torch.zeros_like(pre).index_copy(0, largest, pre.relu()[largest])
    magnitude = y * sae.r_mag.double().exp() + sae.b_mag.double()
    return torch.where(pre > 0, magnitude.relu(), 0.0)


def mean_and_size(h: torch.Tensor, sae: Sae) -> tuple[torch.Tensor, torch.Tensor]:
    """What an SAE subtracts from the residual of one position, and what its norm divides it by."""
    h = h.double()
    mean = h.mean() if sae.centred or sae.input_norm == "layer_norm" else h.new_zeros(())
    match sae.input_norm:
        case "layer_norm":
            return mean, ((h - mean).square().sum() / (len(h) - 1)).sqrt()
        case "constant_norm":
            return mean, ((h - mean).square().sum() / len(h)).sqrt()
    return mean, h.new_ones(())


def positions_of(classifier: Classifier, document: Tokenized, positions: str) -> list[int]:
    """Positions of a document that an edit changes, by what transformers' heads read."""
    special = document.special
    ordinary = [index for index in range(len(special)) if not special[index]]
    if classifier.model.config.model_type == "modernbert":
        return ordinary
    head = 0 if classifier.model.config.model_type == "bert" else len(special) - 1
    return sorted({*ordinary, head}) if positions == "all" else [head]


def hooked_logits(classifier: Classifier, text: str, saes: dict[int, Sae], edits: list[Edit]) -> torch.Tensor:
    """Logits of one unpadded document from a whole pass, each position edited by a loop in a hook."""
    (document,) = classifier.tokenize([text])
    handles = []
    for edit in edits:

        def hook(_module, _inputs, output, edit=edit):
            hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            sae = saes[edit.layer]
            positions = positions_of(classifier, document, edit.positions)
            for position in positions:
                h = hidden[0, position]
                if sae.max_norm is not None and h.double().norm() > sae.max_norm:
                    continue
                a = naive_activations(h, sae)
                mean, size = mean_and_size(h, sae)
                if edit.mode == "reconstruction":
                    a[list(edit.features)] = 0
                    replacement = (a @ sae.W_dec.double() + sae.b_dec.double()) / sae.scale * size + mean
                else:
                    features = list(edit.features)
                    replacement = h.double() - a[features] @ sae.W_dec[features].double() / sae.scale * size
                hidden[0, position] = replacement.float()
            return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

        handles.append(classifier.blocks[edit.layer].register_forward_hook(hook))
    ids = torch.tensor([document.input_ids])
    with torch.no_grad():
        logits = classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    for handle in handles:
        handle.remove()
    return logits


def components(classifier: Classifier, layer: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    block = classifier.blocks[layer]
    if classifier.model.config.model_type == "gemma2":
        return block.post_attention_layernorm, block.post_feedforward_layernorm
    return block.self_attn, block.mlp


def hooked_pass(classifier: Classifier, text: str, change: Change) -> tuple[torch.Tensor, dict]:
    """Logits of one unpadded document, and the output of each component at the last position."""
    (document,) = classifier.tokenize([text])
    last = len(document) - 1
    outputs, handles = {}, []
    for layer in range(classifier.layers):
        for number, module in enumerate(components(classifier, layer)):

            def hook(_module, _inputs, output, layer=layer, number=number):
                value = output if isinstance(output, torch.Tensor) else output[0]
                outputs[layer, number] = value[0, last].clone()
                replacement = change(layer, number, value[0, last])
                if replacement is None:
                    return None
                value = value.clone()
                value[0, last] = replacement
                return value if isinstance(output, torch.Tensor) else (value, *output[1:])

            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        logits = classifier.model(torch.tensor([document.input_ids]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return logits, outputs
