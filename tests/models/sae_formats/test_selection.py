"""One SAE per layer among several: the terms of `saes.select`, and the choices that an error lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tegakari.models.sae_formats import load_saes
from tegakari.models.sae_formats.selection import choices, exactly, select
from tegakari.models.sae_formats.sets import layer_of_names
from tegakari.schemas.errors import SaeError
from tests.support.published_saes import PUBLISHED
from tests.support.sae_layouts import LAYOUTS

GEMMA_SCOPE = [
    f"layer_{layer}/width_{width}/average_l0_{l0 + layer}"
    for layer in (0, 1, 11)
    for width in ("16k", "65k", "1m")
    for l0 in (20, 70, 140)
]
GEMMA_SCOPE_2 = [
    f"{site}/layer_{layer}_width_{width}_l0_{size}"
    for site in ("resid_post", "resid_post_all")
    for layer in (9, 17)
    for width in ("16k", "262k")
    for size in ("small", "medium", "big")
]
TRAINERS = [f"resid_post_layer_{layer}/trainer_{trainer}" for layer in (3, 7) for trainer in range(3)]
LAYER_OF = layer_of_names(Path("saes"))


@pytest.mark.parametrize(
    ("names", "selector", "chosen"),
    [
        (GEMMA_SCOPE, "", GEMMA_SCOPE),
        (GEMMA_SCOPE, "width_16k/average_l0_71", ["layer_1/width_16k/average_l0_71"]),
        (GEMMA_SCOPE, "layer_1?/width_1m/*", [f"layer_11/width_1m/average_l0_{l0}" for l0 in (31, 81, 151)]),
        (GEMMA_SCOPE, "width_65k l0~74", [f"layer_{layer}/width_65k/average_l0_{70 + layer}" for layer in (0, 1, 11)]),
        (GEMMA_SCOPE, "width=1m l0~1000", [f"layer_{layer}/width_1m/average_l0_{140 + layer}" for layer in (0, 1, 11)]),
        (GEMMA_SCOPE, "average_l0_20 width~60k", ["layer_0/width_65k/average_l0_20"]),
        (
            GEMMA_SCOPE_2,
            "resid_post_all/*_width_16k_l0_small",
            [f"resid_post_all/layer_{layer}_width_16k_l0_small" for layer in (9, 17)],
        ),
        (
            GEMMA_SCOPE_2,
            "resid_post width=262k l0=medium",
            [f"resid_post/layer_{layer}_width_262k_l0_medium" for layer in (9, 17)],
        ),
        (
            GEMMA_SCOPE_2,
            "resid_post width=16k|width=262k l0=big layer=9",
            [f"resid_post/layer_9_width_{width}_l0_big" for width in ("16k", "262k")],
        ),
        (TRAINERS, "trainer_2", ["resid_post_layer_3/trainer_2", "resid_post_layer_7/trainer_2"]),
        (TRAINERS, "trainer~9", ["resid_post_layer_3/trainer_2", "resid_post_layer_7/trainer_2"]),
        (["a/layer_3", "layer_3"], "/layer_3", ["layer_3"]),
        (["layer_3", "layer_31", "layer_13"], "layer=3", ["layer_3"]),
    ],
)  # fmt: skip
def test_terms(names: list[str], selector: str, chosen: list[str]):
    assert select(names, selector, LAYER_OF) == chosen


def test_of_two_equally_near_numbers_the_smaller_is_chosen():
    names = ["layer_1/average_l0_60", "layer_1/average_l0_80", "layer_2/average_l0_70"]
    assert select(names, "l0~70", LAYER_OF) == ["layer_1/average_l0_60", "layer_2/average_l0_70"]


@pytest.mark.parametrize("selector", ["width_99k", "width=17k", "k~64", "width_16k trainer_0"])
def test_a_term_that_matches_nothing_is_an_error_with_choices(selector: str):
    with pytest.raises(SaeError, match=re.escape(repr(selector.rpartition(" ")[2]))) as raised:
        select(GEMMA_SCOPE, selector, LAYER_OF)
    assert raised.value.field == "saes.select"
    assert 'select = "layer_*/width_16k/average_l0_* l0~70"' in str(raised.value.fix)


@pytest.mark.parametrize("names", [GEMMA_SCOPE, GEMMA_SCOPE_2, TRAINERS, ["x/one", "y/two"]])
def test_every_listed_choice_has_one_sae_per_layer(names: list[str]):
    listed = choices(names, LAYER_OF)
    covered = set()
    for selector in listed:
        chosen = select(names, selector, LAYER_OF)
        layers = [LAYER_OF(name) for name in chosen]
        assert chosen
        assert len(layers) == len(set(layers))
        covered |= set(chosen)
    assert covered == set(names)
    if names is GEMMA_SCOPE_2:
        assert len(listed) == 12  # site x width x l0, and none for a single layer


def test_paths_with_characters_of_globs_are_chosen_exactly():
    names = ["layer_1/run [a] x=1", "layer_1/run [b] x=1", "layer_1/run [a] x=1/nested"]
    assert select(names, exactly(names[:1]), LAYER_OF) == names[:1]


def test_a_pasted_choice_of_the_error_loads(tmp_path: Path):
    for name in (
        "layer_3/width_16k/average_l0_71",
        "layer_3/width_16k/average_l0_141",
        "layer_4/width_16k/average_l0_9",
    ):
        LAYOUTS["gemma scope"].write(tmp_path / name)
    with pytest.raises(SaeError, match="are both of layer 3") as raised:
        load_saes(tmp_path)
    assert raised.value.field == "saes.select"
    pasted = re.findall(r'^select = "(.+)"$', str(raised.value.fix), re.MULTILINE)
    assert pasted
    for selector in pasted:
        assert 3 in load_saes(tmp_path, selector) or 4 in load_saes(tmp_path, selector)
    sources = {layer: sae.source for layer, sae in load_saes(tmp_path, "l0~80").items()}
    assert sources == {3: "layer_3/width_16k/average_l0_71", 4: "layer_4/width_16k/average_l0_9"}


def test_saes_of_one_file_each_are_chosen_by_their_directory(tmp_path: Path):
    for k in (5, 7):
        layout = PUBLISHED["qwen scope"]
        layout.write(tmp_path)
        (tmp_path / layout.file).rename(tmp_path / "layer3.sae.pt")
        (tmp_path / f"SAE-Res-Tiny-L0_{k}").mkdir()
        (tmp_path / "layer3.sae.pt").rename(tmp_path / f"SAE-Res-Tiny-L0_{k}" / "layer3.sae.pt")
    saes = load_saes(tmp_path, "SAE-Res-Tiny-L0_7")
    assert {layer: (sae.k, sae.source) for layer, sae in saes.items()} == {3: (7, "SAE-Res-Tiny-L0_7/layer3.sae.pt")}
