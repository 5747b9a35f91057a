"""Stages of an index (`tegakari index`): shards, explained variance, merge, publication; resumed if interrupted.

They run in one command, or shards and merge in commands of their own, on as many machines as there are parts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import structlog

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.effects import write_label_effects
from tegakari.indexer.executors import Executor, InProcess, WorkerSettings
from tegakari.indexer.index_models import IndexModels, load_index_models
from tegakari.indexer.layer_facts import LayerFacts
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.local_models import with_local_models
from tegakari.indexer.merge import Assembler, Assembly
from tegakari.indexer.merge_memory import GIGABYTE
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.norm_limits import with_norm_limits
from tegakari.indexer.partial import open_partial, partial_exists
from tegakari.indexer.parts import WHOLE, Part, part_lock, unfinished_error
from tegakari.indexer.predictions import Predictions
from tegakari.indexer.recipe import Outcome, manifest_of, recipe_of
from tegakari.indexer.run_vectors import write_run_vectors
from tegakari.indexer.sample_figures import SampleFigures, sample_figures
from tegakari.indexer.shard import IndexedDocument, Shard, plan_shards, shard_documents
from tegakari.models.attention import choose_attention, sample_of
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality
from tegakari.models.outliers import finite_limit
from tegakari.models.sae_conditions import grouped_doubts
from tegakari.schemas.config import Config
from tegakari.schemas.corpus import CorpusManifest, Drop
from tegakari.schemas.errors import CorpusError, ModelError, RunExistsError, StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.run import FORMAT, IndexedPart, RunManifest
from tegakari.store.disk.durable import awaited_lock, bury, exclusive_lock, translate_disk_full
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


@dataclass(frozen=True)
class _Inputs:
    """What a run is made from."""

    config: Config
    """with models of this machine."""
    corpus: CorpusManifest
    models: IndexModels
    recipe: str
    run_format: int
    progress: Progress
    timings: _Timings

    @property
    def store(self) -> Path:
        return Path(self.config.index.store)

    @property
    def work(self) -> Path:
        """Directory of the unfinished work."""
        return work_directory(self.store, self.config.index.run)

    @property
    def contexts(self) -> bool:
        return self.run_format >= FORMAT


@dataclass(frozen=True)
class _Plan:
    """The shards of a run."""

    models: IndexModels
    """SAEs have their limits of norms, and the classifier its attention."""
    documents: list[IndexedDocument]
    skipped: list[Drop]
    shards: list[Shard]


def index(
    config: Config,
    progress: Progress = NoProgress(),
    *,
    executor: Executor = InProcess(),
    run_format: int = FORMAT,
    published: RunManifest | None = None,
) -> IndexResult:
    """Index the corpus of a configuration and publish the run.

    A run that was published from the same classifier, SAEs, documents and settings is returned unchanged.

    Args:
        config: the corpus, the models, the settings of the run, and the store.
        progress: receives the stages.
        executor: where shards are computed; it does not affect the tables.
        run_format: 3 leaves out contexts and probes, so that tests have such runs and benchmarks the difference.
        published: the run of this name in a bucket, which counts as one of the store.

    Raises:
        CorpusError, ModelError, SaeError: an input is missing, or the inputs do not fit each other.
        RunExistsError: a run of this name exists that has other inputs or settings.
        StoreError: another process is indexing this run, or workers died.
        DiskFullError: no space; finished shards are kept.
    """
    inputs = _load(config, progress, run_format)
    if published is not None:
        return IndexResult(_of_same_recipe(published, inputs.recipe), already_published=True)
    if result := _published(inputs):
        return result
    with translate_disk_full(inputs.store, field="index.store"), _lock(inputs.work):
        plan = _plan(inputs)
        _index_shards(inputs, plan, plan.shards, executor)
        return _merge_and_publish(inputs, plan, executor)


def index_part(
    config: Config, progress: Progress = NoProgress(), *, part: Part = WHOLE, executor: Executor = InProcess()
) -> IndexedPart:
    """Index a part of the shards and keep them in the store's directory of unfinished work, for `merge`.

    Several processes, on machines that share the store, can index different parts at once.

    Args:
        config: as of `index`.
        progress: receives the stages.
        part: of the shards.
        executor: where they are computed.

    Raises:
        StoreError: another process indexes this part, or the whole run.
        CorpusError, ModelError, SaeError, RunExistsError, DiskFullError: as of `index`.
    """
    inputs = _load(config, progress, FORMAT)
    run = inputs.config.index.run
    if _published(inputs):
        return IndexedPart(run=run, part=str(part), shards=0, missing=0, published=True)
    inputs.work.mkdir(parents=True, exist_ok=True)
    with translate_disk_full(inputs.store, field="index.store"), part_lock(inputs.work, part):
        plan = _plan(inputs)
        shards = part.of(plan.shards)
        _index_shards(inputs, plan, shards, executor)
        if part.number == 1:  # for the merge, which may run on a machine without a GPU's speed
            _sample_figures(inputs, plan)
        missing = len(_missing(inputs, plan.shards))
    return IndexedPart(run=run, part=str(part), shards=len(shards), missing=missing, published=False)


def merge(config: Config, progress: Progress = NoProgress(), *, executor: Executor = InProcess()) -> IndexResult:
    """Merge the shards that `index_part` has indexed, and publish the run.

    Args:
        config: as of `index`.
        progress: receives the stages.
        executor: where layers are merged.

    Raises:
        StoreError: shards are missing, or another process is indexing this run.
        CorpusError, ModelError, SaeError, RunExistsError, DiskFullError: as of `index`.
    """
    inputs = _load(config, progress, FORMAT)
    if published := _published(inputs):
        return published
    with translate_disk_full(inputs.store, field="index.store"), _lock(inputs.work):
        plan = _plan(inputs)
        if missing := _missing(inputs, plan.shards):
            raise unfinished_error(inputs.work, plan.shards, missing)
        return _merge_and_publish(inputs, plan, executor)


def _load(config: Config, progress: Progress, run_format: int) -> _Inputs:
    timings = _Timings()
    with timings.stage("load"):
        corpus = read_manifest(Path(config.corpus.path))
        config = with_local_models(config)
        models = load_index_models(config)
    for doubt in grouped_doubts(models.saes):
        log.warning("doubtful SAE", reason=doubt)
    recipe = recipe_of(config, models, corpus, run_format)
    return _Inputs(config, corpus, models, recipe, run_format, progress, timings)


def _published(inputs: _Inputs) -> IndexResult | None:
    """The run, if it was published from the same inputs before."""
    published = run_directory(inputs.store, inputs.config.index.run)
    if not published.is_dir():
        return None
    manifest = _of_same_recipe(read_run_manifest(published), inputs.recipe)
    if inputs.work.exists():  # the process was killed between publication and the removal of its work
        with _lock(inputs.work):
            bury(inputs.work)
    return IndexResult(manifest, already_published=True)


def _plan(inputs: _Inputs) -> _Plan:
    config, models = inputs.config, inputs.models
    with inputs.timings.stage("tokenize"):
        documents, skipped = _documents(config, models.classifier, inputs.corpus)
    tokens = [document.tokens for document in documents]
    with inputs.timings.stage("attention"):
        classifier = choose_attention(models.classifier, tokens)
    cache = inputs.work / f"norm_limits-{inputs.recipe[:32]}.json"
    # Limits of two machines could differ by rounding: one part measures them, the others wait for it.
    with inputs.timings.stage("norm_limits"), awaited_lock(inputs.work / "lock-norm-limits"):
        saes = with_norm_limits(models.saes, classifier, tokens, config.index.batch_tokens, cache)
    size = shard_documents(config.index.shard_documents, classifier.device.type)
    shards = plan_shards(documents, size, inputs.recipe)
    return _Plan(replace(models, classifier=classifier, saes=saes), documents, skipped, shards)


def _merge_and_publish(inputs: _Inputs, plan: _Plan, executor: Executor) -> IndexResult:
    config, timings = inputs.config, inputs.timings
    with timings.stage("explained_variance"):
        figures = _sample_figures(inputs, plan)
    staged = inputs.work / "staged" / config.index.run  # `Run` opens it there: a run is in a directory of its name
    shutil.rmtree(staged, ignore_errors=True)
    with timings.stage("merge"):
        assembly = _merge(inputs, plan, figures.quality, executor, staged)
    if inputs.contexts:
        with timings.stage("effects"):
            write_label_effects(staged, plan.models.saes, figures.gradients, plan.models.classifier.device)
    with timings.stage("explain"):
        outcome = Outcome(
            documents=len(plan.documents),
            positions=sum(len(document.tokens.positions) for document in plan.documents),
            activations=assembly.activations,
            skipped=plan.skipped,
            scores=assembly.scores,
            timings=dict(timings.seconds),
        )
        manifest = manifest_of(config, plan.models, inputs.corpus, inputs.recipe, outcome, inputs.run_format)
        if inputs.contexts:
            write_staged_manifest(staged, manifest)
            explain_run(Run(staged), staged, inputs.progress)
    with timings.stage("publish"):
        manifest = publish(inputs.store, staged, msgspec.structs.replace(manifest, timings=dict(timings.seconds)))
    bury(inputs.work)
    log.info("published", run=manifest.run, documents=manifest.corpus.documents, seconds=timings.seconds)
    return IndexResult(manifest, already_published=False)


def _of_same_recipe(manifest: RunManifest, recipe: str) -> RunManifest:
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


def _limits(models: IndexModels) -> dict[int, float | None]:
    return {layer: finite_limit(sae.max_norm) for layer, sae in models.saes.items()}


def _missing(inputs: _Inputs, shards: Sequence[Shard]) -> list[Shard]:
    """The shards that have no partial."""
    return [shard for shard in shards if not partial_exists(inputs.work / "shards", shard.key)]


def _index_shards(inputs: _Inputs, plan: _Plan, shards: Sequence[Shard], executor: Executor) -> None:
    """Index those of the shards that have no partial."""
    partials = inputs.work / "shards"
    partials.mkdir(exist_ok=True)
    missing = _missing(inputs, shards)
    total = sum(len(shard.documents) for shard in shards)
    done = total - sum(len(shard.documents) for shard in missing)
    if done:
        log.info("resuming", finished_documents=done, shards_left=len(missing))
    bounds = inputs.work / f"bounds-{inputs.recipe[:32]}.npz"
    sample = sample_of([document.tokens for document in plan.documents])
    settings = WorkerSettings(inputs.config, sample, _limits(plan.models), inputs.contexts, partials, bounds)
    inputs.progress.stage("indexing documents", total, done=done)
    with inputs.timings.stage("encode"):
        for shard in executor.index(settings, plan.models, missing):
            inputs.progress.advance(len(shard.documents))


def _sample_figures(inputs: _Inputs, plan: _Plan) -> SampleFigures:
    """Explained variance and gradients of label effects; kept for a resumed index, and for the merge of parts."""
    names = f"explained_variance-{inputs.recipe[:32]}.json", f"label_gradients-{inputs.recipe[:32]}.safetensors"
    files = inputs.work / names[0], inputs.work / names[1]
    models, documents = plan.models, plan.documents
    return sample_figures(
        inputs.config, models.classifier, models.saes, documents, files, inputs.progress, effects=inputs.contexts
    )


def _merge(
    inputs: _Inputs, plan: _Plan, quality: dict[int, LayerQuality], executor: Executor, staged: Path
) -> Assembly:
    """Write all files of the run that come from its shards."""
    config, models, documents = inputs.config, plan.models, plan.documents
    settings = MergeSettings(
        config.index.pooling, config.index.variety_threshold, config.index.top_tokens, inputs.contexts
    )
    partials = inputs.work / "shards"
    keys = [shard.key for shard in plan.shards]
    memory = round(config.index.merge_memory_gb * GIGABYTE)
    directory = inputs.work / f"layers-{inputs.recipe[:32]}"
    merge = LayerMerge(partials, keys, directory, len(models.classifier.labels), settings, memory)
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
    predictions = Predictions([open_partial(partials, key, layer=-1) for key in keys])
    positions = sum(len(document.tokens.positions) for document in documents)
    with ThreadPoolExecutor(1, thread_name_prefix="vectors") as beside:  # no vector waits for the merge of a layer
        written = beside.submit(write_run_vectors, staged, models.saes, documents, predictions)
        with RunWriter(staged) as writer:
            assembler = Assembler(writer, documents, models.classifier.labels, predictions, settings, inputs.progress)
            assembly = assembler.write(merge, facts, executor, positions)
            written.result()
    return assembly
