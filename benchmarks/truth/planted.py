"""Headlines about trained classifiers of a known truth: a clue per label, labels without meaning, or a random head.

Every seed makes a corpus of the demo's generator, and trains a tiny Gemma 2 classifier and SAEs as the commands do. Its
knockouts choose the layer on one half of the evaluation documents and measure on the other, as `study` does. In models
with a sink, the first token of every post has a residual a thousand times as large as those of other tokens.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from benchmarks.truth.row import Row
from tegakari.analyses.cues import feature_cues, mean_cues, normalised
from tegakari.analyses.engine.model_loader import model_loader
from tegakari.analyses.knockout.mean import knockout_mean
from tegakari.analyses.knockout.sweeps import over_labels
from tegakari.analyses.specificity import specificity
from tegakari.demo.communities import COMMUNITIES, Community
from tegakari.demo.corpus import Post, generate, write_posts
from tegakari.demo.tiny import make_base_model, pretrain
from tegakari.demo.tokenizer import train_tokenizer
from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.pipeline import index
from tegakari.indexer.training.classifier import finetune
from tegakari.indexer.training.saes import train_saes
from tegakari.models.quiet import silent_transformers
from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.schemas.study import LabelCues
from tegakari.store import Run, Store

MOST_SEEDS = 50
SEEDS_PER_TRAINING = 20

LABELS = 6
TRAIN_PER_LABEL = 80
EVAL_PER_LABEL = 40
D_SAE = 384
PRETRAINING_STEPS = 20

ALL_BUT_ONE = (LABELS - 1) / LABELS
"""Of labels, those whose recall depends on their clue: a classifier predicts one label where it reads no clue, and
still predicts it where that label's clue is ablated."""

FIRST = "■"
"""First character of every post, a token of its own."""
SINK = 1000.0
"""Norm of its embedding over that of other tokens, in a model with a sink."""

PLANTED, RANDOM_LABELS, RANDOM_HEAD = "a clue per label", "labels without meaning", "random head"
BODIES = PLAIN, WITH_SINK = ("plain", "sink")

MAX_LENGTH = 64
UNLABELLED = 1_000_000
"""Added to the seed of the posts that the language models are trained on."""


def _with_one_clue(community: Community) -> Community:
    """A community with one clue in one written form, as the demo's single one."""
    clue = next(concept for concept in community.unique if len(concept.forms) == 1)
    return Community(community.label, "single", (clue,))


COMMUNITIES_WITH_ONE_CLUE = tuple(_with_one_clue(community) for community in COMMUNITIES[:LABELS])


class Outcome(NamedTuple):
    """What the report of one run states."""

    seed: int
    case: str
    body: str
    macro_f1: float
    layer: int
    """of the knockouts"""
    found: list[bool]
    """per label, whether its clue is among the tokens of the label that the ablated features are strong on"""
    top_token: list[bool]
    """per label, whether its clue is the most frequent token of one of the ablated features"""
    label_tokens: int
    """tokens of labels that ablated features are strong on, over all labels"""
    beyond: list[bool]
    """per label, whether its knockout is beyond its control by recall"""
    by_margin_alone: list[bool]
    """per label, whether its knockout is beyond its control by the margin and not by recall"""
    net: list[float]
    """per label, points"""
    shown: bool
    """whether the report has a mean of the knockouts"""
    significant: int
    """features with a label beyond chance"""

    @property
    def claims(self) -> bool:
        """Whether a headline claims that features carry labels."""
        return self.shown or any(self.by_margin_alone) or self.significant > 0 or self.label_tokens > 0


