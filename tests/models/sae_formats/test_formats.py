"""SAEs of every format against the library's formula in float64; saving; files that are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tegakari.models.sae import TrainingConditions
from tegakari.models.sae_formats import load_sae, save_sae
from tegakari.schemas.errors import SaeError
from tests.support.published_saes import PUBLISHED
from tests.support.sae_activations import assert_encodes
from tests.support.sae_layouts import (
    D_MODEL,
    D_SAE,
    K,
    residuals,
    saelens_config,
    weights_of,
    write_dictionary_learning,
    write_saelens,
    write_sparsify,
)
from tests.support.sae_layouts import LAYOUTS as OF_LIBRARIES

LAYOUTS = {**OF_LIBRARIES, **PUBLISHED}

WITHOUT_LAYER = ("sparsify", "gemma scope", "gemma scope 2 without config", "eai sae")
"""Layouts whose files do not name a layer: that of the directory counts."""


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_encodes_as_its_library_does(name: str, tmp_path: Path):
    layout, h = LAYOUTS[name], residuals()
    layout.write(tmp_path)
    sae = load_sae(tmp_path / layout.file)
    assert sae.activation == layout.activation
    assert (sae.d_model, sae.d_sae) == (D_MODEL, D_SAE)
    assert sae.layer == (None if name in WITHOUT_LAYER else 3)
    assert_encodes(sae, h, layout.formula(h))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_saved_sae_loads_as_the_same_sae(name: str, tmp_path: Path):
    layout, h = LAYOUTS[name], residuals()
    layout.write(tmp_path / "layout")
    save_sae(tmp_path / "saved", replace(load_sae(tmp_path / "layout" / layout.file), layer=7))
    sae = load_sae(tmp_path / "saved")
    assert (sae.layer, sae.activation, sae.scale) == (7, layout.activation, 1.0)
    assert_encodes(sae, h, layout.formula(h))
    config = json.loads((tmp_path / "saved" / "cfg.json").read_text())
    stored = {"none": "none", "layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}
    assert config["normalize_activations"] == stored[sae.input_norm]


def test_weights_stored_in_bfloat16_are_read_exactly(tmp_path: Path):
    LAYOUTS["saelens jumprelu"].write(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    stored = {name: value.bfloat16() for name, value in load_file(file).items()}
    save_file(stored, file)
    sae = load_sae(tmp_path)
    assert sae.threshold is not None
    assert sae.threshold.dtype == sae.W_enc.dtype == torch.float32
    assert torch.equal(sae.threshold, stored["threshold"].float())
    assert torch.equal(sae.W_enc, stored["W_enc"].float())


def test_what_saelens_says_about_the_training_is_read(tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    config = saelens_config("standard")
    metadata = {
        "hook_name": "blocks.3.hook_resid_post",
        "model_name": "gpt2-small",
        "prepend_bos": True,
        "context_size": 128,
        "seqpos_slice": [1, -1],
        "model_from_pretrained_kwargs": {"center_writing_weights": True},
    }
    write_saelens(tmp_path, tensors, {**config, "metadata": metadata})
    sae = load_sae(tmp_path)
    assert sae.training == TrainingConditions("gpt2-small", True, 128)
    assert sae.centred
    assert sae.doubts == ("it was trained on the positions slice(1, -1) of its documents alone",)
    save_sae(tmp_path / "saved", sae)
    assert load_sae(tmp_path / "saved").centred
    write_saelens(tmp_path, tensors, {**config, "metadata": {**metadata, "seqpos_slice": [None]}})
    assert load_sae(tmp_path).doubts == ()


@pytest.mark.parametrize(
    ("version", "settings", "centred"),
    [
        ("3.19.1", {}, True),
        ("3.5.0", {}, True),
        ("3.19.2", {}, False),
        ("6.0.0-rc.1", {}, False),
        (None, {}, False),
        ("3.5.0", {"model_class_name": "HookedMamba"}, False),
        ("5.0.0", {"model_from_pretrained_kwargs": {}}, False),
        ("5.0.0", {"model_from_pretrained_kwargs": {"center_writing_weights": True}}, True),
    ],
)
def test_centring_follows_the_version_that_trained(
    version: str | None, settings: dict[str, object], centred: bool, tmp_path: Path
):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    flat = {"hook_name": "blocks.3.hook_resid_post", "sae_lens_training_version": version, **settings}
    write_saelens(tmp_path, tensors, flat)
    sae = load_sae(tmp_path)
    assert sae.centred == centred
    assert sae.training.centring_assumed == ("model_from_pretrained_kwargs" not in settings)


def test_factors_of_activations_that_nothing_explains_are_refused(tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    factors = np.linspace(0.5, 2, D_SAE)
    write_saelens(tmp_path, {**tensors, "scaling_factor": factors}, saelens_config("standard"))
    with pytest.raises(SaeError) as raised:
        load_sae(tmp_path)
    assert raised.value.field == "finetuning_scaling_factor"


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.4.hook_resid_post", 4),
        ("blocks.4.hook_resid_pre", 3),
        ("blocks.12.hook_out", 12),
        ("model.layers.7", 7),
    ],
)
def test_layers_come_from_hook_names(hook: str, layer: int, tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    write_saelens(tmp_path, tensors, saelens_config("standard", hook=hook))
    assert load_sae(tmp_path).layer == layer


@pytest.mark.parametrize(
    "hook", ["blocks.4.hook_mlp_out", "blocks.4.attn.hook_z", "blocks.0.hook_resid_pre", "hook_embed", "blocks.4.ln1"]
)
def test_saes_of_other_hooks_are_refused(hook: str, tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    write_saelens(tmp_path, tensors, saelens_config("standard", hook=hook))
    with pytest.raises(SaeError, match=hook):
        load_sae(tmp_path)


@pytest.mark.parametrize("field", ["transcode", "skip_connection", "embed_skip", "gram_lookup", "signed"])
def test_sparse_coders_of_sparsify_that_are_not_saes_are_refused(field: str, tmp_path: Path):
    write_sparsify(tmp_path, weights_of(0), **{field: True})
    with pytest.raises(SaeError) as raised:
        load_sae(tmp_path)
    assert raised.value.field == field
    write_sparsify(tmp_path, weights_of(0), activation="groupmax")
    with pytest.raises(SaeError, match="groupmax"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"normalize_activations": "covariance_whitening"}, "normalize_activations"),
        ({"normalize_activations": "batch_norm"}, "normalize_activations"),
        ({"normalize_activations": "expected_average_only_in", "norm_scaling_factor": 0}, "normalize_activations"),
        ({"normalize_activations": "expected_average_only_in"}, "normalize_activations"),
        ({"reshape_activations": "hook_z"}, "reshape_activations"),
        ({"architecture": "transcoder"}, "architecture"),
        ({"activation_fn": "tanh-relu"}, "architecture"),
        ({"architecture": "topk", "k": 0}, "k"),
        ({"architecture": "topk", "k": D_SAE + 1}, "k"),
        ({"architecture": "jumprelu"}, "threshold"),
    ],
)
def test_saelens_configurations_that_cannot_be_reproduced_are_refused(
    change: dict[str, object], field: str, tmp_path: Path
):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    write_saelens(tmp_path, tensors, {**saelens_config("standard"), **change})
    with pytest.raises(SaeError) as raised:
        load_sae(tmp_path)
    assert raised.value.field == field
    assert str(tmp_path) in raised.value.message
    assert raised.value.fix


@pytest.mark.parametrize(
    ("layout", "file", "key"),
    [
        ("saelens topk", "cfg.json", "k"),
        ("sparsify", "cfg.json", "k"),
        ("dictionary_learning AutoEncoderTopK", "config.json", "k"),
        ("llama scope topk", "hyperparams.json", "top_k"),
        ("llamascopium topk", "config.json", "top_k"),
        ("batch_topk topk", "config.json", "top_k"),
    ],
)
def test_counts_may_be_written_as_floats_and_are_whole(layout: str, file: str, key: str, tmp_path: Path):
    LAYOUTS[layout].write(tmp_path)
    content = (tmp_path / file).read_text()
    (tmp_path / file).write_text(content.replace(f'"{key}": {K}', f'"{key}": {K}.0'))
    sae = load_sae(tmp_path)
    assert (sae.k, type(sae.k)) == (K, int)
    if layout.startswith("dictionary_learning"):
        return  # its weights hold k
    for value in (f"{K}.5", "true", '"5"'):
        (tmp_path / file).write_text(content.replace(f'"{key}": {K}', f'"{key}": {value}'))
        with pytest.raises(SaeError, match="is not a whole number"):
            load_sae(tmp_path)


@pytest.mark.parametrize(
    ("layout", "file", "change", "words"),
    [
        ("gemma scope 2", "config.json", {"architecture": "topk"}, "'topk' SAE"),
        ("gemma scope 2", "config.json", {"hf_hook_point_out": "model.layers.3.mlp.output"}, "transcoder"),
        ("gemma scope 2", "config.json", {"hf_hook_point_in": "model.layers.3.self_attn.o_proj.input"}, "attention"),
        ("llama scope jumprelu", "hyperparams.json", {"hook_point_out": "blocks.3.hook_mlp_out"}, "transcoder"),
        ("llama scope jumprelu", "hyperparams.json", {"use_glu_encoder": True}, "gate"),
        ("llama scope jumprelu", "hyperparams.json", {"norm_activation": "batch-wise"}, "batch-wise"),
        ("llama scope jumprelu", "hyperparams.json", {"act_fn": "gelu"}, "gelu"),
        ("llamascopium relu", "config.json", {"sae_type": "crosscoder"}, "crosscoder"),
        ("llamascopium relu", "config.json", {"act_fn": "batchtopk"}, "depends on the batch"),
        ("llamascopium relu", "config.json", {"norm_activation": "batch-wise"}, "depends on the batch"),
        ("llamascopium relu", "config.json", {"hook_point_out": "blocks.3.hook_mlp_out"}, "transcoder"),
        ("llamascopium relu", "config.json", {"use_glu_encoder": True}, "gated encoder"),
        ("batch_topk topk", "config.json", {"sae_type": "batchtopk"}, "on batches alone"),
        ("batch_topk topk", "config.json", {"activation": "abs"}, "not relu"),
        ("batch_topk topk", "config.json", {"hook_point": "blocks.3.hook_mlp_out"}, "an MLP"),
    ],
)
def test_published_saes_that_cannot_be_reproduced_are_refused(
    layout: str, file: str, change: dict[str, object], words: str, tmp_path: Path
):
    LAYOUTS[layout].write(tmp_path)
    config = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(config | change))
    with pytest.raises(SaeError, match=words) as raised:
        load_sae(tmp_path)
    assert raised.value.fix


@pytest.mark.parametrize(
    ("directory", "words"),
    [("resid_post_attn_v5_32k", "not the residual"), ("resid_delta_mlp_v5_32k", "not the residual")],
)
def test_openais_saes_of_other_places_are_refused(directory: str, words: str, tmp_path: Path):
    LAYOUTS["openai relu"].write(tmp_path)
    (tmp_path / "resid_post_mlp_v5_32k").rename(tmp_path / directory)
    with pytest.raises(SaeError, match=words):
        load_sae(tmp_path / directory / "autoencoders" / "3.pt")


def test_an_sae_of_qwen_scope_without_its_repositorys_name_lacks_k(tmp_path: Path):
    layout = LAYOUTS["qwen scope"]
    layout.write(tmp_path)
    (tmp_path / layout.file).rename(tmp_path / "layer3.sae.pt")
    with pytest.raises(SaeError, match="do not hold k") as raised:
        load_sae(tmp_path / "layer3.sae.pt")
    assert raised.value.field == "k"


def test_the_mean_norm_of_a_llamascopium_sae_is_needed(tmp_path: Path):
    LAYOUTS["llamascopium relu"].write(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    save_file({name: value for name, value in load_file(file).items() if "norm" not in name}, file)
    with pytest.raises(SaeError, match="mean activation norm") as raised:
        load_sae(tmp_path)
    assert raised.value.field == "dataset_average_activation_norm"


class Unpickled:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code was run",)


def test_pickled_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_dictionary_learning(tmp_path, {"encoder.weight": Unpickled()}, dict_class="AutoEncoder")  # type: ignore[dict-item]
    with pytest.raises(SaeError, match="more than tensors"):
        load_sae(tmp_path)
    for name in ("layer3.sae.pt", "3.pt", "Llama-SAE-l3.pth"):
        torch.save({"W_enc": Unpickled()}, tmp_path / name)
        with pytest.raises(SaeError, match="more than tensors"):
            load_sae(tmp_path / name)
    assert "code was run" not in capsys.readouterr().out


def test_other_classes_of_dictionary_learning_are_refused(tmp_path: Path):
    write_dictionary_learning(tmp_path, {}, dict_class="CrossCoder")
    with pytest.raises(SaeError, match="'CrossCoder'"):
        load_sae(tmp_path)
    LAYOUTS["dictionary_learning BatchTopKSAE"].write(tmp_path)
    state = torch.load(tmp_path / "ae.pt", weights_only=True)
    write_dictionary_learning(tmp_path, {**state, "threshold": torch.tensor(-1.0)}, dict_class="BatchTopKSAE", k=K)
    with pytest.raises(SaeError, match="never set"):
        load_sae(tmp_path)
    write_dictionary_learning(tmp_path, state, dict_class="BatchTopKSAE", submodule_name="mlp_out_layer_3")
    with pytest.raises(SaeError, match="mlp_out_layer_3"):
        load_sae(tmp_path)


@pytest.mark.parametrize("tensor", ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tensor: str, value: float, tmp_path: Path):
    LAYOUTS["saelens jumprelu"].write(tmp_path)
    file = tmp_path / "sae_weights.safetensors"
    tensors = load_file(file)
    tensors[tensor].view(-1)[1] = value
    save_file(tensors, file)
    with pytest.raises(SaeError, match="NaN or infinity") as raised:
        load_sae(tmp_path)
    assert raised.value.field == tensor


@pytest.mark.parametrize("name", ["saelens jumprelu", "sparsify", "dictionary_learning AutoEncoder", "gemma scope"])
def test_damaged_files_are_refused(name: str, tmp_path: Path):
    """Every file of every format, cut short, emptied, or replaced by other content."""
    LAYOUTS[name].write(tmp_path / "complete")
    for file in (tmp_path / "complete").iterdir():
        content = file.read_bytes()
        damages = [b"", b"other content", content[: len(content) // 2]]
        if file.suffix == ".json":
            damages += [b"[]", b"{}", b"null"]
        for number, damage in enumerate(damages):
            damaged = tmp_path / f"{file.name}-{number}"
            LAYOUTS[name].write(damaged)
            (damaged / file.name).write_bytes(damage)
            if file.name == "cfg.json" and damage == b"{}" and name != "sparsify":
                continue  # SAELens' keys all have defaults
            with pytest.raises(SaeError) as raised:
                load_sae(damaged)
            assert str(damaged) in raised.value.message


def test_inconsistent_shapes_are_refused(tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    write_saelens(tmp_path, {**tensors, "W_dec": w["W_dec"].T}, saelens_config("standard"))
    with pytest.raises(SaeError, match=r"\(12, 40\), not \(40, 12\)"):
        load_sae(tmp_path)
    write_saelens(tmp_path, {**tensors, "W_enc": w["b_enc"]}, saelens_config("standard"))
    with pytest.raises(SaeError, match=r"not \[d_model, d_sae\]"):
        load_sae(tmp_path)
