"""The tiny models are Gemma 2 models that learn, and become classifiers the way the large ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.progress import Progress
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tegakari.demo.languages import unlabelled_posts
from tegakari.demo.tiny import make_base_model, pretrain
from tegakari.models.architecture import find_blocks

SHAPE = {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 16, "intermediate": 64}
TRAINING: Any = {"steps": 30, "batch_size": 16, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def untrained(tokenizer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "untrained"
    make_base_model(path, tokenizer, **SHAPE, seed=0)
    return path


@pytest.fixture(scope="module")
def trained(untrained) -> Path:
    target = untrained.with_name("trained")
    pretrain(untrained, target, unlabelled_posts(0, 320), **TRAINING)
    return target


@torch.inference_mode()
def loss_on_new_posts(path: Path) -> float:
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    batch = tokenizer(unlabelled_posts(1, 64), padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return float(model(**batch, labels=labels).loss)


def test_it_has_what_makes_a_gemma_2(untrained, tokenizer):
    config = AutoModelForCausalLM.from_pretrained(untrained).config
    assert config.model_type == "gemma2"
    assert config.layer_types == ["sliding_attention", "full_attention"]
    assert (config.final_logit_softcapping, config.attn_logit_softcapping) == (30.0, 50.0)
    assert (config.query_pre_attn_scalar, config.head_dim, config.num_key_value_heads) == (16, 16, 1)
    assert config.tie_word_embeddings
    assert config.vocab_size == len(tokenizer)
    assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, 1, 2)


def test_the_window_of_sliding_attention_is_felt(untrained):
    """In a post longer than the window, a change at its start reaches the end only through full attention."""
    model = AutoModelForCausalLM.from_pretrained(untrained, attn_implementation="eager", dtype=torch.float32).model
    ids = torch.randint(300, 2000, (1, 80), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 0] += 1
    with torch.inference_mode():
        one, two = (model(x, output_hidden_states=True, use_cache=False).hidden_states for x in (ids, changed))
    assert not torch.equal(one[1][0, :31], two[1][0, :31])
    assert torch.equal(one[1][0, -1], two[1][0, -1])
    assert not torch.equal(one[2][0, -1], two[2][0, -1])


def test_training_teaches_it_posts(untrained, trained):
    assert loss_on_new_posts(trained) < loss_on_new_posts(untrained) - 1.0


def test_equal_seeds_make_equal_models(untrained, trained, tokenizer, tmp_path):
    make_base_model(tmp_path / "untrained", tokenizer, **SHAPE, seed=0)
    pretrain(tmp_path / "untrained", tmp_path / "trained", unlabelled_posts(0, 320), **TRAINING)
    for ours, again in ((untrained, tmp_path / "untrained"), (trained, tmp_path / "trained")):
        one, two = (load_file(path / "model.safetensors") for path in (ours, again))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_becomes_a_classifier_as_the_large_ones_do(trained):
    model, found = AutoModelForSequenceClassification.from_pretrained(
        trained, num_labels=16, use_safetensors=True, output_loading_info=True
    )
    assert set(found["missing_keys"]) == {"score.weight"}
    assert not found["mismatched_keys"]
    assert len(find_blocks(model)) == 2
    language_model = load_file(trained / "model.safetensors")
    assert torch.equal(model.model.embed_tokens.weight, language_model["model.embed_tokens.weight"])


class _Stops(Progress):
    """Stands for a user who has seen enough."""

    def update(self, *_: object, **__: object) -> None:
        raise KeyboardInterrupt


def test_a_stopped_training_leaves_nothing_that_looks_finished(untrained, tmp_path):
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        pretrain(untrained, target, unlabelled_posts(0, 32), steps=3, progress=_Stops(disable=True))
    assert not list(tmp_path.iterdir())
    pretrain(untrained, target, unlabelled_posts(0, 32), steps=1)
    assert (target / "tokenizer.json").is_file()


def test_training_says_nothing_but_through_the_bars(untrained, tmp_path, capfd):
    with Progress(disable=True) as bars:
        pretrain(untrained, tmp_path / "target", unlabelled_posts(0, 32), steps=3, progress=bars)
    assert [(task.completed, task.total) for task in bars.tasks] == [(3, 3)]
    assert capfd.readouterr() == ("", "")
