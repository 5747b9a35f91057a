"""Contexts, probes, label effects and explanations of a run of format 3, which was indexed without them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tegakari.indexer.corpus_documents import corpus_documents
from tegakari.indexer.effects import add_label_effects
from tegakari.indexer.layer_contexts import write_layer_contexts, write_probe_documents
from tegakari.indexer.merge_memory import GIGABYTE, memory_of_ranges
from tegakari.indexer.partial import open_partial, partial_exists
from tegakari.indexer.shard import IndexedDocument, plan_shards, shard_documents
from tegakari.indexer.shard_writer import ShardWriter
from tegakari.indexer.top_positions import strongest_positions
from tegakari.indexer.worker import Worker
from tegakari.indexer.write_threads import index_on_threads
from tegakari.models.classifier import Classifier
from tegakari.models.sae import Sae
from tegakari.schemas.config import IndexConfig
from tegakari.schemas.errors import ModelNotHereError, RunExistsError, StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.disk.additions import publish_additions
from tegakari.store.disk.durable import bury, exclusive_lock, translate_disk_full
from tegakari.store.disk.layout import CONTEXTS, additions_directory, work_directory
from tegakari.store.reader import Run
from tegakari.terms.explain import explain_run


def add_contexts(
    run: Run,
    classifier: Classifier,
    saes: Mapping[int, Sae],
    progress: Progress = NoProgress(),
    *,
    batch_tokens: int | None = None,
) -> Path:
    """Compute contexts, probes and effects of a run with its models, explain its features, and publish all beside it.

    They are those that `tegakari index` would have written. Finished shards are kept: the same call resumes after it
    was interrupted.

    Args:
        run: published, of format 3.
        classifier: of the run.
        saes: of the run, by layer, with their limits of norms.
        progress: receives the stages.
        batch_tokens: tokens of a batch; default: that of the configuration.

    Returns:
        directory of the additions.

    Raises:
        RunExistsError: the run has contexts.
        ModelNotHereError: the tokenizer cuts a document into other tokens than when the run was indexed.
        StoreError: another process is adding contexts to this run.
        DiskFullError: no space; finished shards are kept.
    """
    manifest = run.manifest
    target = additions_directory(run.store, manifest)
    if any((directory / CONTEXTS).is_dir() for directory in (run.directory, target)):
        raise RunExistsError(f"run {run.name!r} has contexts", field="run", fix="nothing needs to be done")
    work = work_directory(run.store, f"contexts-{manifest.fingerprint[:16]}")
    work.mkdir(parents=True, exist_ok=True)
    busy = StoreError(f"another process adds contexts to run {run.name!r}", field="run", fix="wait for it, or stop it")
    with translate_disk_full(run.store, field="store"), exclusive_lock(work / "lock", busy):
        documents = _documents(run, classifier)
        size = batch_tokens or IndexConfig().batch_tokens
        worker = Worker(
            classifier,
            saes,
            pooling=manifest.pooling,
            top_tokens=manifest.top_tokens,
            batch_tokens=size,
        )
        shards = plan_shards(documents, shard_documents(0, classifier.device.type), f"contexts {manifest.fingerprint}")
        missing = [shard for shard in shards if not partial_exists(work / "shards", shard.key)]
        left = sum(len(shard.documents) for shard in missing)
        progress.stage("indexing documents", len(documents), done=len(documents) - left)
        for shard in index_on_threads(ShardWriter(worker, work / "shards"), missing):
            progress.advance(len(shard.documents))
        progress.stage("merging layers", len(saes))
        with publish_additions(run.store, manifest) as staged:
            for layer, d_sae in zip(manifest.saes.layers, manifest.saes.widths, strict=True):
                partials = [open_partial(work / "shards", shard.key, layer) for shard in shards]
                corpus = corpus_documents(partials)
                memory = memory_of_ranges(
                    round(IndexConfig().merge_memory_gb * GIGABYTE),
                    shards=len(shards),
                    documents=len(documents),
                    d_sae=d_sae,
                    top_tokens=manifest.top_tokens,
                )
                strongest = strongest_positions(partials, layer, d_sae, manifest.top_tokens, corpus, memory)
                write_layer_contexts(staged, layer, d_sae, partials, corpus, strongest, memory)
                progress.advance()
            write_probe_documents(staged, documents)
            tokens_of_documents = [document.tokens for document in documents]
            add_label_effects(staged, classifier, saes, tokens_of_documents, size, progress)
            explain_run(run, staged, progress, contexts=staged)
        bury(work)
    return target


def _documents(run: Run, classifier: Classifier) -> list[IndexedDocument]:
    """The documents of a run, cut into tokens as when it was indexed."""
    rows = run.query("SELECT id, label_id, split, text, token_ids FROM documents ORDER BY document").to_pylist()
    documents = []
    for number, (row, tokens) in enumerate(zip(rows, classifier.tokenize([row["text"] for row in rows]), strict=True)):
        if list(tokens.input_ids) != row["token_ids"]:
            raise ModelNotHereError(
                f"the tokenizer cuts document {row['id']!r} into other tokens than when run {run.name!r} was indexed",
                field="run",
                fix="use the versions of transformers and tokenizers that `tegakari runs show` states",
            )
        documents.append(IndexedDocument(number, row["id"], row["label_id"], row["split"], row["text"], tokens))
    return documents
