"""SAE recipes on the same residuals: ReLU with an L1 penalty, ReLU with a target L0, BatchTopK.

    python -m benchmarks.recipes [CONFIG ...] [--steps 2000] [--batch-size 128] [--no-demo]
    make bench-recipes                              RECIPE_CONFIGS="a.toml b.toml" adds classifiers of one's own

A CONFIG is a tegakari.toml whose corpus is imported and whose classifier is fine-tuned; `d_sae` and the learning rate
are taken from it. The demo's Japanese classifier is made if it is missing. The SAE is that of the layer at 70 % of the
depth, trained on the residuals of the training documents without norm outliers. On evaluation documents:

    EV, L0, dead   explained variance, active features per position, features active nowhere; ordinary positions
    purity         of the 20 features with the largest d of each label: share of the label among the 10 documents with
                   the largest maximum of the feature
    knockout       recall lost when those 20 are ablated at all positions, in points, minus what features of the
                   same density cost; mean over labels, and the standard error of that mean

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.environments import WORK
from benchmarks.machine import machine
from tegakari.analyses.label_d import PooledActivations, label_d
from tegakari.demo.workspace import make_demo
from tegakari.indexer.corpus import import_corpus, read_documents
from tegakari.indexer.training.classifier import finetune
from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.kernels.reference import activations
from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.models.outliers import norm_limit, norms_of
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.edits import Edit
from tegakari.models.rerun.prefix import Prefix, run_prefix
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config, SaesConfig, load_config

DEPTH = 0.7
"""Layer of the SAE, as a share of the layers."""
FEATURES = 20
STRONGEST = 10
"""Documents per feature that purity is measured on."""
DRAWS = 3
"""Control sets per knockout."""
NEAREST = 10
"""A control feature is drawn from this many, the nearest in number of active positions."""
CPU = torch.device("cpu")


class Recipe(NamedTuple):
    """How the activations of an SAE become sparse; one of the last three decides their number."""

    architecture: Literal["relu", "batch_topk"]
    l1: float = 1.44
    target_l0: float = 0
    k: int = 0

    def __str__(self) -> str:
        if self.architecture == "batch_topk":
            return f"BatchTopK, k = {self.k}"
        return f"ReLU, target L0 {self.target_l0:g}" if self.target_l0 else f"ReLU, l1 = {self.l1:g}"


def recipes_of(l1: Sequence[float], active: Sequence[int]) -> list[Recipe]:
    """Recipes with each of the coefficients, and with each number of active features as target and as k."""
    return [
        *(Recipe("relu", l1=coefficient) for coefficient in l1),
        *(Recipe("relu", target_l0=target) for target in active),
        *(Recipe("batch_topk", k=k) for k in active),
    ]


class Case(NamedTuple):
    """A classifier with the residuals of one layer."""

    name: str
    classifier: Classifier
    layer: int
    settings: SaesConfig
    train: Tensor
    """float32 [P, d_model], ordinary positions of the training documents"""
    evaluation: Tensor
    """float32 [P, d_model], ordinary positions of the evaluation documents"""
    document: Tensor
    """int64 [P], document of each evaluation position"""
    label: np.ndarray
    """int64 [documents]"""
    prefixes: list[tuple[list[int], Prefix]]
    """batches of evaluation documents of one label each: their indices, and the pass up to the layer"""


class Figures(NamedTuple):
    """What a recipe gives on a case."""

    explained_variance: float
    l0: float
    dead: float
    purity: float
    knockout: float
    """points of recall, net of the control"""
    knockout_error: float
    l1: float | None
    seconds: float
    """processor time of the training"""


def residuals(classifier: Classifier, documents: Sequence[Tokenized], layer: int) -> tuple[Tensor, Tensor]:
    """Ordinary residuals of a layer, float32 [P, d_model], and the document of each, int64 [P]."""
    rows: list[Tensor] = []
    owners: list[Tensor] = []
    for indices, batch in classifier.batches(documents, 2048):
        classifier.run_blocks(batch, lambda _, residual: rows.append(residual.float()), [layer])
        owners.append(torch.repeat_interleave(torch.tensor(indices), batch.offsets.diff()))
    residual, document = torch.cat(rows), torch.cat(owners)
    norms = norms_of(residual)
    ordinary = norms <= norm_limit(norms)
    return residual[ordinary], document[ordinary]


def case_of(name: str, config: Config, per_label: int) -> Case:
    """Load a classifier and its documents, and run them once."""
    classifier = load_classifier(config.classifier.path, max_length=config.classifier.max_length, device="cpu")
    layer = int(DEPTH * classifier.layers)
    corpus = Path(config.corpus.path)
    train = [
        document
        for document in classifier.tokenize([d.text for d in read_documents(corpus, "train")])
        if document.positions
    ]
    documents = list(read_documents(corpus, "eval"))
    number = {label: index for index, label in enumerate(classifier.labels)}
    label = np.array([number[document.label] for document in documents])
    chosen = np.concatenate([np.flatnonzero(label == index)[:per_label] for index in number.values()])
    label = label[chosen]
    tokenized = classifier.tokenize([documents[index].text for index in chosen])
    prefixes = []
    for index in number.values():
        members = np.flatnonzero(label == index).tolist()
        batch = classifier.batch([tokenized[member] for member in members])
        prefixes.append((members, run_prefix(classifier, batch, [layer])))
    return Case(
        name,
        classifier,
        layer,
        config.saes,
        residuals(classifier, [document for document in train if document.positions], layer)[0],
        *residuals(classifier, tokenized, layer),
        label,
        prefixes,
    )


def trained(case: Case, recipe: Recipe, steps: int, batch_size: int) -> TrainableSae:
    """Train an SAE on batches of shuffled positions."""
    sae = TrainableSae(
        case.classifier.d_model,
        case.settings.d_sae,
        architecture=recipe.architecture,
        k=recipe.k,
        l1=recipe.l1,
        target_l0=recipe.target_l0,
        silent_steps=steps // 20,
        seed=0,
        device=CPU,
    )
    sae.start_from(case.train)
    schedule = Schedule(case.settings, steps)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(case.train), generator=generator)
    for step in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(len(case.train), generator=generator)
        rows, order = order[:batch_size], order[batch_size:]
        sae.step(case.train[rows], penalty=schedule.penalty(step), learning_rate=schedule.learning_rate(step))
    return sae


def figures(case: Case, recipe: Recipe, steps: int, batch_size: int) -> Figures:
    """Train an SAE and measure it."""
    start = time.process_time()
    trainable = trained(case, recipe, steps, batch_size)
    seconds = time.process_time() - start
    sae = trainable.finished(case.layer)
    h = case.evaluation
    a = activations(h, sae.encoder(torch.float32))
    error = (h - sae.decode(a, h)).double().square().sum()
    explained = 1 - (error / (h - h.mean(0)).double().square().sum()).item()
    pooled = torch.zeros(len(case.label), sae.d_sae).scatter_reduce_(
        0, case.document[:, None].expand_as(a), a, "amax"
    )  # activations are at least 0
    document, feature = pooled.nonzero(as_tuple=True)
    nonzero = PooledActivations(
        len(case.label), sae.d_sae, document.numpy(), feature.numpy(), pooled[document, feature].double().numpy()
    )
    d = np.nan_to_num(label_d(nonzero, case.label, len(case.classifier.labels)), nan=-np.inf)
    top = np.argsort(-d, axis=1, kind="stable")[:, :FEATURES]
    effects = net_effects(case, sae, top, (a > 0).sum(0).numpy())
    return Figures(
        explained,
        (a > 0).float().sum(1).mean().item(),
        ((a > 0).sum(0) == 0).float().mean().item(),
        purity(pooled.numpy(), case.label, top),
        float(effects.mean()),
        float(effects.std(ddof=1) / len(effects) ** 0.5),
        trainable.l1_coefficient,
        seconds,
    )


def purity(pooled: np.ndarray, label: np.ndarray, top: np.ndarray) -> float:
    """Share of the feature's own label among its strongest documents, mean over labels and features."""
    strongest = np.argsort(-pooled, axis=0, kind="stable")[:STRONGEST]
    shares = []
    for number, features in enumerate(top):
        for feature in features:
            documents = strongest[:, feature]
            documents = documents[pooled[documents, feature] > 0]
            shares.append((label[documents] == number).mean() if len(documents) else 0.0)
    return float(np.mean(shares))


