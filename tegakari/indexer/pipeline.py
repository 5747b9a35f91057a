"""Stages of an index (`tegakari index`): shards, explained variance, merge, publication; resumed if interrupted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import structlog

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.effects import add_label_effects
from tegakari.indexer.index_models import IndexModels, load_index_models
from tegakari.indexer.layer_tables import LayerFacts
from tegakari.indexer.local_models import with_local_models
from tegakari.indexer.merge import Merger, MergeSettings
from tegakari.indexer.norm_limits import at_equal_steps, with_norm_limits
from tegakari.indexer.partial import open_partial, partial_exists
from tegakari.indexer.processes import index_in_processes
from tegakari.indexer.recipe import Outcome, manifest_of, recipe_of
from tegakari.indexer.shard import IndexedDocument, Shard, plan_shards, shard_documents
from tegakari.indexer.worker import make_worker
from tegakari.indexer.write_threads import index_on_threads
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality, doubts, explained_variance
from tegakari.models.outliers import finite_limit
from tegakari.models.sae_conditions import grouped_doubts
from tegakari.schemas.config import Config
from tegakari.schemas.corpus import CorpusManifest, Drop
from tegakari.schemas.errors import CorpusError, ModelError, RunExistsError, StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import FORMAT, RunManifest, Scores
from tegakari.store import vectors
from tegakari.store.disk.durable import bury, exclusive_lock, translate_disk_full, write_atomically
from tegakari.store.disk.layout import run_directory, work_directory
from tegakari.store.disk.publish import publish, write_staged_manifest
from tegakari.store.disk.publish import read_manifest as read_run_manifest
from tegakari.store.reader import Run
from tegakari.store.sql.writer import RunWriter
from tegakari.terms.explain import explain_run

log = structlog.get_logger()


@dataclass(frozen=True)
class IndexResult:
    """A published run."""

    manifest: RunManifest
    already_published: bool
    """whether the run was published before, from the same inputs and settings."""


@dataclass
class _Timings:
    """Seconds of each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def index(
    config: Config, progress: Progress = NoProgress(), *, workers: int = 1, run_format: int = FORMAT
) -> IndexResult:
    """Index the corpus of a configuration and publish the run.

    A run that was published from the same classifier, SAEs, documents and settings is returned unchanged.

    Args:
        config: the corpus, the models, the settings of the run, and the store.
        progress: receives the stages.
        workers: number of processes that index shards; it does not affect the tables.
        run_format: 3 leaves out contexts and probes, so that tests have such runs and benchmarks the difference.

    Raises:
        CorpusError, ModelError, SaeError: an input is missing, or the inputs do not fit each other.
        RunExistsError: a run of this name exists that has other inputs or settings.
        StoreError: another process is indexing this run, or a worker process died.
        DiskFullError: no space; finished shards are kept.
    """
    store = Path(config.index.store)
    work = work_directory(store, config.index.run)
    timings = _Timings()
    with timings.stage("load"):
        corpus = read_manifest(Path(config.corpus.path))
        config = with_local_models(config)
        models = load_index_models(config)
    for doubt in grouped_doubts(models.saes):
        log.warning("doubtful SAE", reason=doubt)
    recipe = recipe_of(config, models, corpus, run_format)
    contexts = run_format >= FORMAT
    published = run_directory(store, config.index.run)
    if published.is_dir():
        manifest = _manifest_of_same_recipe(published, recipe)
        if work.exists():  # the process was killed between publication and the removal of its work
            with _lock(work):
                bury(work)
        return IndexResult(manifest, already_published=True)
    with translate_disk_full(store, field="index.store"), _lock(work):
        with timings.stage("tokenize"):
            documents, skipped = _documents(config, models.classifier, corpus)
        with timings.stage("norm_limits"):
            models = _with_norm_limits(config, models, documents, work / f"norm_limits-{recipe[:32]}.json")
        size = shard_documents(config.index.shard_documents, models.classifier.device.type)
        shards = plan_shards(documents, size, recipe)
        with timings.stage("encode"):
            _index_shards(config, models, shards, work / "shards", progress, workers, contexts)
        with timings.stage("explained_variance"):
            quality = _quality(config, models, work / f"explained_variance-{recipe[:32]}.json", progress)
        staged = work / "staged" / config.index.run  # `Run` opens it there: a run is in a directory of its name
        shutil.rmtree(staged, ignore_errors=True)
        with timings.stage("merge"), RunWriter(staged) as writer:
            scores = _merge(config, models, shards, documents, quality, writer, work, progress, contexts)
        if contexts:
            with timings.stage("effects"):
                tokens = [document.tokens for document in documents]
                add_label_effects(staged, models.classifier, models.saes, tokens, config.index.batch_tokens, progress)
        with timings.stage("explain"):
            outcome = Outcome(
                documents=len(documents),
                positions=sum(len(document.tokens.positions) for document in documents),
                activations=writer.activations,
                skipped=skipped,
                scores=scores,
                timings=dict(timings.seconds),
            )
            manifest = manifest_of(config, models, corpus, recipe, outcome, run_format)
            if contexts:
                write_staged_manifest(staged, manifest)
                explain_run(Run(staged), staged, progress)
        with timings.stage("publish"):
            manifest = publish(store, staged, msgspec.structs.replace(manifest, timings=dict(timings.seconds)))
        bury(work)
    log.info("published", run=manifest.run, documents=manifest.corpus.documents, seconds=timings.seconds)
    return IndexResult(manifest, already_published=False)


