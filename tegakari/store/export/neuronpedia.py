"""Export of a run in the layout of Neuronpedia's bulk import, as SAEDashboard's `neuronpedia_export.py` writes it.

Names and types are those of Neuronpedia's `schema.prisma`. A classifier has labels where a language model has tokens to
predict: a feature's effects on logits are its label effects here, or, in a layer without them, Cohen's d. Correlated
neurons are empty.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.contexts import STRONGEST, feature_contexts, has_contexts
from tegakari.store.disk.contents import read_bounded
from tegakari.store.disk.durable import staged_directory, translate_disk_full
from tegakari.store.effects import layer_effects
from tegakari.store.export.neuronpedia_explanations import explanation_rows
from tegakari.store.export.tables import refuse_existing
from tegakari.store.queries.feature_contexts import window_texts
from tegakari.store.queries.features import feature_histogram
from tegakari.store.queries.search import decoder_directions
from tegakari.store.reader import Run

SOURCE_SET = "tegakari-res"
BATCH_FEATURES = 1024
MAX_CONFIG = 2**20
"""bytes of a model's config.json"""
EXCERPTS = 20
"""Excerpts per feature of the documents of its strongest positions; those of the sample come behind them."""

WINDOW_TOKENS = 24
"""Tokens on each side of the strongest position in an excerpt of a run without contexts."""

EXCERPTS_NOTES = {
    True: "An excerpt is a context of the run: the strongest of each of 20 documents, then a sample of all strengths, "
    "with the activation at every token, rounded to 11 significant bits. ",
    False: "Only the strongest positions of a feature have their activation; other tokens of an excerpt are written as "
    "0, because the run has no contexts. ",
}
"""By whether the run has contexts."""

NOTES = (
    "dataIndex is the document's id, dataSource its label. pos_str and neg_str are labels, pos_values and neg_values "
    "{figure} of the feature for them, logits_hist its distribution over all labels. freq_hist is that of the "
    "feature's activation over the documents in which it is active."
)

FIGURES = {
    "effect": "the effects (logits per unit of activation, directly through norm and head)",
    "d": "Cohen's d",
}
"""In NOTES: what the values of labels are."""

EFFECTS = 10
"""Labels with the largest values, and with the smallest."""


def _key(name: str) -> str:
    """Neuronpedia's name of a field: camelCase, except for the fields that it adopted from SAEDashboard."""
    if name in _SNAKE_CASE:
        return name
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


_SNAKE_CASE = frozenset(
    [
        "num_prompts",
        "frac_nonzero",
        "neg_str",
        "neg_values",
        "pos_str",
        "pos_values",
        "freq_hist_data_bar_heights",
        "freq_hist_data_bar_values",
        "logits_hist_data_bar_heights",
        "logits_hist_data_bar_values",
        "decoder_weights_dist",
    ]
)


def model_id(run: Run) -> str:
    """Name of a run as Neuronpedia's id of a model, which has no dots."""
    return run.name.replace(".", "-")


class _Row(msgspec.Struct, frozen=True, kw_only=True, rename=_key):
    creator_id: str
    created_at: str


class Release(_Row, frozen=True, kw_only=True):
    """Row of release.jsonl."""

    name: str
    description: str
    creator_name: str
    visibility: str = "PRIVATE"


class Model(_Row, frozen=True, kw_only=True):
    """Row of model.jsonl."""

    id: str
    display_name: str
    display_name_short: str
    layers: int
    dimension: int
    updated_at: str
    instruct: bool = False
    neurons_per_layer: int
    """of the MLP; 0: unknown, because the model is not on this machine"""
    owner: str
    visibility: str = "PRIVATE"


class SourceSet(_Row, frozen=True, kw_only=True):
    """Row of sourceset.jsonl."""

    model_id: str
    name: str
    release_name: str
    creator_name: str
    description: str = "SAEs on the residual stream of a text classifier"
    type: str = "residual"
    visibility: str = "PRIVATE"


class Source(_Row, frozen=True, kw_only=True):
    """Row of source.jsonl."""

    id: str
    model_id: str
    set_name: str
    num_prompts: int
    dataset: str
    notes: str
    visibility: str = "PRIVATE"


class Feature(_Row, frozen=True, kw_only=True):
    """Row of features/batch-N.jsonl.gz."""

    model_id: str
    layer: str
    """id of the source"""
    index: str
    source_set_name: str
    hook_name: str
    max_act_approx: float
    frac_nonzero: float
    neg_str: Sequence[str] = ()
    neg_values: Sequence[float] = ()
    pos_str: Sequence[str] = ()
    pos_values: Sequence[float] = ()
    freq_hist_data_bar_heights: Sequence[float] = ()
    freq_hist_data_bar_values: Sequence[float] = ()
    logits_hist_data_bar_heights: Sequence[float] = ()
    logits_hist_data_bar_values: Sequence[float] = ()
    decoder_weights_dist: tuple[float, ...] = ()
    vector: Sequence[float] = ()
    has_vector: bool = False


