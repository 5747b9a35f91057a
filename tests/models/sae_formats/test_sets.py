"""SAEs below a directory: the layer of each, and sets that do not fit a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tegakari.models.sae_formats import check_fits, load_sae, load_saes, sae_files
from tegakari.schemas.errors import SaeError
from tests.support.published_saes import PUBLISHED
from tests.support.sae_layouts import D_MODEL, LAYOUTS, saelens, sparsify

ALL = {**LAYOUTS, **PUBLISHED}


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


def test_a_set_of_one_sae(tmp_path: Path):
    sparsify().write(tmp_path / "layers.5")
    assert list(load_saes(tmp_path / "layers.5")) == [5]


def test_configuration_and_directory_have_to_agree(tmp_path: Path):
    saelens("standard").write(tmp_path / "layer_08")
    with pytest.raises(SaeError, match=r"hook_name .*block 3.* and directory 'layer_08'|contradict"):
        load_saes(tmp_path)


@pytest.mark.parametrize("name", ["layers.3.mlp", "layers.3.self_attn", "layer_3_transcoder"])
def test_directories_that_name_a_part_of_a_block_are_refused(name: str, tmp_path: Path):
    sparsify().write(tmp_path / name)
    with pytest.raises(SaeError, match="and not the residual after a block"):
        load_saes(tmp_path)


@pytest.mark.parametrize(
    ("layout", "file", "missing"),
    [
        ("saelens standard", "sae_weights.safetensors", "sae_weights.safetensors"),
        ("saelens standard", "cfg.json", "cfg.json"),
        ("sparsify", "cfg.json", "cfg.json"),
        ("dictionary_learning AutoEncoder", "ae.pt", "ae.pt"),
        ("dictionary_learning AutoEncoder", "config.json", "config.json"),
        ("gemma scope 2", "params.safetensors", "params.safetensors"),
        ("llama scope jumprelu", "checkpoints/final.safetensors", "checkpoints/final.safetensors"),
        ("llama scope jumprelu", "hyperparams.json", "hyperparams.json"),
        ("llamascopium relu", "sae_weights.safetensors", "sae_weights.safetensors"),
        ("batch_topk topk", "sae.pt", "sae.pt"),
    ],
)
def test_a_layer_with_a_part_of_its_files_is_refused(layout: str, file: str, missing: str, tmp_path: Path):
    LAYOUTS["gemma scope"].write(tmp_path / "layer_3")
    ALL[layout].write(tmp_path / "layer_4")
    (tmp_path / "layer_4" / file).unlink()
    with pytest.raises(SaeError, match=rf"layer_4 has .* but no .*{missing}") as raised:
        load_saes(tmp_path)
    assert "saes.select" in str(raised.value.fix)
    assert list(load_saes(tmp_path, "layer_3")) == [3]


def test_the_configuration_of_a_model_is_no_part_of_an_sae(tmp_path: Path):
    LAYOUTS["gemma scope"].write(tmp_path / "layer_3")
    for content in ('{"model_type": "gemma2"}', '["model"]', "not JSON"):
        (tmp_path / "config.json").write_text(content)
        assert list(load_saes(tmp_path)) == [3]


@pytest.mark.parametrize("name", ALL)
def test_git_lfs_pointers_are_refused_in_words(name: str, tmp_path: Path):
    ALL[name].write(tmp_path)
    weights = max((file for file in tmp_path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    weights.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 302130736\n")
    with pytest.raises(SaeError, match="Git LFS pointer") as raised:
        load_sae(tmp_path / ALL[name].file)
    assert raised.value.field == weights.name
    assert "git lfs pull" in str(raised.value.fix)


def test_layers_that_are_asked_for_and_missing_are_an_error(tmp_path: Path):
    for layer in (3, 5):
        LAYOUTS["gemma scope"].write(tmp_path / f"layer_{layer}")
    assert list(load_saes(tmp_path, layers=[5])) == [5]
    with pytest.raises(SaeError, match=r"no SAE of layer 4, 40 below .*, which has layers 3") as raised:
        load_saes(tmp_path, layers=[3, 4, 40])
    assert raised.value.field == "saes.layers"


def test_directories_named_like_files_and_the_state_of_downloads(tmp_path: Path):
    """`v5_32k_layer_11.pt` is a directory in the repositories of OpenAI's SAEs for SAELens."""
    saelens("standard").write(tmp_path / "v5_32k_layer_3.pt")
    state = tmp_path / ".cache" / "huggingface" / "download" / "v5_32k_layer_3.pt"
    state.mkdir(parents=True)
    (state / "cfg.json.metadata").write_text("commit")
    (state / "cfg.json.lock").write_text("")
    assert [sae.source for sae in load_saes(tmp_path).values()] == ["v5_32k_layer_3.pt"]


def test_directories_that_are_links_are_followed_and_circles_are_not(tmp_path: Path):
    LAYOUTS["gemma scope"].write(tmp_path / "elsewhere" / "sae")
    (tmp_path / "saes").mkdir()
    (tmp_path / "saes" / "layer_03").symlink_to(tmp_path / "elsewhere" / "sae", target_is_directory=True)
    (tmp_path / "saes" / "circle").symlink_to(tmp_path / "saes", target_is_directory=True)
    saes = load_saes(tmp_path / "saes")
    assert {layer: sae.source for layer, sae in saes.items()} == {3: "layer_03"}
    files = sae_files(tmp_path / "saes", ["layer_03"])
    assert [file.relative_to(tmp_path / "saes").as_posix() for file in files] == ["layer_03/params.npz"]


def test_a_directory_without_an_sae_is_refused(tmp_path: Path):
    with pytest.raises(SaeError, match="no SAE below"):
        load_saes(tmp_path)
    with pytest.raises(SaeError, match="no directory"):
        load_saes(tmp_path / "missing")
    with pytest.raises(SaeError, match="no SAE in"):
        load_sae(tmp_path)
    LAYOUTS["gemma scope"].write(tmp_path / "sae")
    with pytest.raises(SaeError, match="does not say which layer"):
        load_saes(tmp_path)


class Model(NamedTuple):
    """The part of a classifier that SAEs must fit."""

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
