"""What the demo needs before the first command: posts, a tokenizer, two language models, two configurations."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from tegakari.demo.corpus import generate, write_posts
from tegakari.demo.languages import japanese_texts, language_mix
from tegakari.demo.tiny import make_base_model, pretrain
from tegakari.demo.tokenizer import train_tokenizer
from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig, ServiceConfig
from tegakari.schemas.render import render_config
from tegakari.store.files import disk_full_is_said, rename_into_place, write_whole

SHOWN_LABEL = "自動車"
"""The label whose clues the demo prints."""

MODELS = ("jpn", "base")


class Scale(NamedTuple):
    """How much is made. The default takes under a minute on two cores."""

    train_per_label: int = 80
    eval_per_label: int = 40
    vocabulary: int = 2000
    texts: int = 4000
    """texts that each language model is trained on"""
    steps: int = 100
    """steps of each language-model training"""
    hidden_size: int = 128
    layers: int = 4
    classifier_epochs: int = 3
    d_sae: int = 512


def make_demo(
    directory: Path, seed: int = 0, scale: Scale | None = None, progress: Progress | None = None
) -> list[Path]:
    """Make what is missing in `directory` and return the two configuration files, jpn first.

    `base` is a language model of a mix with hardly any Japanese; `jpn` is `base` trained further on Japanese texts.
    Both read the same posts with the same tokenizer.

    Raises:
        DiskFullError: no space; what is finished is kept.
    """
    scale = scale or Scale()
    directory.mkdir(parents=True, exist_ok=True)
    posts = directory / "posts.jsonl"
    with disk_full_is_said(directory):
        if not posts.is_file():
            staged = directory / ".posts.jsonl"
            write_posts(staged, generate(seed, scale.train_per_label + scale.eval_per_label))
            rename_into_place(staged, posts)
        _make_models(directory / "models", seed, scale, progress)
        configs = [directory / f"{model}.toml" for model in MODELS]
        for model, path in zip(MODELS, configs, strict=True):
            write_whole(path, render_config(config_of(model, scale, seed)).encode())
    return configs


def _make_models(models: Path, seed: int, scale: Scale, progress: Progress | None) -> None:
    models.mkdir(exist_ok=True)
    japanese = japanese_texts(seed + 2000, scale.texts)
    mixed = language_mix(seed + 1000, scale.texts, japanese=0.03)
    if not (models / "untrained").is_dir():
        tokenizer = train_tokenizer([*mixed[: len(mixed) // 8], *japanese], scale.vocabulary)
        make_base_model(
            models / "untrained",
            tokenizer,
            hidden_size=scale.hidden_size,
            layers=scale.layers,
            heads=4,
            kv_heads=2,
            head_dim=scale.hidden_size // 4,
            intermediate=3 * scale.hidden_size,
            seed=seed,
        )
    for name, start, texts in (("base", "untrained", mixed), ("jpn", "base", japanese)):
        if not (models / name).is_dir():
            pretrain(
                models / start, models / name, texts, steps=scale.steps, batch_size=16, seed=seed, progress=progress
            )


def config_of(model: str, scale: Scale, seed: int) -> Config:
    """The configuration of one of the two models; corpus and store are shared."""
    return Config(
        corpus=CorpusConfig(
            source="posts.jsonl",
            train_per_label=scale.train_per_label,
            eval_per_label=scale.eval_per_label,
            seed=seed,
        ),
        classifier=ClassifierConfig(
            base=f"models/{model}",
            path=f"{model}/classifier",
            max_length=128,
            learning_rate=1e-3,
            epochs=scale.classifier_epochs,
            batch_size=16,
            checkpoint_steps=100,
            seed=seed,
        ),
        saes=SaesConfig(
            path=f"{model}/saes",
            d_sae=scale.d_sae,
            l1_coefficient=1.0,
            epochs=5,
            batch_size=512,
            checkpoint_steps=200,
            seed=seed,
        ),
        index=IndexConfig(run=f"demo-{model}"),
        service=ServiceConfig(),
    )
