"""SAE files as their publishers release them, with the formula of the publisher's code in float64 numpy.

The formulas are written from the published code of each library, and from nothing of tegakari:

- Gemma Scope 2, Goodfire, qresearch, Qwen Scope: the loaders and tests of SAELens 6.54.12, the model cards;
- Llama Scope: `sae.py` of OpenMOSS/Language-Model-SAEs at its publication, `from_config` and `encode`;
- Llama Scope R1, Llamascopium: `encode` of lm-saes 1 and llamascopium 2.0.0b34;
- EleutherAI's `sae`: `sae/sae.py` of EleutherAI/sae;
- OpenAI: `model.py` of openai/sparse_autoencoder;
- BatchTopK: `sae.py` of bartbussmann/BatchTopK.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from tests.support.sae_layouts import D_MODEL, D_SAE, Arrays, K, Layout, largest, relu, rounded, weights_of

Activations = tuple[np.ndarray, np.ndarray]


def write_safetensors(file: Path, tensors: Arrays) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, file)


def write_json(file: Path, config: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(config))


def write_state(file: Path, tensors: Arrays, **others: Any) -> None:
    """A state dict of torch.save."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in tensors.items()}
    torch.save({**state, **others}, file)


def layer_norm(h: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals without their mean, over their standard deviation (of d_model - 1) plus 1e-5; mean and deviation."""
    mean = h.mean(axis=1, keepdims=True)
    deviation = h.std(axis=1, ddof=1, keepdims=True)
    return (h - mean) / (deviation + 1e-5), mean, deviation


def linear(w: Arrays, encoder: str = "encoder", decoder: str = "decoder") -> Arrays:
    """Weights in the layout of torch's Linear."""
    return {
        f"{encoder}.weight": w["W_enc"].T,
        f"{encoder}.bias": w["b_enc"],
        f"{decoder}.weight": w["W_dec"].T,
        f"{decoder}.bias": w["b_dec"],
    }


def gemma_scope_2(*, with_config: bool = True, **config: Any) -> Layout:
    """`params.safetensors`: JumpReLU, b_dec not subtracted."""
    w = rounded(weights_of(11))

    def write(directory: Path) -> None:
        names = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
        write_safetensors(directory / "params.safetensors", {name: w[value] for name, value in names.items()})
        if with_config:
            hook = "model.layers.3.output"
            facts = {"model_name": "google/gemma-3-1b-pt", "architecture": "jump_relu", "width": D_SAE, "l0": 20}
            write_json(directory / "config.json", {**facts, "hf_hook_point_in": hook, "type": "sae", **config})

    def formula(h: np.ndarray) -> Activations:
        pre = h @ w["W_enc"] + w["b_enc"]
        a = relu(pre) * (pre > w["threshold"])
        return a, a @ w["W_dec"] + w["b_dec"]

    return Layout(write, formula, "jumprelu")


HYPERPARAMS = {
    "hook_point_in": "blocks.3.hook_resid_post",
    "hook_point_out": "blocks.3.hook_resid_post",
    "use_decoder_bias": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "d_model": D_MODEL,
    "d_sae": D_SAE,
    "expansion_factor": 4,
    "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": 9.0, "out": 9.0},
    "sparsity_include_decoder_norm": True,
    "use_glu_encoder": False,
    "top_k": K,
}
"""hyperparams.json of Llama Scope, without the settings of the training."""


def llama_scope(act_fn: str) -> Layout:
    """`standardize_parameters_of_dataset_activation_scaling`, `transform_to_unit_decoder_norm`, then `encode`."""
    w = rounded(weights_of(12))
    threshold = 0.75390625

    def write(directory: Path) -> None:
        write_safetensors(directory / "checkpoints" / "final.safetensors", linear(w))
        config = {**HYPERPARAMS, "act_fn": act_fn, "jump_relu_threshold": threshold if act_fn == "jumprelu" else 0.0}
        write_json(directory / "hyperparams.json", config)

    def formula(h: np.ndarray) -> Activations:
        factor = D_MODEL**0.5 / 9.0
        W_enc, W_dec, b_enc, b_dec = w["W_enc"], w["W_dec"], w["b_enc"] / factor, w["b_dec"] / factor
        norms = np.linalg.norm(W_dec, axis=1)
        pre = h @ (W_enc * norms) + b_enc * norms
        a = np.where(pre > threshold, pre, 0) if act_fn == "jumprelu" else largest(relu(pre), K)
        return a, a @ (W_dec / norms[:, None]) + b_dec

    return Layout(write, formula, act_fn)


