"""Sites from names of published SAEs: SAELens' list of releases, sparsify, dictionary_learning and others.

Most names stand in SAELens' list; the others follow the patterns of their publishers with another layer or part. A test
whose names are made up says so.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tegakari.models.sae_site import names_residual, residual_layer, site_of_name, sites_of_config, sites_of_path
from tegakari.schemas.errors import SaeError

RESIDUAL = {
    # repository/directory of the SAE -> layer
    "google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71": 20,
    "google/gemma-scope-9b-it-res/layer_9/width_131k/canonical": 9,
    "google/gemma-scope-27b-pt-res/layer_22/width_131k/average_l0_82": 22,
    "google/gemma-scope-2-4b-pt/resid_post/layer_17_width_16k_l0_medium": 17,
    "google/gemma-scope-2-1b-it/resid_post_all/layer_0_width_262k_l0_small": 0,
    "google/gemma-scope-2-12b-pt/resid_post/layer_24_width_262k_l0_medium_seed_1": 24,
    "fnlp/Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L15R-8x": 15,
    "fnlp/Llama-Scope-R1-Distill/800M-Slimpajama-0-OpenR1-Math-220k/L15R": 15,
    "jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre": 7,
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8/blocks.8.hook_resid_pre_768": 7,
    "jbloom/GPT2-Small-OAI-v5-32k-resid-post-SAEs/v5_32k_layer_11.pt": 11,
    "jbloom/Gemma-2b-Residual-Stream-SAEs/gemma_2b_blocks.10.hook_resid_post_16384": 10,
    "jbloom/Gemma-2b-IT-Residual-Stream-SAEs/gemma_2b_it_blocks.12.hook_resid_post_16384": 12,
    "JoshEngels/Mistral-7B-Residual-Stream-SAEs/mistral_7b_layer_16": 16,
    "Juliushanhanhan/llama-3-8b-it-res/blocks.25.hook_resid_post": 25,
    "ctigges/pythia-70m-deduped__res-sm_processed/4-res-sm": 4,
    "neuronpedia/gpt2-small__res_sce-ajt/6-res_sce-ajt": 6,
    "canrager/lm_sae/pythia70m_sweep_topk_ctx128_0730/resid_post_layer_3/trainer_0": 3,
    "canrager/saebench_gemma-2-2b_width-2pow12_date-1109/gemma-2-2b_topk_width-2pow12_date-1109/"
    "resid_post_layer_12_checkpoints/trainer_0_step_0": 12,
    "adamkarvonen/saebench_gemma-2-2b_width-2pow12_date-0108/MatryoshkaBatchTopK_gemma-2-2b__0108/"
    "resid_post_layer_12/trainer_0": 12,
    "chanind/gemma-2-2b-batch-topk-matryoshka-saes-w-32k-l0-40/standard/blocks.5.hook_resid_post": 5,
    "andyrdt/saes-llama-3.1-8b-instruct/resid_post_layer_11/trainer_1": 11,
    "EleutherAI/sae-llama-3-8b-32x/layers.31": 31,
    "EleutherAI/sae-pythia-70m-32k/gpt_neox.layers.3": 3,
    "EleutherAI/sae-gpt2/transformer.h.5": 5,
    "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50/layer17.sae.pt": 17,
    "Goodfire/Llama-3.1-8B-Instruct-SAE-l19": 19,
    "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19": 19,
}

OTHERS = [
    "google/gemma-scope-2b-pt-mlp/layer_20/width_16k/average_l0_71",
    "google/gemma-scope-9b-pt-mlp/layer_9/width_131k/canonical",
    "google/gemma-scope-2b-pt-att/layer_20/width_16k/average_l0_71",
    "google/gemma-scope-27b-pt-att/layer_20/width_131k/average_l0_71",
    "google/gemma-scope-2b-pt-transcoders/layer_20/width_16k/average_l0_71",
    "google/gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6",
    "google/gemma-scope-2-4b-pt/transcoder_all/layer_0_width_16k_l0_big_affine",
    "google/gemma-scope-2-4b-pt/mlp_out/layer_17_width_16k_l0_medium",
    "google/gemma-scope-2-4b-pt/attn_out_all/layer_0_width_16k_l0_big",
    "google/gemma-scope-2-4b-pt/crosscoder/layer_9_17_22_29_width_65k_l0_medium",
    "fnlp/Llama3_1-8B-Base-LXA-8x/Llama3_1-8B-Base-L0A-8x",
    "fnlp/Llama3_1-8B-Base-LXM-32x/Llama3_1-8B-Base-L31M-32x",
    "fnlp/Llama3_1-8B-Base-LXTC-8x/Llama3_1-8B-Base-L15TC-8x",
    "jbloom/GPT2-Small-OAI-v5-32k-resid-mid-SAEs/v5_32k_layer_0.pt",
    "jbloom/GPT2-Small-OAI-v5-128k-attn-out-SAEs/v5_128k_layer_3",
    "jbloom/GPT2-Small-OAI-v5-32k-mlp-out-SAEs/v5_32k_layer_0.pt",
    "jbloom/GPT2-Small-SAEs-Reformatted/blocks.0.hook_resid_pre",
    "tommmcgrath/gpt2-small-mlp-out-saes/sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1",
    "ckkissane/attn-saes-gpt2-small-all-layers/gpt2-small_L5_Hcat_z_lr1.20e-03_l11.00e+00_ds49152_bs4096",
    "ctigges/pythia-70m-deduped__att-sm_processed/0-att-sm",
    "ctigges/pythia-70m-deduped__mlp-sm_processed/5-mlp-sm",
    "ctigges/pythia-70m-deduped__res-sm_processed/e-res-sm",
    "mwhanna/qwen3-8b-transcoders/layer_0.safetensors",
    "mntss/clt-gemma-2-2b-2.5M/layer_3",
    "EleutherAI/sae-pythia-410m-65k/layers.0.attention",
    "EleutherAI/sae-pythia-410m-65k/layers.0.mlp",
    "EleutherAI/sae-DeepSeek-R1-Distill-Qwen-1.5B-65k/layers.9.mlp",
    "EleutherAI/skip-transcoder-Llama-3.2-1B-131k/layers.5.mlp",
    "saprmarks/pythia-70m-deduped-saes/attn_out_layer0/10_32768",
    "saprmarks/pythia-70m-deduped-saes/mlp_out_layer1/10_32768",
    "lm_sae/mlp_out_layer_1/trainer_0",
    "lm_sae/attention_out_layer_1/trainer_0",
]


def layer_in(root: Path, name: str) -> int | None:
    """Layer of an SAE whose repository is the directory of the set."""
    _, repository, *parts = name.split("/") if name.count("/") > 1 else ("", *name.split("/"))
    return residual_layer(sites_of_path(PurePosixPath(*parts), root / repository))


@pytest.mark.parametrize("name", RESIDUAL)
def test_published_residual_saes(name: str, tmp_path: Path):
    assert layer_in(tmp_path, name) == RESIDUAL[name]


@pytest.mark.parametrize("name", OTHERS)
def test_published_saes_of_other_sites_are_refused(name: str, tmp_path: Path):
    with pytest.raises(SaeError, match=r"not the residual after a block|embedding"):
        layer_in(tmp_path, name)


@pytest.mark.parametrize("name", [*RESIDUAL, *OTHERS])
def test_a_hub_cache_and_a_download_of_one_sae_tell_as_much(name: str, tmp_path: Path):
    """The repository's name stands above the directory of the set: two levels in a hub's cache, any in a download."""
    owner, repository, *parts = name.split("/") if name.count("/") > 1 else ("", *name.split("/"))
    revision = "0ab1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9"
    places = [(tmp_path / f"models--{owner}--{repository}" / "snapshots" / revision, PurePosixPath(*parts))]
    places += [(tmp_path.joinpath(repository, *parts), PurePosixPath("."))]
    for root, directory in places:
        if name in RESIDUAL:
            assert residual_layer(sites_of_path(directory, root)) == RESIDUAL[name]
        else:
            with pytest.raises(SaeError):
                residual_layer(sites_of_path(directory, root))


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.4.hook_resid_post", 4),
        ("blocks.4.hook_resid_pre", 3),
        ("blocks.12.hook_out", 12),
        ("blocks.12.hook_in", 11),
        ("model.layers.7", 7),
        ("model.layers.7.output", 7),
        ("model.layers.7.input", 6),
        ("transformer.h.3", 3),
        ("gpt_neox.layers.3", 3),
        ("resid_post_layer_3", 3),
        ("bert.encoder.layer.3", 3),
    ],
)
def test_hooks_and_modules_of_the_residual(hook: str, layer: int):
    assert residual_layer(sites_of_config({"hook_name": hook}, ["hook_name"])) == layer


@pytest.mark.parametrize(
    "hook",
    [
        "blocks.4.hook_mlp_out",
        "blocks.4.hook_resid_mid",
        "blocks.4.hook_attn_out",
        "blocks.4.attn.hook_z",
        "blocks.4.attn.hook_q",
        "blocks.4.mlp.hook_post",
        "blocks.4.mlp.hook_in",
        "blocks.4.ln1",
        "blocks.4.ln2.hook_normalized",
        "blocks.0.hook_resid_pre",
        "hook_embed",
        "ln_final.hook_normalized",
        "model.layers.4.mlp",
        "model.layers.4.self_attn.o_proj.input",
        "model.layers.4.post_feedforward_layernorm.output",
        "model.layers.4.pre_feedforward_layernorm.output",
        "model.embed_tokens",
        "mlp_out_layer_3",
        "attention_out_layer_3",
        "attn_out_layer_3",
        "unknown.4.place",
        "blocks.4.hook_unheard_of",
    ],
)
def test_hooks_and_modules_of_other_sites_are_refused(hook: str):
    with pytest.raises(SaeError, match="residual"):
        residual_layer(sites_of_config({"hook_name": hook}, ["hook_name"]))


@pytest.mark.parametrize(
    ("config", "directory", "reason"),
    [
        ({"submodule_name": "resid_post_layer_3"}, "mlp_out_layer_3", "an MLP"),
        ({"layer": 1}, "mlp_out_layer_1", "an MLP"),
        ({"layer": 1}, "resid_post_layer_2", "contradict"),
        ({"submodule_name": "resid_post_layer_3"}, "blocks.3.hook_resid_pre", "contradict"),
        ({"submodule_name": "resid_post_layer_3", "layer": 4}, "trainer_0", "contradict"),
        ({"submodule_name": "resid_post_layer_3"}, "layer_08", "contradict"),
    ],
)
def test_contradictions_are_errors(config: dict[str, object], directory: str, reason: str, tmp_path: Path):
    sites = (
        *sites_of_config(config, ["submodule_name"], ["layer"]),
        *sites_of_path(PurePosixPath(directory), tmp_path),
    )
    with pytest.raises(SaeError, match=reason) as raised:
        residual_layer(sites)
    assert directory in raised.value.message or "submodule_name" in raised.value.message


def test_a_directory_may_count_layers_or_blocks(tmp_path: Path):
    """The residual before block 8 is that of layer 7: a directory of either number is right."""
    for name, agrees in (("layer_8", True), ("layer_07", True), ("layer_9", False)):
        sites = (
            *sites_of_config({"hook": "blocks.8.hook_resid_pre"}, ["hook"]),
            *sites_of_path(PurePosixPath(name), tmp_path),
        )
        if agrees:
            assert residual_layer(sites) == 7
        else:
            with pytest.raises(SaeError, match="contradict"):
                residual_layer(sites)


def test_a_hook_of_the_residual_is_believed_in_a_project_of_any_name(tmp_path: Path):
    """Made up: a set in a directory that is named after a study. Directories of single SAEs still have to agree."""
    hook = sites_of_config({"hook_name": "blocks.3.hook_resid_post"}, ["hook_name"])
    root = tmp_path / "saes" / "mlp_study_of_layer_12"
    assert residual_layer((*hook, *sites_of_path(PurePosixPath("layer_03"), root))) == 3
    for directory, place in (("mlp_out_layer_3", root), (".", tmp_path / "mlp_out_layer_3")):
        with pytest.raises(SaeError, match="an MLP"):
            residual_layer((*hook, *sites_of_path(PurePosixPath(directory), place)))
    with pytest.raises(SaeError, match="an MLP"):  # without a hook every name counts
        residual_layer(sites_of_path(PurePosixPath("layer_03"), root))


def test_names_that_say_nothing(tmp_path: Path):
    """Made up: projects whose directories have words of sites, ranges of layers, and sparsities."""
    for name in ("width_16k", "average_l0_71", "trainer_0_step_0", "lowl0", "saes_layers_0-25", "layers_0_to_25"):
        assert (site_of_name(name).block, site_of_name(name).part) == (None, None), name
    root = tmp_path / "mlp-course" / "attention-study" / "results"
    assert residual_layer(sites_of_path(PurePosixPath("layer_03"), root)) == 3
    assert not names_residual(sites_of_path(PurePosixPath("layer_03"), root))
    assert names_residual(sites_of_path(PurePosixPath("layers.3"), root))
    assert residual_layer(sites_of_path(PurePosixPath("run_a"), root)) is None