def simulate(seeds: int) -> list[Row]:
    """Shares of headlines that are false, and of planted clues that are found.

    Args:
        seeds: a twentieth as many are trained, at least 1 and at most MOST_SEEDS.
    """
    trainings = max(1, min(seeds // SEEDS_PER_TRAINING, MOST_SEEDS))
    return rows([outcome for seed in range(trainings) for outcome in outcomes(seed)])


def outcomes(seed: int, bodies: Sequence[str] = BODIES) -> list[Outcome]:
    """Outcomes of all cases of one seed, 5 to 10 processor seconds each.

    Args:
        seed: of posts, models and analyses.
        bodies: of BODIES.
    """
    results = []
    posts = [
        post._replace(title=FIRST + post.title)
        for post in generate(seed, TRAIN_PER_LABEL + EVAL_PER_LABEL, COMMUNITIES_WITH_ONE_CLUE)
    ]
    with TemporaryDirectory() as directory:
        root = Path(directory)
        _make_bases(root, posts, seed)
        for body in bodies:
            planted = _configuration(root, f"planted-{body}", body, posts, seed)
            results.append(_outcome(_trained(planted), seed, PLANTED, body))
            results.append(_outcome(_with_random_head(planted, 1000 + seed), seed, RANDOM_HEAD, body))
            permuted = _configuration(root, f"permuted-{body}", body, _permuted(posts, seed), seed)
            results.append(_outcome(_trained(permuted), seed, RANDOM_LABELS, body))
    return results


def rows(results: Sequence[Outcome]) -> list[Row]:
    """Rows of all cases of the outcomes."""
    table = []
    for body in BODIES:
        planted, labels, head = (
            [result for result in results if (result.case, result.body) == (case, body)]
            for case in (PLANTED, RANDOM_LABELS, RANDOM_HEAD)
        )
        found, top_token, beyond, by_margin = (
            np.concatenate([getattr(result, name) for result in planted])
            for name in ("found", "top_token", "beyond", "by_margin_alone")
        )
        table += [
            _row("clue is a token of its label", PLANTED, body, found, 0.95, None),
            _row("clue is the top token of a feature", PLANTED, body, top_token, None, None),
            _row("knockout beyond its control, by recall", PLANTED, body, beyond, ALL_BUT_ONE, None),
            _row("knockout beyond its control, by recall or margin", PLANTED, body, beyond | by_margin, 0.95, None),
            _row("clue found and knockout beyond its control", PLANTED, body, found & (beyond | by_margin), 0.95, None),
            _row("mean of knockouts shown", PLANTED, body, [result.shown for result in planted], 0.95, None),
            _row("mean of knockouts shown", RANDOM_LABELS, body, [result.shown for result in labels], None, 0.05),
            _row(
                "significant features", RANDOM_LABELS, body, [result.significant > 0 for result in labels], None, 0.05
            ),
            _row("a label by its margin alone", RANDOM_LABELS, body, _any_by_margin(labels), None, 0.05),
            _row("a token of a label", RANDOM_LABELS, body, [result.label_tokens > 0 for result in labels], None, 0.05),
            _row("any of these headlines", RANDOM_LABELS, body, [result.claims for result in labels], None, 0.05),
            _row("mean of knockouts shown", RANDOM_HEAD, body, [result.shown for result in head], None, 0.05),
        ]
    return table


def _any_by_margin(results: Sequence[Outcome]) -> list[bool]:
    """Per run, whether a label is beyond its control by its margin alone."""
    return [any(result.by_margin_alone) for result in results]


def _row(
    figure: str, case: str, body: str, holds: Sequence[bool] | np.ndarray, at_least: float | None, at_most: float | None
) -> Row:
    return Row(figure, f"{case}, {body} model", float(np.mean(holds)), at_least, at_most, len(holds))


def _make_bases(root: Path, posts: Sequence[Post], seed: int) -> None:
    """Write a language model per body, trained for a few steps on other posts."""
    texts = [_text(post) for post in generate(seed + UNLABELLED, 160, COMMUNITIES_WITH_ONE_CLUE)]
    tokenizer = train_tokenizer([*texts, *map(_text, posts)], 1600)
    sizes = {"hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate": 128}
    make_base_model(root / "untrained", tokenizer, **sizes, seed=seed)
    pretrain(
        root / "untrained",
        root / PLAIN,
        texts,
        steps=PRETRAINING_STEPS,
        max_length=MAX_LENGTH,
        learning_rate=4e-3,
        seed=seed,
    )
    shutil.copytree(root / PLAIN, root / WITH_SINK)
    with silent_transformers():
        model = AutoModelForCausalLM.from_pretrained(root / PLAIN)
        embedding = model.get_input_embeddings()
        assert isinstance(embedding, torch.nn.Embedding)
        with torch.no_grad():
            row = embedding.weight[tokenizer.convert_tokens_to_ids(FIRST)]
            row *= SINK * embedding.weight.norm(dim=1).median() / row.norm()
        model.save_pretrained(root / WITH_SINK)


def _text(post: Post) -> str:
    return f"{post.title}\n{post.body}"


def _permuted(posts: Sequence[Post], seed: int) -> list[Post]:
    """The posts with each other's labels."""
    labels = [post.label for post in posts]
    Random(f"labels/{seed}").shuffle(labels)
    return [post._replace(label=label) for post, label in zip(posts, labels, strict=True)]


def _configuration(root: Path, name: str, body: str, posts: Sequence[Post], seed: int) -> Config:
    """Configuration of a run, with its posts written and imported."""
    directory = root / name
    directory.mkdir()
    write_posts(directory / "posts.jsonl", posts)
    config = Config(
        corpus=CorpusConfig(
            source=str(directory / "posts.jsonl"),
            path=str(directory / "corpus"),
            train_per_label=TRAIN_PER_LABEL,
            eval_per_label=EVAL_PER_LABEL,
            seed=seed,
        ),
        classifier=ClassifierConfig(
            base=str(root / body),
            path=str(directory / "classifier"),
            max_length=MAX_LENGTH,
            learning_rate=3e-3,
            epochs=6,
            batch_size=16,
            seed=seed,
        ),
        saes=SaesConfig(
            path=str(directory / "saes"),
            architecture="batch_topk",
            d_sae=D_SAE,
            k=16,
            learning_rate=3e-3,
            batch_size=256,
            epochs=5,
            seed=seed,
        ),
        index=IndexConfig(run=name, store=str(root / "store"), device="cpu"),
    )
    import_corpus(config.corpus)
    return config


def _trained(config: Config) -> Run:
    """The run of a classifier and SAEs that are trained by the configuration."""
    finetune(config, device="cpu")
    train_saes(config, device="cpu")
    index(config)
    return Store(Path(config.index.store)).run(config.index.run)


def _with_random_head(config: Config, seed: int) -> Run:
    """The run of a trained classifier whose head is replaced by a random one."""
    source, target = Path(config.classifier.path), Path(config.classifier.path).parent / "random-head"
    shutil.copytree(source, target)
    with silent_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(source)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            model.score.weight.normal_(0, model.config.initializer_range, generator=generator)
        model.save_pretrained(target)
    name = f"{config.index.run}-random-head"
    changed = replace(
        config,
        classifier=replace(config.classifier, path=str(target)),
        index=replace(config.index, run=name),
    )
    index(changed)
    return Store(Path(config.index.store)).run(name)


def _outcome(run: Run, seed: int, case: str, body: str) -> Outcome:
    settings = KnockoutSettings(seed=seed, holdout=True)
    knockouts = over_labels(run.store, run, model_loader(run, "cpu"), run.labels, settings)
    results = knockouts.results
    assert knockouts.choice
    labels = [(result, _cues(run, result)) for result in results]
    assert all(result.net for result in results)
    return Outcome(
        seed,
        case,
        body,
        macro_f1=results[0].macro_f1_before or 0.0,
        layer=knockouts.choice.layer,
        found=[_has_clue(result, [token.token for token in of_label.label_tokens]) for result, of_label in labels],
        top_token=[
            _has_clue(result, [feature.tokens[0].token for feature in of_label.features]) for result, of_label in labels
        ],
        label_tokens=sum(len(of_label.label_tokens) for _, of_label in labels),
        beyond=[bool(result.beyond_control) for result in results],
        by_margin_alone=[result.by_margin_alone for result in results],
        net=[result.net.value for result in results if result.net],
        shown=knockout_mean(results).shown,
        significant=specificity(run, SpecificitySettings(seed=seed)).chance.significant,
    )


def _cues(run: Run, knockout: KnockoutResult) -> LabelCues:
    """Cues of a knockout's features, as a study has them."""
    features = [
        cues for row in knockout.features if (cues := feature_cues(run, row.layer, row.feature, d=row.cohens_d))
    ]
    assert knockout.settings.label
    return mean_cues(run, knockout.settings.label, knockout.settings.layer, features)


def _has_clue(knockout: KnockoutResult, tokens: Sequence[str]) -> bool:
    """Whether one of the tokens is the clue of a knockout's label, or a part of it of more than one character."""
    (community,) = (one for one in COMMUNITIES_WITH_ONE_CLUE if one.label == knockout.settings.label)
    clue = normalised(community.unique[0].forms[0])
    return any(token in clue and (len(token) > 1 or token == clue) for token in map(normalised, tokens))