def lm_saes(act_fn: str, *, former: bool = False, norm_activation: str = "dataset-wise") -> Layout:
    """`encode` of a normalized input; lm-saes 1 (`former`) has other names and the norm under the key `in`."""
    w = rounded(weights_of(13))
    theta = rounded({"log": np.log(w["threshold"] + 0.1)})["log"]

    def write(directory: Path) -> None:
        named = {"W_E": "W_enc", "W_D": "W_dec", "b_E": "b_enc", "b_D": "b_dec"}
        tensors = linear(w) if former else {name: w[value] for name, value in named.items()}
        if act_fn == "jumprelu":
            tensors["log_jumprelu_threshold" if former else "activation_function.log_jumprelu_threshold"] = theta
        hook = "blocks.3.hook_resid_post"
        tensors |= {f"dataset_average_activation_norm.{hook}": np.array(9.0)}
        write_safetensors(directory / "sae_weights.safetensors", tensors)
        config = {"sae_type": "sae", "hook_point_in": hook, "hook_point_out": hook, "act_fn": act_fn, "top_k": K}
        sizes = {"d_model": D_MODEL, "expansion_factor": D_SAE / D_MODEL, "use_decoder_bias": True}
        write_json(
            directory / "config.json",
            {**config, **sizes, "norm_activation": norm_activation, "sparsity_include_decoder_norm": True},
        )

    def formula(h: np.ndarray) -> Activations:
        token = np.linalg.norm(h, axis=1, keepdims=True)
        factor = D_MODEL**0.5 / (9.0 if norm_activation == "dataset-wise" else token)
        norms = np.linalg.norm(w["W_dec"], axis=1)
        scaled = (factor * h @ w["W_enc"] + w["b_enc"]) * norms
        match act_fn:
            case "jumprelu":
                a = scaled * (scaled > np.exp(theta)) / norms
            case "topk":  # in units of a decoder row of norm 1, by which the library selects
                a = largest(relu(scaled), K)
                return a, ((a / norms) @ w["W_dec"] + w["b_dec"]) / factor
            case _:
                a = relu(scaled) / norms
        return a, (a @ w["W_dec"] + w["b_dec"]) / factor

    return Layout(write, formula, act_fn)


def qwen_scope() -> Layout:
    """`layerN.sae.pt`: [d_sae, d_model] encoder, [d_model, d_sae] decoder; TopK with ReLU, b_dec not subtracted."""
    w = rounded(weights_of(14))
    file = f"SAE-Res-Tiny-W1K-L0_{K}/layer3.sae.pt"

    def write(directory: Path) -> None:
        tensors = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T, "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
        write_state(directory / file, tensors)

    def formula(h: np.ndarray) -> Activations:
        a = relu(largest(h @ w["W_enc"] + w["b_enc"], K))
        return a, a @ w["W_dec"] + w["b_dec"]

    return Layout(write, formula, "topk", file)


