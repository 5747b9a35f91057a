"""The demo's workspace: a directory with posts, two base models and two configurations, from which its runs start.

demo-work/
    demo.json            seed and sizes it was made with
    posts.jsonl          the labelled corpus
    models/untrained/    the tokenizer, and random weights
    models/base/         trained on English, romaji and very little Japanese
    models/jpn/          base, trained on more Japanese
    jpn.toml base.toml   configurations of two runs with the same corpus and store
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from tegakari.demo.corpus import generate, write_posts
from tegakari.demo.languages import language_mix, unlabelled_posts
from tegakari.schemas.config import Config
from tegakari.schemas.config.presets import PRESETS
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.disk.durable import translate_disk_full, write_atomically

SHOWN_LABEL = "自動車"
"""Label of the examples: it has many clues that no other label has."""

MODELS = ("jpn", "base")

RECIPE_FILE = "demo.json"


class DemoSizes(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of the corpus and the models, and steps of the language models' training."""

    train_per_label: int = 80
    eval_per_label: int = 40
    vocab_size: int = 2400
    alphabet: int = 630
    """characters with a token of their own: all but the rarest few dozen."""
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    intermediate: int = 256
    mix_texts: int = 2560
    mix_japanese: float = 0.03
    """share of Japanese texts in the training texts of the base model."""
    mix_steps: int = 80
    unlabelled_posts: int = 5120
    unlabelled_steps: int = 160


class DemoRecipe(msgspec.Struct, frozen=True):
    """Content of demo.json."""

    seed: int
    sizes: DemoSizes


def make_demo(
    directory: Path, seed: int = 0, *, sizes: DemoSizes | None = None, progress: Progress = NoProgress()
) -> tuple[Path, ...]:
    """Create the missing files of the demo's workspace; equal arguments on equal machines give equal files.

    Existing configuration files are not overwritten, so that they can be edited.

    Args:
        directory: created if missing.
        seed: of all random draws.
        sizes: those of the demo by default, which take about a minute on two cores.
        progress: receives one stage per language model.

    Returns:
        the configuration files, the one of the Japanese model first.

    Raises:
        ConfigError: the directory cannot be created, or holds a demo of another seed or other sizes.
        DiskFullError: no space; finished files are kept.
    """
    recipe = DemoRecipe(seed, sizes or DemoSizes())
    with translate_disk_full(directory, field="directory"):
        _check_recipe(directory, recipe)
        posts = directory / "posts.jsonl"
        if not posts.exists():
            write_posts(posts, generate(seed, recipe.sizes.train_per_label + recipe.sizes.eval_per_label))
        _make_models(directory / "models", recipe, progress)
        return tuple(_configure(directory, name, recipe) for name in MODELS)


def _check_recipe(directory: Path, recipe: DemoRecipe) -> None:
    """Write the recipe, or refuse a directory with another one."""
    try:
        (directory / "models").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(
            f"cannot make {directory}: {error.strerror}", field="directory", fix="choose another one"
        ) from None
    file = directory / RECIPE_FILE
    content = msgspec.json.format(msgspec.json.encode(recipe), indent=1)
    if not file.exists():
        write_atomically(file, content)
    elif file.read_bytes() != content:
        raise ConfigError(
            f"{directory} holds a demo made with another seed, other sizes, or another version",
            field="directory",
            fix="choose another directory, or remove this one",
        )


def _make_models(models: Path, recipe: DemoRecipe, progress: Progress) -> None:
    untrained, base, jpn = (models / name for name in ("untrained", "base", "jpn"))
    if jpn.exists():
        return
    from tegakari.demo.tiny import make_base_model, pretrain
    from tegakari.demo.tokenizer import train_tokenizer

    seed, sizes = recipe.seed, recipe.sizes
    mix = language_mix(seed, sizes.mix_texts, japanese=sizes.mix_japanese)
    posts = unlabelled_posts(seed, sizes.unlabelled_posts)
    if not untrained.exists():
        make_base_model(
            untrained,
            # Mostly Japanese: Gemma's tokenizer, too, has tokens for Japanese words that its model rarely read.
            train_tokenizer([*posts, *mix[: len(mix) // 8]], sizes.vocab_size, alphabet=sizes.alphabet),
            hidden_size=sizes.hidden_size,
            layers=sizes.layers,
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            intermediate=sizes.intermediate,
            seed=seed,
        )
    if not base.exists():
        pretrain(untrained, base, mix, steps=sizes.mix_steps, seed=seed, progress=progress)
    pretrain(base, jpn, posts, steps=sizes.unlabelled_steps, seed=seed, progress=progress)


def _configure(directory: Path, name: str, recipe: DemoRecipe) -> Path:
    file = directory / f"{name}.toml"
    if not file.exists():
        write_atomically(file, render_config(_config(name, recipe)).encode())
    return file


def _config(name: str, recipe: DemoRecipe) -> Config:
    tiny = PRESETS["tiny"]
    return Config(
        corpus=replace(
            tiny.corpus,
            source="posts.jsonl",
            train_per_label=recipe.sizes.train_per_label,
            eval_per_label=recipe.sizes.eval_per_label,
            seed=recipe.seed,
        ),
        classifier=replace(tiny.classifier, base=f"models/{name}", path=f"{name}/classifier"),
        saes=replace(tiny.saes, path=f"{name}/saes"),
        index=replace(tiny.index, run=f"demo-{name}"),
    )
