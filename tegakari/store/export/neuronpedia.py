"""Export of a run in the layout of Neuronpedia's bulk import, as SAEDashboard's `neuronpedia_export.py` writes it.

Fields that only language models have (logits, correlated neurons) are empty.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from tegakari.store.disk.durable import staged_directory, translate_disk_full
from tegakari.store.export.tables import refuse_existing
from tegakari.store.reader import Run

SOURCE_SET = "tegakari-res"
BATCH_FEATURES = 1024
EXCERPTS = 20
"""Excerpts per feature: of the documents of its strongest positions."""

WINDOW_TOKENS = 24
"""Tokens on each side of the strongest position in an excerpt."""

NOTES = (
    "Only the strongest positions of a feature have their activation; other tokens of an excerpt are written as 0. "
    "dataIndex is the document's id, dataSource its label."
)


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
    neurons_per_layer: int = 0
    owner: str = ""
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
    notes: str = NOTES
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
    neg_str: tuple[str, ...] = ()
    neg_values: tuple[float, ...] = ()
    pos_str: tuple[str, ...] = ()
    pos_values: tuple[float, ...] = ()
    freq_hist_data_bar_heights: tuple[float, ...] = ()
    freq_hist_data_bar_values: tuple[float, ...] = ()
    logits_hist_data_bar_heights: tuple[float, ...] = ()
    logits_hist_data_bar_values: tuple[float, ...] = ()
    decoder_weights_dist: tuple[float, ...] = ()
    vector: tuple[float, ...] = ()
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


def export_neuronpedia(
    run: Run, target: Path, *, creator: str, advance: Callable[[int], None] = lambda _: None
) -> dict[str, int]:
    """Write `target/<run>/<layer>-tegakari-res/` for each layer; whole or absent.

    Args:
        run: a published run.
        target: directory to create.
        creator: id of the creator in the importing Neuronpedia.
        advance: called with each layer before it is written.

    Returns:
        number of features and of activations.

    Raises:
        StoreError: the directory exists.
        DiskFullError: no space; nothing is left behind.
    """
    refuse_existing(target)
    features = activations = 0
    with translate_disk_full(target, field="--to"), staged_directory(target) as staged:
        for layer, width in zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True):
            advance(layer)
            directory = staged / run.name / f"{layer}-{SOURCE_SET}"
            _write_metadata(run, directory, layer, creator)
            for number, start in enumerate(range(0, width, BATCH_FEATURES)):
                batch = range(start, min(start + BATCH_FEATURES, width))
                name = f"batch-{number}.jsonl.gz"
                features += _write(directory / "features" / name, _features(run, layer, batch, creator))
                activations += _write(directory / "activations" / name, _activations(run, layer, batch, creator))
    return {"features": features, "activations": activations}


def _write_metadata(run: Run, directory: Path, layer: int, creator: str) -> None:
    manifest, created = run.manifest, run.manifest.created
    release = Release(creator_id=creator, created_at=created, name=run.name, description=run.name, creator_name=creator)
    model = Model(
        creator_id=creator,
        created_at=created,
        updated_at=created,
        id=run.name,
        display_name=run.name,
        display_name_short=run.name,
        layers=manifest.classifier.layers,
        dimension=manifest.classifier.d_model,
    )
    source_set = SourceSet(
        creator_id=creator,
        created_at=created,
        model_id=run.name,
        name=SOURCE_SET,
        release_name=run.name,
        creator_name=creator,
    )
    source = Source(
        creator_id=creator,
        created_at=created,
        id=f"{layer}-{SOURCE_SET}",
        model_id=run.name,
        set_name=SOURCE_SET,
        num_prompts=manifest.corpus.documents,
        dataset=manifest.corpus.source,
    )
    for name, row in (("release", release), ("model", model), ("sourceset", source_set), ("source", source)):
        _write(directory / f"{name}.jsonl", iter([row]))


def _write(path: Path, rows: Iterator[_Row]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    # Without a time in the header, the same run gives the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 5, raw, mtime=0) if path.suffix == ".gz" else raw as sink:
        for row in rows:
            sink.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count


def _features(run: Run, layer: int, batch: Sequence[int], creator: str) -> Iterator[Feature]:
    first, columns = run.blocks.places.slice_of(layer).start, run.blocks.features
    for feature in batch:
        yield Feature(
            creator_id=creator,
            created_at=run.manifest.created,
            model_id=run.name,
            layer=f"{layer}-{SOURCE_SET}",
            index=str(feature),
            source_set_name=SOURCE_SET,
            hook_name=f"blocks.{layer}.hook_resid_post",
            max_act_approx=float(columns["max_activation"][first + feature]),
            frac_nonzero=float(columns["density"][first + feature]),
        )


def _activations(run: Run, layer: int, batch: Sequence[int], creator: str) -> Iterator[Activation]:
    """Excerpts around the strongest positions of features, one per document, strongest first."""
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
            text = documents.text[number].as_py()
            window = slice(begin + start, begin + stop)
            spans = zip(documents.token_starts[window].tolist(), documents.token_ends[window].tolist(), strict=True)
            yield Activation(
                id=f"{run.manifest.fingerprint[:12]}-{layer}-{feature}-{rank}",
                creator_id=creator,
                created_at=run.manifest.created,
                model_id=run.name,
                layer=f"{layer}-{SOURCE_SET}",
                index=str(feature),
                tokens=[text[token_start:token_end] for token_start, token_end in spans],
                values=values.tolist(),
                max_value=float(values.max()),
                max_value_token_index=strongest - start,
                min_value=float(values.min()),
                qualifying_token_index=strongest - start,
                data_index=documents.id[number].as_py(),
                data_source=run.labels[int(documents.label_id[number])],
            )
