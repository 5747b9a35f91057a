"""SAEs from every library against that library's own formula in float64; what is written; what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tegakari.kernels import encode
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import check_fits, load_sae, load_saes, save_sae
from tegakari.schemas.errors import SaeError
from tests.support.sae_layouts import (
    D_MODEL,
    D_SAE,
    LAYOUTS,
    K,
    residuals,
    saelens,
    saelens_config,
    sparsify,
    weights_of,
    write_dictionary_learning,
    write_saelens,
    write_sparsify,
)

KINDS = ("saelens standard", "saelens jumprelu", "saelens topk", "saelens gated", "dictionary_learning BatchTopKSAE")
"""One layout of each activation."""


def activations_of(sae: Sae, h: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Dense activations through sparse encode, [T, d_sae]."""
    rows = encode(torch.from_numpy(h).float(), sae.encoder(dtype), torch.tensor([0, len(h)]), rows="all").rows
    assert rows is not None
    dense = torch.zeros(len(h), sae.d_sae)
    dense[torch.repeat_interleave(torch.arange(len(h)), rows.indptr.diff()), rows.feature.long()] = rows.activation
    return dense


def assert_follows(sae: Sae, expected: tuple[np.ndarray, np.ndarray], h: np.ndarray) -> None:
    a = activations_of(sae, h)
    np.testing.assert_allclose(a.numpy(), expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(sae.decode(a).numpy(), expected[1], rtol=1e-5, atol=1e-3)
    assert 0 < np.count_nonzero(expected[0]) < expected[0].size  # the formula does choose


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_what_its_library_gives(name: str, tmp_path: Path):
    layout, h = LAYOUTS[name], residuals()
    layout.write(tmp_path)
    sae = load_sae(tmp_path)
    assert sae.activation == layout.activation
    assert (sae.d_model, sae.d_sae) == (D_MODEL, D_SAE)
    assert sae.layer == (None if name in ("sparsify", "gemma scope") else 3)
    assert_follows(sae, layout.formula(h), h)


@pytest.mark.parametrize("name", LAYOUTS)
def test_written_and_read_again_an_sae_is_the_same(name: str, tmp_path: Path):
    layout, h = LAYOUTS[name], residuals()
    layout.write(tmp_path / "theirs")
    save_sae(tmp_path / "ours", replace(load_sae(tmp_path / "theirs"), layer=7))
    sae = load_sae(tmp_path / "ours")
    assert (sae.layer, sae.activation, sae.scale) == (7, layout.activation, 1.0)
    assert_follows(sae, layout.formula(h), h)
    config = json.loads((tmp_path / "ours" / "cfg.json").read_text())
    assert config["normalize_activations"] == "none"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("b_dec_to_input", [True, False])
def test_the_input_scale_is_folded(name: str, b_dec_to_input: bool, tmp_path: Path):
    """An SAE with scale s is the unscaled SAE on s*h, its reconstruction divided by s; so it is after saving."""
    LAYOUTS[name].write(tmp_path)
    plain = replace(load_sae(tmp_path), apply_b_dec_to_input=b_dec_to_input)
    scaled, h = replace(plain, scale=0.37), residuals()
    a = activations_of(plain, 0.37 * h)
    expected = a.numpy(), plain.decode(a).numpy() / 0.37
    assert_follows(scaled, expected, h)
    save_sae(tmp_path / "saved", scaled)
    assert_follows(load_sae(tmp_path / "saved"), expected, h)
    unit = torch.zeros(1, D_SAE)
    unit[0, 4] = 1
    moved = scaled.decode(unit) - scaled.decode(torch.zeros(1, D_SAE))
    torch.testing.assert_close(scaled.decoder_directions()[4], moved[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_weights_meet_a_large_mean_as_the_residual_does(name: str, tmp_path: Path):
    """Residuals are mostly their mean, which b_dec takes away; rounding the weights must not leave a part of it."""
    LAYOUTS[name].write(tmp_path)
    sae = load_sae(tmp_path)
    rng = np.random.default_rng(0)
    mean = torch.from_numpy(rng.normal(size=D_MODEL) * 200).bfloat16()
    h = (mean.float() + torch.from_numpy(residuals())).bfloat16().float()
    sae = replace(sae, b_dec=mean.float(), apply_b_dec_to_input=True)
    rounded = replace(sae, W_enc=sae.W_enc.bfloat16().float(), b_dec=torch.zeros(D_MODEL))
    expected = activations_of(rounded, (h - mean.float()).numpy())
    torch.testing.assert_close(activations_of(sae, h.numpy(), torch.bfloat16), expected, rtol=1e-3, atol=2e-3)


def test_thresholds_stay_float32_whatever_computes(tmp_path: Path):
    LAYOUTS["saelens jumprelu"].write(tmp_path)
    sae = load_sae(tmp_path)
    encoder = sae.encoder(torch.bfloat16)
    assert (encoder.weight.dtype, encoder.threshold.dtype, encoder.bias.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    assert torch.equal(encoder.threshold, torch.from_numpy(weights_of(2)["threshold"].astype(np.float32)))
    assert not torch.equal(encoder.threshold, encoder.threshold.bfloat16().float())


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


def test_negative_thresholds_do_not_let_negative_activations_through(tmp_path: Path):
    """JumpReLU is ReLU and a mask: below zero, the threshold has no say."""
    LAYOUTS["gemma scope"].write(tmp_path)
    sae = load_sae(tmp_path)
    lowered = replace(sae, threshold=torch.full((D_SAE,), -1.0))
    relu = replace(sae, activation="relu", threshold=None)
    assert torch.equal(activations_of(lowered, residuals()), activations_of(relu, residuals()))


@pytest.mark.parametrize("name", ["saelens standard", "saelens jumprelu", "saelens gated"])
def test_unit_decoder_reconstructs_the_same(name: str, tmp_path: Path):
    LAYOUTS[name].write(tmp_path)
    sae, h = load_sae(tmp_path), residuals()
    unit = sae.with_unit_decoder()
    a, b = activations_of(sae, h), activations_of(unit, h)
    torch.testing.assert_close(unit.W_dec.norm(dim=1), torch.ones(D_SAE))
    torch.testing.assert_close(b, a * sae.W_dec.norm(dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(unit.decode(b), sae.decode(a), rtol=1e-4, atol=1e-3)
    empty = replace(sae, W_dec=torch.zeros_like(sae.W_dec)).with_unit_decoder()
    assert torch.isfinite(activations_of(empty, h)).all()
    assert not empty.W_dec.any()


# --- sets of SAEs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "directories"),
    [
        ("gemma scope", {3: "layer_3/width_16k/average_l0_71", 11: "layer_11/width_16k/average_l0_9"}),
        ("sparsify", {0: "layers.0", 12: "layers.12"}),
        ("gemma scope", {3: "blocks.3.hook_resid_post", 4: "layer_04", 5: "layer=5", 6: "Layer6", 7: "h.7"}),
        ("gemma scope", {8: "gemma-2-2b_layer_8_width_4k", 9: "resid_post_layer_9/trainer_0"}),
    ],
)
def test_layers_come_from_directory_names(layout: str, directories: dict[int, str], tmp_path: Path):
    for name in directories.values():
        LAYOUTS[layout].write(tmp_path / name)
    saes = load_saes(tmp_path)
    assert list(saes) == sorted(directories)
    assert [sae.layer for sae in saes.values()] == sorted(directories)


def test_one_sae_may_be_the_whole_set(tmp_path: Path):
    sparsify().write(tmp_path / "layers.5")
    assert list(load_saes(tmp_path / "layers.5")) == [5]


def test_the_configuration_knows_better_than_the_directory(tmp_path: Path):
    saelens("standard").write(tmp_path / "layer_08")
    assert list(load_saes(tmp_path)) == [3]


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
def test_saes_of_other_places_are_refused(hook: str, tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    write_saelens(tmp_path, tensors, saelens_config("standard", hook=hook))
    with pytest.raises(SaeError, match=hook):
        load_sae(tmp_path)


@pytest.mark.parametrize("name", ["layers.3.mlp", "layers.3.self_attn", "layer_3_transcoder"])
def test_directories_that_name_a_part_of_a_block_are_refused(name: str, tmp_path: Path):
    sparsify().write(tmp_path / name)
    with pytest.raises(SaeError, match="not known to be the residual"):
        load_saes(tmp_path)


def test_two_saes_of_a_layer_are_refused(tmp_path: Path):
    for name in ("layer_3/width_16k/average_l0_71", "layer_3/width_16k/average_l0_141"):
        LAYOUTS["gemma scope"].write(tmp_path / name)
    with pytest.raises(SaeError, match=r"average_l0_141 and .*average_l0_71 are both of layer 3"):
        load_saes(tmp_path)


def test_nothing_found_is_said(tmp_path: Path):
    with pytest.raises(SaeError, match="no SAE below"):
        load_saes(tmp_path)
    with pytest.raises(SaeError, match="no directory"):
        load_saes(tmp_path / "missing")
    with pytest.raises(SaeError, match="no SAE in"):
        load_sae(tmp_path)
    LAYOUTS["gemma scope"].write(tmp_path / "mine")
    with pytest.raises(SaeError, match="does not say which layer"):
        load_saes(tmp_path)


class Model(NamedTuple):
    """As much of a classifier as SAEs must fit."""

    d_model: int
    layers: int


def test_saes_of_another_model_are_refused(tmp_path: Path):
    saelens("standard").write(tmp_path)
    saes = load_saes(tmp_path)
    check_fits(saes, Model(D_MODEL, 4))
    with pytest.raises(SaeError, match=r"layer 3, but the classifier has layers 0 to 2"):
        check_fits(saes, Model(D_MODEL, 3))
    with pytest.raises(SaeError, match=r"d_in 12, the classifier's d_model is 2304"):
        check_fits(saes, Model(2304, 26))


# --- what cannot be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["transcode", "skip_connection", "embed_skip", "gram_lookup", "signed"])
def test_sparsify_coders_that_are_no_saes_are_refused(field: str, tmp_path: Path):
    write_sparsify(tmp_path, weights_of(0), **{field: True})
    with pytest.raises(SaeError) as caught:
        load_sae(tmp_path)
    assert caught.value.field == field
    write_sparsify(tmp_path, weights_of(0), activation="groupmax")
    with pytest.raises(SaeError, match="groupmax"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"normalize_activations": "layer_norm"}, "normalize_activations"),
        ({"normalize_activations": "constant_norm_rescale"}, "normalize_activations"),
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
    with pytest.raises(SaeError) as caught:
        load_sae(tmp_path)
    assert caught.value.field == field
    assert str(tmp_path) in caught.value.message
    assert caught.value.fix


class Unpickled:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code was run",)


def test_pickled_code_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_dictionary_learning(tmp_path, {"encoder.weight": Unpickled()}, dict_class="AutoEncoder")  # type: ignore[dict-item]
    with pytest.raises(SaeError, match="more than tensors"):
        load_sae(tmp_path)
    assert "code was run" not in capsys.readouterr().out


def test_other_dictionaries_are_refused(tmp_path: Path):
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
    with pytest.raises(SaeError, match="NaN or infinity") as caught:
        load_sae(tmp_path)
    assert caught.value.field == tensor


@pytest.mark.parametrize("name", ["saelens jumprelu", "sparsify", "dictionary_learning AutoEncoder", "gemma scope"])
def test_damaged_files_are_refused_by_name(name: str, tmp_path: Path):
    """Every file of every format, cut short, emptied, or replaced by something else."""
    LAYOUTS[name].write(tmp_path / "whole")
    for file in (tmp_path / "whole").iterdir():
        content = file.read_bytes()
        damages = [b"", b"not what it was", content[: len(content) // 2]]
        if file.suffix == ".json":
            damages += [b"[]", b"{}", b"null"]
        for number, damage in enumerate(damages):
            damaged = tmp_path / f"{file.name}-{number}"
            LAYOUTS[name].write(damaged)
            (damaged / file.name).write_bytes(damage)
            if file.name == "cfg.json" and damage == b"{}" and name != "sparsify":
                continue  # SAELens' keys all have defaults
            with pytest.raises(SaeError) as caught:
                load_sae(damaged)
            assert str(damaged) in caught.value.message


def test_shapes_that_do_not_belong_together_are_refused(tmp_path: Path):
    w = weights_of(0)
    tensors = {name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    write_saelens(tmp_path, {**tensors, "W_dec": w["W_dec"].T}, saelens_config("standard"))
    with pytest.raises(SaeError, match=r"\(12, 40\), not \(40, 12\)"):
        load_sae(tmp_path)
    write_saelens(tmp_path, {**tensors, "W_enc": w["b_enc"]}, saelens_config("standard"))
    with pytest.raises(SaeError, match=r"not \[d_model, d_sae\]"):
        load_sae(tmp_path)
