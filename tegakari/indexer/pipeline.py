"""`tegakari index`: a corpus through a classifier and its SAEs into a published run. Stopped anywhere, it goes on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import structlog
from rich.progress import Progress

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.inputs import load_inputs
from tegakari.indexer.merge import LayerFacts, Merger, MergeSettings
from tegakari.indexer.partial import finished, open_partial, write_partial
from tegakari.indexer.processes import index_in_processes
from tegakari.indexer.recipe import Models, Outcome, manifest_of, recipe_of
from tegakari.indexer.shard import IndexedDocument, Shard, plan_shards
from tegakari.indexer.worker import make_worker
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality, explained_variance
from tegakari.models.fingerprint import fingerprint
from tegakari.schemas.config import Config
from tegakari.schemas.corpus import CorpusManifest, Drop
from tegakari.schemas.errors import CorpusError, ModelError, RunExistsError, StoreError
from tegakari.schemas.run import RunManifest, Scores
from tegakari.store import vectors
from tegakari.store.disk.durable import exclusive_lock, translate_disk_full, write_atomically
from tegakari.store.disk.layout import run_directory, work_directory
from tegakari.store.disk.publish import publish
from tegakari.store.disk.publish import read_manifest as read_run_manifest
from tegakari.store.sql.writer import RunWriter

log = structlog.get_logger()


@dataclass(frozen=True)
class IndexResult:
    """A run, and whether this call made it."""

    manifest: RunManifest
    already_published: bool


@dataclass
class _Timings:
    """Seconds of each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def index(config: Config, progress: Progress | None = None, *, workers: int = 1) -> IndexResult:
    """Index the corpus of a configuration and publish the run.

    A run already published from the same classifier, SAEs, documents and settings is returned as it is.

    Args:
        config: what to index, with what, into which store.
        progress: where to show bars.
        workers: processes that shards are spread over; the tables are the same for any number.

    Raises:
        CorpusError, ModelError, SaeError: an input is missing or does not fit the others.
        RunExistsError: the run's name belongs to a run made from something else.
        StoreError: another process is indexing this run, or a worker process died.
        DiskFullError: no space; finished shards are kept.
    """
    store = Path(config.index.store)
    work = work_directory(store, config.index.run)
    timings = _Timings()
    with timings.stage("load"):
        corpus = read_manifest(Path(config.corpus.path))
        models = _load(config)
    recipe = recipe_of(config, models, corpus)
    published = run_directory(store, config.index.run)
    if published.is_dir():
        manifest = _same_or_refuse(published, recipe)
        if work.exists():  # killed between publishing and tidying up
            with _sole_worker(work):
                shutil.rmtree(work)
        return IndexResult(manifest, already_published=True)
    with translate_disk_full(store, field="index.store"), _sole_worker(work):
        with timings.stage("tokenize"):
            documents, skipped = _documents(config, models.classifier, corpus)
        shards = plan_shards(documents, config.index.shard_documents, recipe)
        with timings.stage("encode"):
            _index_shards(config, models, shards, work / "shards", progress, workers)
        with timings.stage("explained_variance"):
            quality = _quality(config, models, work / f"explained_variance-{recipe[:32]}.json", progress)
        staged = work / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        with timings.stage("merge"), RunWriter(staged) as writer:
            scores = _merge(config, models, shards, documents, quality, writer, work, progress)
        with timings.stage("publish"):
            outcome = Outcome(
                documents=len(documents),
                positions=sum(len(document.tokens.positions) for document in documents),
                activations=writer.activations,
                skipped=skipped,
                scores=scores,
                timings=dict(timings.seconds),
            )
            manifest = publish(store, staged, manifest_of(config, models, corpus, recipe, outcome))
        shutil.rmtree(work)
    log.info("published", run=manifest.run, documents=manifest.corpus.documents, seconds=timings.seconds)
    return IndexResult(manifest, already_published=False)


def _load(config: Config) -> Models:
    classifier, saes = load_inputs(config)
    return Models(classifier, fingerprint(Path(config.classifier.path)), saes, fingerprint(Path(config.saes.path)))


def _same_or_refuse(published: Path, recipe: str) -> RunManifest:
    manifest = read_run_manifest(published)
    if manifest.fingerprint != recipe:
        raise RunExistsError(
            f"run {manifest.run!r} exists and was made from another classifier, SAE set, corpus or settings",
            field="index.run",
            fix=f"choose another name, or `tegakari runs delete {manifest.run}` first",
        )
    return manifest


@contextmanager
def _sole_worker(work: Path) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    busy = StoreError(
        f"another process is indexing run {work.name!r}", field="index.run", fix="wait for it, or stop it"
    )
    with exclusive_lock(work / "lock", busy):
        yield


