"""SAE files in the layout of each library, with the library's formula in float64 numpy.

A formula returns activations [T, d_sae] and reconstructions [T, d_model]. None of it uses tegakari.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.numpy import save_file

D_MODEL = 12
D_SAE = 40
K = 5

Arrays = dict[str, np.ndarray]
Formula = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Layout(NamedTuple):
    """One kind of SAE in the files of one library."""

    write: Callable[[Path], None]
    formula: Formula
    activation: str
    """activation of the `Sae` that tegakari reads from it"""
    file: str = "."
    """path of the SAE below the directory: its file, for a format of one file per SAE"""


def weights_of(seed: int) -> Arrays:
    """Random weights that make a fair share of features active; [d_model, d_sae] encoder, rows of uneven norm."""
    rng = np.random.default_rng(seed)
    W_dec = rng.normal(size=(D_SAE, D_MODEL)) * rng.uniform(0.3, 3, (D_SAE, 1))
    return {
        "W_enc": (W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True)).T + 0.2 * rng.normal(size=(D_MODEL, D_SAE)),
        "W_dec": W_dec,
        "b_enc": rng.normal(-0.2, 0.5, D_SAE),
        "b_dec": rng.normal(size=D_MODEL),
        "threshold": rng.uniform(0, 1.5, D_SAE),
        "b_gate": rng.normal(-0.2, 0.5, D_SAE),
        "r_mag": rng.normal(0, 0.4, D_SAE),
        "b_mag": rng.normal(0, 0.4, D_SAE),
    }


def residuals(positions: int = 50, seed: int = 1) -> np.ndarray:
    """Random residuals [positions, d_model] in float64."""
    return np.random.default_rng(seed).normal(size=(positions, D_MODEL)) * 2


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def largest(x: np.ndarray, k: int) -> np.ndarray:
    """Keep the k largest of each row."""
    result = np.zeros_like(x)
    for row, values in enumerate(x):
        indices = np.argsort(-values, kind="stable")[:k]
        result[row, indices] = values[indices]
    return result


def rounded(w: Arrays, dtype: type = np.float32) -> Arrays:
    """The weights as a file of this dtype holds them, back in float64."""
    return {name: value.astype(dtype).astype(np.float64) for name, value in w.items()}


# --- SAELens ---------------------------------------------------------------------------------------------------------


def write_saelens(directory: Path, tensors: Arrays, config: dict[str, object]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()},
        directory / "sae_weights.safetensors",
    )
    (directory / "cfg.json").write_text(json.dumps({"d_in": D_MODEL, "d_sae": D_SAE, "dtype": "float32", **config}))


def saelens_config(
    architecture: str, *, hook: str = "blocks.3.hook_resid_post", **settings: object
) -> dict[str, object]:
    return {
        "architecture": architecture,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.18.0", "hook_name": hook},
        **settings,
    }


def saelens(architecture: str, *, b_dec_to_input: bool = True, **settings: object) -> Layout:
    """SAELens 6: `sae_in @ W_enc + b_enc`, `acts @ W_dec + b_dec`, sae_in = x - b_dec * apply_b_dec_to_input."""
    names = {
        "standard": ("b_enc",),
        "jumprelu": ("b_enc", "threshold"),
        "topk": ("b_enc",),
        "gated": ("b_gate", "r_mag", "b_mag"),
    }[architecture]
    w = rounded(weights_of(2))

    def write(directory: Path) -> None:
        config = saelens_config(architecture, **{"apply_b_dec_to_input": b_dec_to_input, **settings})
        write_saelens(directory, {name: w[name] for name in ("W_enc", "W_dec", "b_dec", *names)}, config)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pre = (x - w["b_dec"] * b_dec_to_input) @ w["W_enc"]
        norms = np.linalg.norm(w["W_dec"], axis=1) if settings.get("rescale_acts_by_decoder_norm") else np.ones(D_SAE)
        match architecture:
            case "standard":
                a = relu(pre + w["b_enc"])
            case "jumprelu":
                a = relu(pre + w["b_enc"]) * (pre + w["b_enc"] > w["threshold"])
            case "topk":
                a = relu(largest((pre + w["b_enc"]) * norms, K))
            case _:
                a = (pre + w["b_gate"] > 0) * relu(pre * np.exp(w["r_mag"]) + w["b_mag"])
        return a, (a / norms) @ w["W_dec"] + w["b_dec"]

    return Layout(write, formula, "relu" if architecture == "standard" else architecture)


def saelens_5(function: str) -> Layout:
    """SAELens before 6: one flat configuration; TopK is a standard SAE with another activation function.

    Models were loaded with centred weights then, so x is the residual without its mean over d_model.
    """
    w = rounded(weights_of(3))

    def write(directory: Path) -> None:
        config: dict[str, object] = {
            "architecture": "standard",
            "activation_fn_str": function,
            "activation_fn_kwargs": {"k": K} if function == "topk" else {},
            "apply_b_dec_to_input": True,
            "normalize_activations": False,
            "hook_point": "blocks.3.hook_resid_post",
            "hook_point_layer": 3,
        }
        tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        write_saelens(directory, {**tensors, "scaling_factor": np.ones(D_SAE)}, config)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = x.mean(1, keepdims=True)
        pre = (x - mean - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        a = relu(largest(pre, K)) if function == "topk" else relu(pre)
        return a, a @ w["W_dec"] + w["b_dec"] + mean

    return Layout(write, formula, function)


def saelens_normalized(architecture: str, normalization: str, *, b_dec_to_input: bool = True) -> Layout:
    """SAELens 6 with a norm of each position (`run_time_activation_norm_fn_in` and `_out`)."""
    plain = saelens(architecture, b_dec_to_input=b_dec_to_input, normalize_activations=normalization, k=K)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if normalization == "layer_norm":
            mean, std = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
            a, reconstruction = plain.formula((x - mean) / (std + 1e-5))
            return a, reconstruction * std + mean
        factor = np.sqrt(D_MODEL) / np.linalg.norm(x, axis=1, keepdims=True)
        a, reconstruction = plain.formula(x * factor)
        return a, reconstruction / factor

    return plain._replace(formula=formula)


def saelens_whitened(architecture: str, *, b_dec_to_input: bool) -> Layout:
    """A checkpoint of SAELens whose input is whitened: `z = (x - mean) M`, `x_hat = z_hat M^-1 + mean`."""
    plain = saelens(architecture, b_dec_to_input=b_dec_to_input, normalize_activations="covariance_whitening")
    rng = np.random.default_rng(8)
    mean, matrix = rng.normal(size=D_MODEL), rng.normal(size=(D_MODEL, D_MODEL)) / 3

    def write(directory: Path) -> None:
        plain.write(directory)
        whitening = {"mean": mean, "matrix": matrix, "inverse_matrix": np.linalg.inv(matrix)}
        tensors = {name: np.ascontiguousarray(value) for name, value in whitening.items()}
        save_file(tensors, directory / "activation_whitening.safetensors")

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, reconstruction = plain.formula((x - mean) @ matrix)
        return a, reconstruction @ np.linalg.inv(matrix) + mean

    return plain._replace(write=write, formula=formula)


def saelens_centred() -> Layout:
    """SAELens 6, trained on a model whose weights were centred: x is the residual without its mean over d_model."""
    loading = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    metadata = {"sae_lens_version": "6.18.0", "hook_name": "blocks.3.hook_resid_post", **loading}
    plain = saelens("standard", metadata=metadata)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = x.mean(1, keepdims=True)
        a, reconstruction = plain.formula(x - mean)
        return a, reconstruction + mean

    return plain._replace(formula=formula)


def saelens_scaled() -> Layout:
    """A published SAE of SAELens whose input scale stands beside its weights (`norm_scaling_factor`)."""
    scale = 0.4
    plain = saelens(
        "jumprelu", b_dec_to_input=False, normalize_activations="expected_average_only_in", norm_scaling_factor=scale
    )

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, reconstruction = plain.formula(x * scale)
        return a, reconstruction / scale

    return plain._replace(formula=formula)


def saelens_finetuned() -> Layout:
    """SAELens 3 to 5 after a fine-tuning of the factors that decode multiplies activations by."""
    plain = saelens("standard", finetuning_scaling_factor=True)
    factors = rounded({"f": np.random.default_rng(9).uniform(0.5, 2, D_SAE)})["f"]
    w = rounded(weights_of(2))

    def write(directory: Path) -> None:
        tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_dec", "b_enc")}
        config = saelens_config("standard", finetuning_scaling_factor=True)
        write_saelens(directory, {**tensors, "finetuning_scaling_factor": factors}, config)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, _ = plain.formula(x)
        return a, (a * factors) @ w["W_dec"] + w["b_dec"]

    return plain._replace(write=write, formula=formula)


def saelens_5_topk_of_openai() -> Layout:
    """OpenAI's SAEs of GPT-2 as SAELens 3 to 5 published them: a standard SAE with TopK and a layer norm."""
    w = rounded(weights_of(3))

    def write(directory: Path) -> None:
        config: dict[str, object] = {
            "architecture": "standard",
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": K},
            "apply_b_dec_to_input": True,
            "normalize_activations": "layer_norm",
            "model_from_pretrained_kwargs": {},
            "hook_name": "blocks.3.hook_resid_post",
            "hook_layer": 3,
        }
        write_saelens(directory, {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, config)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        pre = ((x - mean) / (std + 1e-5) - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        a = relu(largest(pre, K))
        return a, (a @ w["W_dec"] + w["b_dec"]) * std + mean

    return Layout(write, formula, "topk")


def saelens_batch_topk_in_training() -> Layout:
    """A checkpoint of SAELens: one threshold, in units of rescaled activations; the input scale in a file of its own.

    At inference it is a JumpReLU (`process_state_dict_for_saving_inference`).
    """
    w = rounded(weights_of(4))
    threshold, scale = 0.75, 0.5

    def write(directory: Path) -> None:
        tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        config = saelens_config(
            "batchtopk",
            k=4.5,
            rescale_acts_by_decoder_norm=True,
            normalize_activations="expected_average_only_in",
        )
        write_saelens(directory, {**tensors, "topk_threshold": np.array(threshold)}, config)
        (directory / "activation_scaler.json").write_text(json.dumps({"scaling_factor": scale}))

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        norms = np.linalg.norm(w["W_dec"], axis=1)
        pre = ((x * scale - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norms
        a = relu(pre) * (pre > threshold)
        return a, ((a / norms) @ w["W_dec"] + w["b_dec"]) / scale

    return Layout(write, formula, "batch_topk")


# --- sparsify --------------------------------------------------------------------------------------------------------


def write_sparsify(directory: Path, w: Arrays, **config: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        "encoder.weight": w["W_enc"].T,
        "encoder.bias": w["b_enc"],
        "W_dec": w["W_dec"],
        "b_dec": w["b_dec"],
    }
    save_file(
        {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()},
        directory / "sae.safetensors",
    )
    settings = {"activation": "topk", "k": K, "num_latents": D_SAE, "normalize_decoder": True, "d_in": D_MODEL}
    (directory / "cfg.json").write_text(json.dumps({**settings, **config}))


def sparsify() -> Layout:
    """`SparseCoder`: topk(relu(W (x - b_dec) + b)), W_dec [d_sae, d_model]."""
    w = rounded(weights_of(5))

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a = largest(relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]), K)
        return a, a @ w["W_dec"] + w["b_dec"]

    return Layout(lambda directory: write_sparsify(directory, w), formula, "topk")


# --- dictionary_learning ---------------------------------------------------------------------------------------------


def write_dictionary_learning(directory: Path, state: dict[str, torch.Tensor], **trainer: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(state, directory / "ae.pt")
    settings = {"layer": 3, "lm_name": "model", "activation_dim": D_MODEL, "dict_size": D_SAE}
    config = {"trainer": {**settings, **trainer}, "buffer": {"ctx_len": 128, "io": "out"}}
    (directory / "config.json").write_text(json.dumps(config))


def _torch(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value, np.float32))


def dictionary_learning(dict_class: str) -> Layout:
    """`dictionary.py` and `trainers/`: torch's Linear layout, or W_enc as in SAELens for the newer classes."""
    w = rounded(weights_of(6))
    threshold = 0.7
    linear = {"encoder.weight": w["W_enc"].T, "decoder.weight": w["W_dec"].T}
    plain = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    counted = {"k": np.array(K), "threshold": np.array(threshold)}
    states: dict[str, tuple[Arrays, str]] = {
        "AutoEncoder": ({**linear, "encoder.bias": w["b_enc"], "bias": w["b_dec"]}, "relu"),
        "AutoEncoderNew": ({**linear, "encoder.bias": w["b_enc"], "decoder.bias": w["b_dec"]}, "relu"),
        "AutoEncoderTopK": ({**linear, **counted, "encoder.bias": w["b_enc"], "b_dec": w["b_dec"]}, "topk"),
        "BatchTopKSAE": ({**linear, **counted, "encoder.bias": w["b_enc"], "b_dec": w["b_dec"]}, "batch_topk"),
        "MatryoshkaBatchTopKSAE": ({**plain, **counted, "group_sizes": np.array([10, 30])}, "batch_topk"),
        "JumpReluAutoEncoder": ({**plain, "threshold": w["threshold"]}, "jumprelu"),
        "GatedAutoEncoder": (
            {
                **linear,
                "decoder_bias": w["b_dec"],
                "r_mag": w["r_mag"],
                "gate_bias": w["b_gate"],
                "mag_bias": w["b_mag"],
            },
            "gated",
        ),
    }
    state, activation = states[dict_class]

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        norms = np.linalg.norm(w["W_dec"], axis=1)
        centred = (x - w["b_dec"]) @ w["W_enc"]
        match dict_class:
            case "AutoEncoder":  # from_pretrained divides the decoder by its norms and multiplies the encoder by them
                a = relu(centred + w["b_enc"]) * norms
                return a, (a / norms) @ w["W_dec"] + w["b_dec"]
            case "AutoEncoderNew":
                a = relu(x @ w["W_enc"] + w["b_enc"])
            case "AutoEncoderTopK":
                a = largest(relu(centred + w["b_enc"]), K)
            case "BatchTopKSAE" | "MatryoshkaBatchTopKSAE":
                a = relu(centred + w["b_enc"])
                a = a * (a > np.float32(threshold))
            case "JumpReluAutoEncoder":
                pre = x @ w["W_enc"] + w["b_enc"]
                a = relu(pre * (pre > w["threshold"]))
            case _:
                a = (centred + w["b_gate"] > 0) * relu(np.exp(w["r_mag"]) * centred + w["b_mag"])
        return a, a @ w["W_dec"] + w["b_dec"]

    def write(directory: Path) -> None:
        tensors = {name: _torch(value) if value.ndim else torch.tensor(value.item()) for name, value in state.items()}
        write_dictionary_learning(directory, tensors, dict_class=dict_class, k=K)

    return Layout(write, formula, activation)


# --- Gemma Scope -----------------------------------------------------------------------------------------------------


def gemma_scope() -> Layout:
    """params.npz: `mask = pre > threshold; acts = mask * relu(pre)`, b_dec not subtracted from the input."""
    w = rounded(weights_of(7))

    def write(directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        names = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
        arrays: dict[str, Any] = {name: w[name].astype(np.float32) for name in names}
        np.savez(directory / "params.npz", **arrays)

    def formula(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pre = x @ w["W_enc"] + w["b_enc"]
        a = (pre > w["threshold"]) * relu(pre)
        return a, a @ w["W_dec"] + w["b_dec"]

    return Layout(write, formula, "jumprelu")


LAYOUTS: dict[str, Layout] = {
    "saelens standard": saelens("standard"),
    "saelens standard, raw input": saelens("standard", b_dec_to_input=False),
    "saelens jumprelu": saelens("jumprelu", b_dec_to_input=False),
    "saelens topk": saelens("topk", k=K, rescale_acts_by_decoder_norm=False),
    "saelens topk, rescaled": saelens("topk", k=K, rescale_acts_by_decoder_norm=True),
    "saelens gated": saelens("gated"),
    "saelens batchtopk in training": saelens_batch_topk_in_training(),
    **{
        f"saelens {architecture}, {normalization}": saelens_normalized(architecture, normalization)
        for architecture in ("standard", "jumprelu", "topk", "gated")
        for normalization in ("layer_norm", "constant_norm_rescale")
    },
    "saelens jumprelu, layer_norm, raw input": saelens_normalized("jumprelu", "layer_norm", b_dec_to_input=False),
    "saelens standard, whitened": saelens_whitened("standard", b_dec_to_input=True),
    "saelens gated, whitened, raw input": saelens_whitened("gated", b_dec_to_input=False),
    "saelens standard, centred": saelens_centred(),
    "saelens jumprelu, scaled": saelens_scaled(),
    "saelens standard, fine-tuned": saelens_finetuned(),
    "saelens 5 relu": saelens_5("relu"),
    "saelens 5 topk": saelens_5("topk"),
    "saelens 5 topk, layer_norm": saelens_5_topk_of_openai(),
    "sparsify": sparsify(),
    **{
        f"dictionary_learning {name}": dictionary_learning(name)
        for name in (
            "AutoEncoder",
            "AutoEncoderNew",
            "AutoEncoderTopK",
            "BatchTopKSAE",
            "MatryoshkaBatchTopKSAE",
            "JumpReluAutoEncoder",
            "GatedAutoEncoder",
        )
    },
    "gemma scope": gemma_scope(),
}
