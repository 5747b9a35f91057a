"""The demo's models: Gemma 2 architecture, learning, reproducibility, and use as classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tegakari.demo.languages import unlabelled_posts
from tegakari.demo.tiny import make_base_model, pretrain
from tegakari.models.architecture import find_blocks
from tegakari.schemas.progress import NoProgress

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


def test_architecture_is_that_of_gemma_2(untrained, tokenizer):
    config = AutoModelForCausalLM.from_pretrained(untrained).config
    assert config.model_type == "gemma2"
    assert config.layer_types == ["sliding_attention", "full_attention"]
    assert (config.final_logit_softcapping, config.attn_logit_softcapping) == (30.0, 50.0)
    assert (config.query_pre_attn_scalar, config.head_dim, config.num_key_value_heads) == (16, 16, 1)
    assert config.tie_word_embeddings
    assert config.vocab_size == len(tokenizer)
    assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, 1, 2)


def test_sliding_attention_does_not_reach_beyond_its_window(untrained):
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


def test_training_lowers_the_loss_on_new_posts(untrained, trained):
    assert loss_on_new_posts(trained) < loss_on_new_posts(untrained) - 1.0


def test_equal_seeds_make_equal_models(untrained, trained, tokenizer, tmp_path):
    make_base_model(tmp_path / "untrained", tokenizer, **SHAPE, seed=0)
    pretrain(tmp_path / "untrained", tmp_path / "trained", unlabelled_posts(0, 320), **TRAINING)
    for first, second in ((untrained, tmp_path / "untrained"), (trained, tmp_path / "trained")):
        one, two = (load_file(path / "model.safetensors") for path in (first, second))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_transformers_loads_it_as_a_classifier(trained):
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        trained, num_labels=16, use_safetensors=True, output_loading_info=True
    )
    assert set(loading["missing_keys"]) == {"score.weight"}
    assert not loading["mismatched_keys"]
    assert len(find_blocks(model)) == 2
    language_model = load_file(trained / "model.safetensors")
    assert torch.equal(model.model.embed_tokens.weight, language_model["model.embed_tokens.weight"])


class InterruptedProgress(NoProgress):
    """A user who interrupts at the first step."""

    def advance(self, steps: int = 1) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_training_leaves_no_model(untrained, tmp_path):
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        pretrain(untrained, target, unlabelled_posts(0, 32), steps=3, progress=InterruptedProgress())
    assert not list(tmp_path.iterdir())
    pretrain(untrained, target, unlabelled_posts(0, 32), steps=1)
    assert (target / "tokenizer.json").is_file()


class RecordedProgress(NoProgress):
    """Stages as [steps done, total]."""

    def __init__(self) -> None:
        self.stages: list[list[int | None]] = []

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self.stages.append([done, total])

    def advance(self, steps: int = 1) -> None:
        self.stages[-1][0] += steps


def test_training_reports_its_steps_and_prints_nothing(untrained, tmp_path, capfd):
    progress = RecordedProgress()
    pretrain(untrained, tmp_path / "target", unlabelled_posts(0, 32), steps=3, progress=progress)
    assert progress.stages == [[3, 3]]
    assert capfd.readouterr() == ("", "")
