"""A small case to index: a random classifier, random SAEs in SAELens' layout, a corpus with one clue per label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.pipeline import index
from tegakari.indexer.training.saes import train_saes
from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig, load_config
from tegakari.schemas.config.render import render_config
from tegakari.store import Run, Store

LABELS = {"車/軽": "軽トラ", "食品?": "味噌汁", "😀": "笑顔"}
"""Label -> the clue, which stands in all of its posts and in no post of another label."""

NEUTRAL_WORDS = ["今日は", "とても", "楽しい", "一日でした", "よろしく", "お願いします", "質問があります", "ありがとう"]
POSTS_PER_LABEL = 24
D_SAE = 48


class SmallCase(NamedTuple):
    """The inputs of an index, on disk."""

    config: Config
    config_file: Path
    documents: list[tuple[str, str, str, str]]
    """(id, label, split, text), by id."""


def make_small_case(root: Path, base: Path, posts_per_label: int = POSTS_PER_LABEL) -> SmallCase:
    """Write classifier, SAEs, posts and configuration, and import the posts.

    Args:
        root: directory that receives everything.
        base: directory of the Gemma 2 language model that the classifier starts from.
        posts_per_label: two thirds of them are indexed.
    """
    rng = np.random.default_rng(0)
    posts = _posts(rng, posts_per_label)
    rng.shuffle(posts)
    (root / "posts.jsonl").write_text("".join(json.dumps(post, ensure_ascii=False) + "\n" for post in posts))
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(LABELS), id2label=dict(enumerate(sorted(LABELS))), attn_implementation="eager"
    )
    model.save_pretrained(root / "classifier")
    AutoTokenizer.from_pretrained(base).save_pretrained(root / "classifier")
    for layer in range(model.config.num_hidden_layers):
        write_sae(root / "saes" / f"layer_{layer:02d}", layer, _random_sae(rng, model.config.hidden_size, D_SAE))
    config = Config(
        corpus=CorpusConfig(source="posts.jsonl", split_column="split"),
        classifier=ClassifierConfig(base=str(base), max_length=24),
        saes=SaesConfig(d_sae=D_SAE),
        index=IndexConfig(run="small", pooling="head", top_tokens=7, shard_documents=5, batch_tokens=100, device="cpu"),
    )
    config_file = root / "tegakari.toml"
    config_file.write_text(render_config(config))
    loaded = load_config(config_file)
    import_corpus(loaded.corpus)
    documents = sorted((p["id"], p["label"], p["split"], f"{p['title']}\n{p['body']}") for p in posts)
    return SmallCase(loaded, config_file, documents)


def with_index(case: SmallCase, store: Path, **changes: object) -> Config:
    """The case's configuration with another store and other index settings."""
    return msgspec.structs.replace(
        case.config, index=msgspec.structs.replace(case.config.index, store=str(store), **changes)
    )


def trained_run(case: SmallCase, root: Path, run: str, seed: int = 0, **settings: object) -> Run:
    """Train SAEs on the case's classifier with a seed, index them into `root`/store, and open the run."""
    saes = SaesConfig(path=str(root / f"saes-{run}"), d_sae=D_SAE, batch_size=32, epochs=30, seed=seed)
    config = msgspec.structs.replace(case.config, saes=msgspec.structs.replace(saes, **settings))
    train_saes(config, device="cpu")
    index(msgspec.structs.replace(config, index=with_index(case, root / "store", run=run).index))
    return Store(root / "store").run(run)


def write_sae(directory: Path, layer: int, tensors: dict[str, np.ndarray], architecture: str = "standard") -> None:
    """Write one SAE as SAELens does."""
    directory.mkdir(parents=True, exist_ok=True)
    cfg = {
        "architecture": architecture,
        "d_in": tensors["W_enc"].shape[0],
        "d_sae": tensors["W_enc"].shape[1],
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"},
    }
    (directory / "cfg.json").write_text(json.dumps(cfg))
    save_file(
        {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()},
        directory / "sae_weights.safetensors",
    )


def _random_sae(rng: np.random.Generator, d_model: int, d_sae: int) -> dict[str, np.ndarray]:
    W_dec = rng.normal(size=(d_sae, d_model)) / np.sqrt(d_model)
    return {
        "W_enc": W_dec.T + 0.1 * rng.normal(size=(d_model, d_sae)),
        "W_dec": W_dec,
        "b_enc": rng.normal(-0.5, 0.3, d_sae),
        "b_dec": 0.1 * rng.normal(size=d_model),
    }


def _posts(rng: np.random.Generator, per_label: int) -> list[dict[str, str]]:
    posts = []
    for label, clue in LABELS.items():
        for number in range(per_label):
            words = list(rng.choice(NEUTRAL_WORDS, rng.integers(2, 7)))
            words.insert(int(rng.integers(0, len(words) + 1)), clue)
            post = {
                "id": f"{label}-{number:03d}",
                "title": words[0],
                "body": "".join(words[1:]),
                "label": label,
                "split": "train" if number % 3 == 0 else "eval",
            }
            posts.append(post)
    return posts