def _documents(
    config: Config, classifier: Classifier, corpus: CorpusManifest
) -> tuple[list[IndexedDocument], list[Drop]]:
    """Tokenize the split; a document without a countable position is left out and counted."""
    label_ids = {label: number for number, label in enumerate(classifier.labels)}
    unknown = sorted(set(corpus.labels) - label_ids.keys())
    if unknown:
        raise ModelError(
            f"the classifier does not know label {unknown[0]!r} of the corpus ({len(unknown)} such labels)",
            field="classifier.path",
            fix="fine-tune on this corpus, or import the corpus it was fine-tuned on",
        )
    found = read_documents(Path(config.corpus.path), config.index.split)
    tokens = classifier.tokenize([document.text for document in found])
    kept = [(document, item) for document, item in zip(found, tokens, strict=True) if item.positions]
    empty = [document.id for document, item in zip(found, tokens, strict=True) if not item.positions]
    if not kept:
        raise CorpusError(f"split {config.index.split!r} has no documents", field="index.split", fix="index another")
    documents = [
        IndexedDocument(number, document.id, label_ids[document.label], document.split, document.text, item)
        for number, (document, item) in enumerate(kept)
    ]
    return documents, [Drop("no token but special ones", len(empty), empty[:5])] if empty else []


def _index_shards(
    config: Config, models: Models, shards: Sequence[Shard], partials: Path, progress: Progress | None, workers: int
) -> None:
    """Run what is not there yet."""
    missing = [shard for shard in shards if not finished(partials, shard.key)]
    done = sum(len(shard.documents) for shard in shards) - sum(len(shard.documents) for shard in missing)
    if done:
        log.info("resuming", finished_documents=done, shards_left=len(missing))
    total = sum(len(shard.documents) for shard in shards)
    task = progress.add_task("indexing documents", total=total, completed=done) if progress else None
    workers = min(workers, len(missing))
    indexed = (
        index_in_processes(config, missing, partials, workers)
        if workers > 1
        else _index_here(config, models, missing, partials)
    )
    for shard in indexed:
        if progress and task is not None:
            progress.advance(task, len(shard.documents))


def _index_here(config: Config, models: Models, shards: Sequence[Shard], partials: Path) -> Iterator[Shard]:
    """Index shards in this process; a thread writes one while the next is computed."""
    worker = make_worker(config, models.classifier, models.saes)
    with ThreadPoolExecutor(1, thread_name_prefix="write-partial") as writing:
        pending: Future[None] | None = None
        for shard in shards:
            result = worker.index(shard)
            if pending is not None:
                pending.result()
            pending = writing.submit(write_partial, partials, shard, result.positions, result.layers, result.documents)
            yield shard
        if pending is not None:
            pending.result()


def _quality(config: Config, models: Models, cache: Path, progress: Progress | None) -> dict[int, LayerQuality]:
    """Explained variance on evaluation documents, spread evenly over the corpus; kept for a resumed run."""
    if cache.is_file():
        return msgspec.json.decode(cache.read_bytes(), type=dict[int, LayerQuality])
    held_out = read_documents(Path(config.corpus.path), "eval")
    step = max(1, len(held_out) // config.index.explained_variance_documents)
    texts = [document.text for document in held_out[::step]]
    task = progress.add_task("measuring explained variance", total=len(texts)) if progress else None

    def advance(documents: int) -> None:
        if progress and task is not None:
            progress.advance(task, documents)

    quality = explained_variance(
        models.classifier, models.saes, texts, batch_tokens=config.index.batch_tokens, advance=advance
    )
    write_atomically(cache, msgspec.json.encode(quality))
    return quality


def _merge(
    config: Config,
    models: Models,
    shards: Sequence[Shard],
    documents: Sequence[IndexedDocument],
    quality: dict[int, LayerQuality],
    writer: RunWriter,
    work: Path,
    progress: Progress | None,
) -> Scores:
    partials = [open_partial(work / "shards", shard.key) for shard in shards]
    settings = MergeSettings(config.index.pooling, config.index.variety_threshold, config.index.top_tokens)
    merger = Merger(writer, documents, models.classifier.labels, partials, settings)
    facts = {
        layer: LayerFacts(
            models.classifier.d_model,
            sae.d_sae,
            sae.activation,
            quality[layer].explained_variance if layer in quality else None,
            quality[layer].positions if layer in quality else 0,
        )
        for layer, sae in models.saes.items()
    }
    task = progress.add_task("merging layers", total=len(facts)) if progress else None

    def advance() -> None:
        if progress and task is not None:
            progress.advance(task)

    merger.merge_layers(facts, advance)
    embeddings, scores = merger.merge_documents()
    if vectors.available():
        directions = {layer: sae.decoder_directions().float().cpu().numpy() for layer, sae in models.saes.items()}
        vectors.write_vectors(writer.directory, directions, embeddings, [document.text for document in documents])
    else:
        log.warning("no vectors", reason="lancedb is not installed", fix="`tegakari runs add-vectors` where it is")
    return scores
