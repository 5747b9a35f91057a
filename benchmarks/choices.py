"""What the choices that the study leaves open give on the demo: the figures of docs/faithful.md.

    python -m benchmarks.choices [--store demo-work/store] [--runs demo-jpn,demo-base]

A row per choice and alternative, a column per run; the first alternative is the default of tegakari. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from tegakari.analyses.cues import feature_cues
from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.knockout import knock_out_all, sweeps
from tegakari.analyses.specificity import specificity
from tegakari.analyses.variants import read_concepts
from tegakari.analyses.variants.forward import strongest_features
from tegakari.analyses.variants.survival import pairs_within, survivals
from tegakari.schemas.config import POOLINGS
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.variants import Concept
from tegakari.store import Run, Store, queries

K = 20
MODES: tuple[Literal["error_preserving", "reconstruction"], ...] = ("error_preserving", "reconstruction")
POSITIONS: tuple[Literal["all", "head"], ...] = ("all", "head")
STRONG_SHARES = (0.5, 0.25, 0.75)


class Row(NamedTuple):
    """What one alternative of a choice gives in one run."""

    choice: str
    alternative: str
    figure: str


def features_of(run: Run) -> Iterator[Row]:
    """Pooling, standard deviation, and the cut-off of a high d."""
    for pooling in POOLINGS:
        layers = queries.specificity(run, pooling=pooling)
        variety = np.average([layer.mean_variety for layer in layers], weights=[layer.features for layer in layers])
        specific = sum(layer.specific for layer in layers)
        yield Row("pooling of d", pooling, f"variety {variety:.3f}, {specific} specific")
    result = specificity(run)
    unweighted = result.unweighted
    yield Row("standard deviation of d", "pooled, weighted by documents", f"{result.specific} specific")
    yield Row("standard deviation of d", "unweighted mean of variances", f"{unweighted.specific} specific")
    for high in result.high_d:
        share = "" if high.single_label_share is None else f", {high.single_label_share:.1%} single label"
        yield Row("high d", f"> {high.cutoff:g}", f"{high.features} features{share}")
    documents = sum(run.label_documents)
    for pooling in ("head", "max"):
        active = run.blocks.documents_active[pooling].sum() / documents / len(run.manifest.saes.layers)
        yield Row("active features of a document", f"at {pooling}", f"{active:.1f} per layer")


def knockouts_of(store: Path, run: Run, models: RunModels) -> Iterator[Row]:
    """Ablation and positions; the effect that chooses a layer; the figure of the control."""
    labels = run.labels
    layer = run.manifest.saes.layers[-1]
    for mode, positions in product(MODES, POSITIONS):
        settings = [
            KnockoutSettings(label=label, layer=layer, k=K, draws=0, mode=mode, positions=positions) for label in labels
        ]
        points = np.mean([result.delta for result in knock_out_all(store, run, lambda: models, settings)])
        yield Row(f"ablation and positions, layer {layer}", f"{mode}, {positions}", f"{points:+.1f} points")
    by_label = [KnockoutSettings(label=label, k=K, draws=1, holdout=True) for label in labels]
    results = sweeps.over_layers(store, run, lambda: models, by_label)
    layers = run.manifest.saes.layers
    for name in ("net", "points"):
        effects = np.array(
            [
                [
                    result.delta
                    - (result.density_control.delta_mean if name == "net" and result.density_control else 0)
                    for result in of_label
                ]
                for of_label in results
            ]
        ).mean(0)
        place = int(effects.argmin())
        yield Row("effect that chooses the layer", name, f"layer {layers[place]} ({effects[place]:+.1f})")
    controlled = [KnockoutSettings(label=label, layer=layer, k=K) for label in labels]
    controls = [(result, result.control) for result in knock_out_all(store, run, lambda: models, controlled)]
    recall = [control.delta_mean for _, control in controls if control]
    macro = [
        100 * (control.macro_f1_partial_ablation_mean - result.macro_f1_before)
        for result, control in controls
        if control and control.macro_f1_partial_ablation_mean is not None and result.macro_f1_before is not None
    ]
    yield Row("control", "recall of the label", f"{min(recall):+.1f} to {max(recall):+.1f} points")
    yield Row("control", "macro-F1", f"{min(macro):+.2f} to {max(macro):+.2f} points")


def cues_of(run: Run) -> Iterator[Row]:
    """Share of the maximum from which an activation is strong."""
    layer = run.manifest.saes.layers[-1]
    for strong_share in STRONG_SHARES:
        shares, unique = [], []
        for label in run.labels:
            for row in queries.label_features(run, label, layer=layer, limit=K).items:
                cues = feature_cues(run, row.layer, row.feature, strong_share=strong_share)
                if cues is not None:
                    shares.append(cues.by_form.top_token_share)
                    unique.append(cues.by_form.unique_tokens)
        figure = f"top token share {np.mean(shares):.3f}, {np.mean(unique):.1f} unique tokens"
        yield Row(f"strong positions, layer {layer}", f"{strong_share:g} of the maximum", figure)


def survival_of(models: RunModels, concepts: Sequence[Concept]) -> Iterator[Row]:
    """Survival against one other form or against all others, and of up to four forms."""
    texts = [form.sentence for concept in concepts for form in concept.forms]
    strongest = strongest_features(models, texts, K, NoProgress())
    first = np.cumsum([0, *(len(concept.forms) for concept in concepts)])[:-1].tolist()
    pairs = pairs_within(concepts, first)
    pairwise = np.nanmean([survivals(of_layer, pairs, K) for of_layer in strongest])
    four = [len(concept.forms) <= 4 for concept in concepts]
    of_four = np.array(four)[pairs.group]
    yield Row("survival, k = 20", "of pairs of forms", f"{pairwise:.3f}")
    against_all = []
    for of_layer in strongest:
        for start, concept in zip(first, concepts, strict=True):
            sets = [set(row[row >= 0].tolist()) for row in of_layer[start : start + len(concept.forms)]]
            for number, features in enumerate(sets):
                others = set().union(*(other for place, other in enumerate(sets) if place != number))
                if features:
                    against_all.append(len(features - others) / len(features))
    yield Row("survival, k = 20", "of a form against all others", f"{np.mean(against_all):.3f}")
    values = np.nanmean([survivals(of_layer, pairs, K)[of_four] for of_layer in strongest])
    yield Row("survival, k = 20", "of pairs, concepts of 3 or 4 forms", f"{values:.3f} ({sum(four)} concepts)")


def rows_of(store: Path, run: Run) -> list[Row]:
    """All rows of one run."""
    models = load_run_models(run, "cpu")
    parts = (features_of(run), knockouts_of(store, run, models), cues_of(run), survival_of(models, read_concepts()))
    return [row for part in parts for row in part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("demo-work/store"))
    parser.add_argument("--runs", default="demo-jpn,demo-base")
    arguments = parser.parse_args()
    names = arguments.runs.split(",")
    by_run = [rows_of(arguments.store, Store(arguments.store).run(name)) for name in names]
    table = Table("choice", "alternative", *names)
    for rows in zip(*by_run, strict=True):
        table.add_row(rows[0].choice, rows[0].alternative, *(row.figure for row in rows))
    Console(width=150).print(table)
    print(json.dumps({name: [row._asdict() for row in rows] for name, rows in zip(names, by_run, strict=True)}))


if __name__ == "__main__":
    main()