class Activation(_Row, frozen=True, kw_only=True):
    """Row of activations/batch-N.jsonl.gz."""

    id: str
    model_id: str
    layer: str
    index: str
    tokens: list[str]
    values: list[float]
    max_value: float
    max_value_token_index: int
    min_value: float
    qualifying_token_index: int
    data_index: str
    data_source: str
    dfa_values: tuple[float, ...] = ()
    loss_values: tuple[float, ...] = ()


def export_neuronpedia(run: Run, target: Path, *, creator: str, progress: Progress = NoProgress()) -> dict[str, int]:
    """Write `target/<model id>/<layer>-tegakari-res/` for each layer; whole or absent.

    Args:
        run: a published run.
        target: directory to create.
        creator: id of the creator in the importing Neuronpedia.
        progress: one step per layer.

    Returns:
        number of features, of activations and of explanations.

    Raises:
        StoreError: the directory exists.
        DiskFullError: no space; nothing is left behind.
    """
    refuse_existing(target)
    features = activations = explanations = 0
    model = model_id(run)
    with translate_disk_full(target, field="--to"), staged_directory(target) as staged:
        progress.stage("exporting", len(run.manifest.saes.layers))
        for layer, width in zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True):
            progress.note(f"layer {layer}")
            directory = staged / model / f"{layer}-{SOURCE_SET}"
            directions, effects = _directions(run, layer), _effects(run, layer)
            _write_metadata(run, directory, layer, creator, "d" if effects is None else "effect")
            of_labels = _d(run, layer) if effects is None else effects
            for number, start in enumerate(range(0, width, BATCH_FEATURES)):
                batch = range(start, min(start + BATCH_FEATURES, width))
                name = f"batch-{number}.jsonl.gz"
                features += _write(
                    directory / "features" / name, _features(run, layer, batch, creator, directions, of_labels)
                )
                activations += _write(directory / "activations" / name, _activations(run, layer, batch, creator))
                rows = explanation_rows(run, layer, batch, model_id=model, source=directory.name, creator=creator)
                explanations += _write(directory / "explanations" / name, rows)
            progress.advance()
    return {"features": features, "activations": activations, "explanations": explanations}


def _write_metadata(run: Run, directory: Path, layer: int, creator: str, figure: str) -> None:
    manifest, created = run.manifest, run.manifest.created
    release = Release(creator_id=creator, created_at=created, name=run.name, description=run.name, creator_name=creator)
    model = Model(
        creator_id=creator,
        created_at=created,
        updated_at=created,
        id=model_id(run),
        owner=creator,
        neurons_per_layer=_neurons_per_layer(run),
        display_name=run.name,
        display_name_short=run.name,
        layers=manifest.classifier.layers,
        dimension=manifest.classifier.d_model,
    )
    source_set = SourceSet(
        creator_id=creator,
        created_at=created,
        model_id=model_id(run),
        name=SOURCE_SET,
        release_name=run.name,
        creator_name=creator,
    )
    source = Source(
        creator_id=creator,
        created_at=created,
        id=f"{layer}-{SOURCE_SET}",
        model_id=model_id(run),
        set_name=SOURCE_SET,
        num_prompts=manifest.corpus.documents,
        dataset=manifest.corpus.source,
        notes=EXCERPTS_NOTES[has_contexts(run)] + NOTES.format(figure=FIGURES[figure]),
    )
    for name, row in (("release", release), ("model", model), ("sourceset", source_set), ("source", source)):
        _write(directory / f"{name}.jsonl", iter([row]))


