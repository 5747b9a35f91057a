"""A directory with all that the demo's pipeline starts from: posts, two base models, two configurations.

demo-work/
    demo.json            what it was made with
    posts.jsonl          the labelled corpus
    models/untrained/    the tokenizer, and random weights
    models/base/         trained on English, romaji and very little Japanese
    models/jpn/          base, trained on more Japanese
    jpn.toml base.toml   one run each, on one corpus and in one store
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace
from rich.progress import Progress

from tegakari.demo.corpus import generate, write_posts
from tegakari.demo.languages import language_mix, unlabelled_posts
from tegakari.schemas.config import Config
from tegakari.schemas.config.presets import PRESETS
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import ConfigError
from tegakari.store.disk.durable import translate_disk_full, write_atomically

SHOWN_LABEL = "自動車"
"""A label worth looking at first: it has many clues of its own."""

MODELS = ("jpn", "base")

RECIPE_FILE = "demo.json"


class DemoSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How large everything is, and how long the language models are trained."""

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
    """share of Japanese in what the base model learns from."""
    mix_steps: int = 80
    unlabelled_posts: int = 5120
    unlabelled_steps: int = 160


class DemoRecipe(msgspec.Struct, frozen=True):
    """What demo.json holds."""

    seed: int
    sizes: DemoSizes


def make_demo(
    directory: Path, seed: int = 0, *, sizes: DemoSizes | None = None, progress: Progress | None = None
) -> tuple[Path, ...]:
    """Make what is missing of the demo's workspace; equal arguments on equal machines make equal files.

    Configuration files that are there already are left alone, so that they can be edited.

    Args:
        directory: made if it is not there.
        seed: of everything drawn.
        sizes: those of the demo by default; about a minute on two cores.
        progress: shows the training of the language models.

    Returns:
        the configuration files, the one of the Japanese model first.

    Raises:
        ConfigError: the directory cannot be made, or holds a demo made with another seed or other sizes.
        DiskFullError: no space; what is finished is kept.
    """
    recipe = DemoRecipe(seed, sizes or DemoSizes())
    with translate_disk_full(directory, field="directory"):
        _claim(directory, recipe)
        posts = directory / "posts.jsonl"
        if not posts.exists():
            write_posts(posts, generate(seed, recipe.sizes.train_per_label + recipe.sizes.eval_per_label))
        _make_models(directory / "models", recipe, progress)
        return tuple(_configure(directory, name, recipe) for name in MODELS)


def _claim(directory: Path, recipe: DemoRecipe) -> None:
    """Set the recipe down, or hold it against the one that is there."""
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


def _make_models(models: Path, recipe: DemoRecipe, progress: Progress | None) -> None:
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
            # Mostly Japanese: the tokenizer of Gemma, too, knows Japanese words that the base model has rarely read.
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
