"""SAEs below a directory: the layer of each, and sets that do not fit a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tegakari.models.sae_formats import check_fits, load_sae, load_saes
from tegakari.schemas.errors import SaeError
from tests.support.sae_layouts import D_MODEL, LAYOUTS, saelens, sparsify


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


def test_two_saes_of_a_layer_are_refused(tmp_path: Path):
    for name in ("layer_3/width_16k/average_l0_71", "layer_3/width_16k/average_l0_141"):
        LAYOUTS["gemma scope"].write(tmp_path / name)
    with pytest.raises(SaeError, match=r"average_l0_141 and .*average_l0_71 are both of layer 3"):
        load_saes(tmp_path)


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