def openai(activation: str) -> Layout:
    """`Autoencoder`: pre_bias and latent_bias; TopK normalizes its input and denormalizes its output."""
    w = rounded(weights_of(15))
    file = "resid_post_mlp_v5_32k/autoencoders/3.pt"

    def write(directory: Path) -> None:
        tensors = {
            "pre_bias": w["b_dec"],
            "encoder.weight": w["W_enc"].T,
            "latent_bias": w["b_enc"],
            "decoder.weight": w["W_dec"].T,
            "latents_mean_square": np.zeros(D_SAE),
        }
        state = {"k": K, "postact_fn": "ReLU"} if activation == "TopK" else {}
        write_state(directory / file, tensors, activation=activation, activation_state_dict=state)

    def formula(h: np.ndarray) -> Activations:
        x, mean, deviation = layer_norm(h)
        if activation == "ReLU":
            a = relu((h - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
            return a, a @ w["W_dec"] + w["b_dec"]
        a = relu(largest((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"], K))
        return a, (a @ w["W_dec"] + w["b_dec"]) * deviation + mean

    return Layout(write, formula, activation.lower(), file)


def goodfire(file: str, encoder: str, decoder: str) -> Layout:
    """`encoder_linear`, ReLU or TopK, `decoder_linear`; nothing is subtracted from the input."""
    w = rounded(weights_of(16))
    k = K if "topk" in file else None

    def write(directory: Path) -> None:
        write_state(directory / file, linear(w, encoder, decoder))

    def formula(h: np.ndarray) -> Activations:
        a = relu(h @ w["W_enc"] + w["b_enc"])
        a = largest(a, k) if k else a
        return a, a @ w["W_dec"] + w["b_dec"]

    return Layout(write, formula, "topk" if k else "relu", file)


def batch_topk(sae_type: str, *, input_unit_norm: bool = False) -> Layout:
    """`VanillaSAE`, `TopKSAE` (without an encoder bias) and `JumpReLUSAE` (of the raw input)."""
    w = rounded(weights_of(17))
    theta = rounded({"log": np.log(w["threshold"] + 0.1)})["log"]

    def write(directory: Path) -> None:
        tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        write_state(
            directory / "sae.pt", tensors | ({"jumprelu.log_threshold": theta} if sae_type == "jumprelu" else {})
        )
        config = {"sae_type": sae_type, "act_size": D_MODEL, "dict_size": D_SAE, "top_k": K, "site": "resid_post"}
        hook = {"hook_point": "blocks.3.hook_resid_post", "layer": 3, "model_name": "gpt2-small"}
        write_json(directory / "config.json", {**config, **hook, "input_unit_norm": input_unit_norm})

    def formula(h: np.ndarray) -> Activations:
        x, mean, deviation = layer_norm(h) if input_unit_norm else (h, 0.0, 1.0)
        match sae_type:
            case "vanilla":
                a = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
            case "topk":
                a = largest(relu((x - w["b_dec"]) @ w["W_enc"]), K)
            case _:
                pre = relu(x @ w["W_enc"] + w["b_enc"])
                a = pre * (pre > np.exp(theta))
        return a, (a @ w["W_dec"] + w["b_dec"]) * deviation + mean

    return Layout(write, formula, {"vanilla": "relu"}.get(sae_type, sae_type))


def eai_sae() -> Layout:
    """EleutherAI's `sae`, before it was called sparsify: `pre_acts`, `select_topk`; no num_latents, no activation."""
    w = rounded(weights_of(18))

    def write(directory: Path) -> None:
        tensors = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]}
        write_safetensors(directory / "sae.safetensors", tensors)
        config = {"expansion_factor": 4, "normalize_decoder": True, "k": K, "signed": False, "d_in": D_MODEL}
        write_json(directory / "cfg.json", config)

    def formula(h: np.ndarray) -> Activations:
        a = largest(relu((h - w["b_dec"]) @ w["W_enc"] + w["b_enc"]), K)
        return a, a @ w["W_dec"] + w["b_dec"]

    return Layout(write, formula, "topk")


PUBLISHED: dict[str, Layout] = {
    "eai sae": eai_sae(),
    "gemma scope 2": gemma_scope_2(),
    "gemma scope 2 without config": gemma_scope_2(with_config=False),
    "llama scope jumprelu": llama_scope("jumprelu"),
    "llama scope topk": llama_scope("topk"),
    "llama scope r1": lm_saes("jumprelu", former=True),
    "llamascopium relu": lm_saes("relu"),
    "llamascopium jumprelu": lm_saes("jumprelu"),
    "llamascopium topk": lm_saes("topk"),
    "llamascopium token-wise": lm_saes("jumprelu", norm_activation="token-wise"),
    "qwen scope": qwen_scope(),
    "openai relu": openai("ReLU"),
    "openai topk": openai("TopK"),
    "goodfire": goodfire("Llama-3.1-8B-Instruct-SAE-l3.pth", "encoder_linear", "decoder_linear"),
    "goodfire topk": goodfire(f"topk_sae_l3_exp16_k{K}.pt", "encoder_linear", "decoder"),
    "qresearch": goodfire("DeepSeek-R1-Distill-Llama-8B-SAE-l3.pt", "encoder", "decoder"),
    "batch_topk vanilla": batch_topk("vanilla"),
    "batch_topk topk": batch_topk("topk"),
    "batch_topk topk, normalized": batch_topk("topk", input_unit_norm=True),
    "batch_topk jumprelu": batch_topk("jumprelu"),
}