def _neurons_per_layer(run: Run) -> int:
    """Width of the model's MLPs, by the names that configurations have for it; 0 where there is none to read."""
    locations = run.manifest.locations
    try:
        content = read_bounded(Path(locations.classifier) / "config.json", MAX_CONFIG) if locations else b"{}"
        config = decode_json(content, dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return 0
    widths = (config.get(name) for name in ("intermediate_size", "ffn_dim", "n_inner", "d_inner", "d_ff"))
    return next((width for width in widths if isinstance(width, int) and width > 0), 0)


def _directions(run: Run, layer: int) -> np.ndarray | None:
    """Decoder directions of a layer, float32 [features, d_model]; None for a run without vectors."""
    try:
        return decoder_directions(run, layer)
    except NotFoundError:
        return None


def _effects(run: Run, layer: int) -> np.ndarray | None:
    """Label effects of a layer, float32 [labels, features]; None for a layer without them."""
    try:
        return layer_effects(run, layer)
    except NotFoundError:
        return None


def _d(run: Run, layer: int) -> np.ndarray:
    """Cohen's d of a layer by the run's pooling, float32 [labels, features]; NaN where it is not defined."""
    return run.blocks.statistics["d", run.manifest.pooling][:, run.blocks.places.slice_of(layer)]


def _write(path: Path, rows: Iterator[msgspec.Struct]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    # Without a time in the header, the same run gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 5, raw, mtime=0) if path.suffix == ".gz" else raw as sink:
        for row in rows:
            sink.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count


def _features(
    run: Run,
    layer: int,
    batch: Sequence[int],
    creator: str,
    directions: np.ndarray | None,
    of_labels: np.ndarray,
) -> Iterator[Feature]:
    """Rows of features; `of_labels` [labels, features] are their label effects, or d."""
    model, first, columns = model_id(run), run.blocks.places.slice_of(layer).start, run.blocks.features
    for feature in batch:
        activations = feature_histogram(run, layer, feature)
        values = np.asarray(of_labels[:, feature], np.float64)
        order = np.argsort(values, kind="stable")[: np.isfinite(values).sum()]  # NaN is last
        lowest, highest = order[:EFFECTS].tolist(), order[::-1][:EFFECTS].tolist()
        counts, edges = np.histogram(values[order], bins=EFFECTS) if len(order) else (np.zeros(0), np.zeros(1))
        yield Feature(
            creator_id=creator,
            created_at=run.manifest.created,
            model_id=model,
            layer=f"{layer}-{SOURCE_SET}",
            index=str(feature),
            source_set_name=SOURCE_SET,
            hook_name=f"blocks.{layer}.hook_resid_post",
            max_act_approx=float(columns["max_activation"][first + feature]),
            frac_nonzero=float(columns["density"][first + feature]),
            pos_str=[run.labels[label] for label in highest],
            pos_values=values[highest].tolist(),
            neg_str=[run.labels[label] for label in lowest],
            neg_values=values[lowest].tolist(),
            freq_hist_data_bar_heights=activations.counts if activations.documents else (),
            freq_hist_data_bar_values=_centres(activations.edges) if activations.documents else (),
            logits_hist_data_bar_heights=counts.tolist(),
            logits_hist_data_bar_values=_centres(edges.tolist()),
            vector=() if directions is None else directions[feature].tolist(),
            has_vector=directions is not None,
        )


def _centres(edges: Sequence[float]) -> list[float]:
    """Middles of the bins of a histogram."""
    return [(low + high) / 2 for low, high in pairwise(edges)]


class _Excerpt(NamedTuple):
    """Consecutive tokens of a document around a position."""

    number: int
    """unique for a feature"""
    document: int
    position: int
    start: int
    values: np.ndarray
    """float32, activation at each token"""


def _activations(run: Run, layer: int, batch: Sequence[int], creator: str) -> Iterator[Activation]:
    """Excerpts of features, strongest first."""
    model, documents = model_id(run), run.blocks.documents
    excerpts = _contexts(run, layer, batch) if has_contexts(run) else _strongest(run, layer, batch)
    for feature, excerpt in excerpts:
        place = excerpt.position - excerpt.start
        yield Activation(
            id=f"{run.manifest.fingerprint[:12]}-{layer}-{feature}-{excerpt.number}",
            creator_id=creator,
            created_at=run.manifest.created,
            model_id=model,
            layer=f"{layer}-{SOURCE_SET}",
            index=str(feature),
            tokens=window_texts(run, excerpt.document, excerpt.start, len(excerpt.values)),
            values=excerpt.values.tolist(),
            max_value=float(excerpt.values.max()),
            max_value_token_index=int(excerpt.values.argmax()),
            min_value=float(excerpt.values.min()),
            qualifying_token_index=place,
            data_index=documents.id[excerpt.document].as_py(),
            data_source=run.labels[int(documents.label_id[excerpt.document])],
        )


def _contexts(run: Run, layer: int, batch: Sequence[int]) -> Iterator[tuple[int, _Excerpt]]:
    """Contexts of features: the strongest of each of EXCERPTS documents, then those of the sample, strongest first."""
    for feature in batch:
        contexts = feature_contexts(run, layer, feature)
        strongest = np.flatnonzero(contexts.quantile == STRONGEST)
        _, earliest = np.unique(contexts.document[strongest], return_index=True)
        sample = np.flatnonzero(contexts.quantile != STRONGEST)[::-1]
        for row in (*strongest[np.sort(earliest)][:EXCERPTS].tolist(), *sample.tolist()):
            values = contexts.activations[row, : contexts.length[row]]
            document, position = int(contexts.document[row]), int(contexts.position[row])
            yield feature, _Excerpt(row, document, position, int(contexts.start[row]), values)


def _strongest(run: Run, layer: int, batch: Sequence[int]) -> Iterator[tuple[int, _Excerpt]]:
    """Excerpts around the strongest positions of features of a run without contexts, one per document."""
    first, documents = run.blocks.places.slice_of(layer).start, run.blocks.documents
    for feature in batch:
        activation, document, position = (column[first + feature] for column in run.blocks.top_positions)
        ranks = np.flatnonzero(document >= 0)
        _, earliest = np.unique(document[ranks], return_index=True)
        for rank in ranks[np.sort(earliest)][:EXCERPTS].tolist():
            number, strongest = int(document[rank]), int(position[rank])
            begin, end = documents.first_token[number : number + 2].tolist()
            start = max(0, strongest - WINDOW_TOKENS)
            stop = min(end - begin, strongest + WINDOW_TOKENS + 1)
            values = np.zeros(stop - start, np.float32)
            inside = (document == number) & (position >= start) & (position < stop)
            values[position[inside] - start] = activation[inside]
            yield feature, _Excerpt(rank, number, strongest, start, values)