def _manifest_of_same_recipe(published: Path, recipe: str) -> RunManifest:
    manifest = read_run_manifest(published)
    if manifest.fingerprint != recipe:
        raise RunExistsError(
            f"run {manifest.run!r} exists and has another classifier, SAE set, corpus or settings",
            field="index.run",
            fix=f"choose another name, or delete the run first with `tegakari runs delete {manifest.run}`",
        )
    return manifest


@contextmanager
def _lock(work: Path) -> Iterator[None]:
    work.mkdir(parents=True, exist_ok=True)
    busy = StoreError(
        f"another process is indexing run {work.name!r}", field="index.run", fix="wait for it, or stop it"
    )
    with exclusive_lock(work / "lock", busy):
        yield


def _documents(
    config: Config, classifier: Classifier, corpus: CorpusManifest
) -> tuple[list[IndexedDocument], list[Drop]]:
    """Tokenize the documents of the split; those without a countable position are skipped and counted."""
    label_ids = {label: number for number, label in enumerate(classifier.labels)}
    unknown = sorted(set(corpus.labels) - label_ids.keys())
    if unknown:
        raise ModelError(
            f"the classifier has no class for label {unknown[0]!r} of the corpus ({len(unknown)} such labels)",
            field="classifier.path",
            fix="fine-tune on this corpus, or import the corpus it was fine-tuned on",
        )
    stored = read_documents(Path(config.corpus.path), config.index.split)
    tokenized = list(zip(stored, classifier.tokenize([document.text for document in stored]), strict=True))
    countable = [(document, tokens) for document, tokens in tokenized if tokens.positions]
    empty = [document.id for document, tokens in tokenized if not tokens.positions]
    if not countable:
        raise CorpusError(f"split {config.index.split!r} has no documents", field="index.split", fix="index another")
    documents = [
        IndexedDocument(number, document.id, label_ids[document.label], document.split, document.text, tokens)
        for number, (document, tokens) in enumerate(countable)
    ]
    return documents, [Drop("no token but special ones", len(empty), empty[:5])] if empty else []


def _with_norm_limits(
    config: Config, models: IndexModels, documents: Sequence[IndexedDocument], cache: Path
) -> IndexModels:
    tokens = [document.tokens for document in documents]
    saes = with_norm_limits(models.saes, models.classifier, tokens, config.index.batch_tokens, cache)
    return replace(models, saes=saes)


def _limits(models: IndexModels) -> dict[int, float | None]:
    return {layer: finite_limit(sae.max_norm) for layer, sae in models.saes.items()}


def _index_shards(
    config: Config,
    models: IndexModels,
    shards: Sequence[Shard],
    partials: Path,
    progress: Progress,
    workers: int,
    contexts: bool,
) -> None:
    """Index the shards that have no partial."""
    missing = [shard for shard in shards if not partial_exists(partials, shard.key)]
    total = sum(len(shard.documents) for shard in shards)
    done = total - sum(len(shard.documents) for shard in missing)
    if done:
        log.info("resuming", finished_documents=done, shards_left=len(missing))
    progress.stage("indexing documents", total, done=done)
    workers = min(workers, len(missing))
    indexed = (
        index_in_processes(config, missing, partials, workers, _limits(models), contexts=contexts)
        if workers > 1
        else index_on_threads(make_worker(config, models.classifier, models.saes, contexts=contexts), missing, partials)
    )
    for shard in indexed:
        progress.advance(len(shard.documents))


def _quality(config: Config, models: IndexModels, cache: Path, progress: Progress) -> dict[int, LayerQuality]:
    """Explained variance on evaluation documents at equal steps over the corpus; cached for a resumed index."""
    if cache.is_file():
        return msgspec.json.decode(cache.read_bytes(), type=dict[int, LayerQuality])
    held_out = read_documents(Path(config.corpus.path), "eval")
    sample = at_equal_steps(held_out, config.index.explained_variance_documents)
    texts = [document.text for document in sample]
    progress.stage("measuring explained variance", len(texts))
    quality = explained_variance(
        models.classifier, models.saes, texts, batch_tokens=config.index.batch_tokens, advance=progress.advance
    )
    for layer, layer_quality in quality.items():
        for reason in doubts(layer_quality):
            log.warning("doubtful SAE", layer=layer, reason=reason)
    write_atomically(cache, msgspec.json.encode(quality))
    return quality


def _merge(
    config: Config,
    models: IndexModels,
    shards: Sequence[Shard],
    documents: Sequence[IndexedDocument],
    quality: dict[int, LayerQuality],
    writer: RunWriter,
    work: Path,
    progress: Progress,
    contexts: bool,
) -> Scores:
    partials = [open_partial(work / "shards", shard.key) for shard in shards]
    settings = MergeSettings(config.index.pooling, config.index.variety_threshold, config.index.top_tokens, contexts)
    merger = Merger(writer, documents, models.classifier.labels, partials, settings, models.classifier.special_tokens)
    facts = {
        layer: LayerFacts(
            models.classifier.d_model,
            sae.d_sae,
            sae.activation,
            sae.max_norm,
            quality.get(layer),
        )
        for layer, sae in models.saes.items()
    }
    merger.merge_layers(facts, progress)
    embeddings, scores = merger.merge_documents()
    if vectors.available():
        directions = {layer: sae.decoder_directions().float().cpu().numpy() for layer, sae in models.saes.items()}
        vectors.write_vectors(writer.directory, directions, embeddings, [document.text for document in documents])
    else:
        log.warning("no vectors", reason="lancedb is not installed", fix="`tegakari runs add-vectors` where it is")
    return scores