def net_effects(case: Case, sae: Sae, top: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Change of recall in points by ablating the features of a label, minus the mean of its controls; [labels]."""
    generator = np.random.default_rng(0)
    effects = []
    for number, (_, prefix) in enumerate(case.prefixes):
        sets = [top[number], *(same_density(generator, top[number], active) for _ in range(DRAWS))]
        edits = [[Edit(case.layer, tuple(int(feature) for feature in features))] for features in sets]
        recalls = (rerun(case.classifier, {case.layer: sae}, prefix, edits).argmax(2) == number).double().mean(1)
        effects.append(100 * (recalls[0] - recalls[1:].mean()).item())
    return np.array(effects)


def same_density(generator: np.random.Generator, features: np.ndarray, active: np.ndarray) -> list[int]:
    """Per feature another active one of about as many active positions, without replacement."""
    others = np.setdiff1d(np.flatnonzero(active), features)
    drawn: list[int] = []
    for feature in features:
        distance = np.abs(np.log(active[others]) - np.log(max(active[feature], 1)))
        drawn.append(int(generator.choice(others[np.argsort(distance, kind="stable")[:NEAREST]])))
        others = others[others != drawn[-1]]
    return drawn


def demo_config() -> Path:
    """Configuration of the demo's Japanese model, whose classifier is fine-tuned."""
    path = make_demo(WORK / "recipes-demo")[0]
    config = load_config(path)
    if not Path(config.classifier.path).exists():
        import_corpus(config.corpus)
        finetune(config, device="cpu")
    return path


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="SAE recipes on the same residuals.")
    configs = os.environ.get("RECIPE_CONFIGS", "").split()
    parser.add_argument("configs", nargs="*", type=Path, default=[Path(path) for path in configs], help="tegakari.toml")
    parser.add_argument("--steps", type=int, default=2000, help="optimizer steps per SAE")
    parser.add_argument("--batch-size", type=int, default=128, help="positions per step")
    parser.add_argument("--documents", type=int, default=40, help="evaluation documents per label")
    parser.add_argument("--l1", type=float, nargs="+", default=[0.72, 1.44, 2.88], help="coefficients")
    parser.add_argument("--active", type=int, nargs="+", default=[16, 32, 64], help="target L0 and k")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--demo", action=argparse.BooleanOptionalAction, default=True, help="measure the demo's model")
    arguments = parser.parse_args(argv)
    paths = [*([demo_config()] if arguments.demo else []), *arguments.configs]
    console = Console(width=120)
    result: dict[str, Any] = {}
    for path in paths:
        config = load_config(path)
        config = replace(config, saes=replace(config.saes, learning_rate=arguments.learning_rate))
        case = case_of(config.index.run, config, arguments.documents)
        d_model, d_sae = case.classifier.d_model, case.settings.d_sae
        recalls = [(prefix.logits.argmax(1) == label).float().mean() for label, (_, prefix) in enumerate(case.prefixes)]
        table = Table(
            title=f"{case.name}: layer {case.layer} of {case.classifier.layers}, {d_model} -> {d_sae}, "
            f"{len(case.train)} training positions, {arguments.steps} steps of {arguments.batch_size}, "
            f"{len(case.classifier.labels)} labels, mean recall {np.mean(recalls):.3f}",
            title_justify="left",
        )
        for column in ("recipe", "EV", "L0", "dead", "purity", "knockout, net points", "final l1", "CPU s"):
            table.add_column(column, justify="right" if table.columns else "left")
        for recipe in recipes_of(arguments.l1, arguments.active):
            row = figures(case, recipe, arguments.steps, arguments.batch_size)
            result.setdefault(case.name, {})[str(recipe)] = row._asdict()
            table.add_row(
                str(recipe),
                f"{row.explained_variance:.3f}",
                f"{row.l0:.1f}",
                f"{row.dead:.1%}",
                f"{row.purity:.2f}",
                f"{row.knockout:+.1f} ± {row.knockout_error:.1f}",
                "" if row.l1 is None else f"{row.l1:.2f}",
                f"{row.seconds:.0f}",
            )
            sys.stderr.write(f"{case.name}, {recipe}: {row}\n")
        console.print(table)
    sys.stdout.write(json.dumps({"models": result} | machine()) + "\n")


if __name__ == "__main__":
    main()
