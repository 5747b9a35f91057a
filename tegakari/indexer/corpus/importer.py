"""Stages of an import (`tegakari corpus import`): rows, candidates, draw, corpus. Every row is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tegakari.indexer.corpus.documents import DocumentMaker
from tegakari.indexer.corpus.draw import Draw, without_ambiguous
from tegakari.indexer.corpus.encodings import codec_name
from tegakari.indexer.corpus.files import content_sha256, write_corpus
from tegakari.indexer.corpus.label_lists import check_single_labels
from tegakari.indexer.corpus.reasons import Reason, Tally
from tegakari.indexer.corpus.rows import Reject, Row, configured_columns
from tegakari.indexer.corpus.sources import Source, open_source
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import DOCUMENTS_FILE, CorpusManifest, Document, Drop
from tegakari.schemas.errors import CorpusError
from tegakari.schemas.progress import NoProgress, Progress

_PROGRESS_ROWS = 1000
_FIXES = {
    Reason.NOT_UNICODE: "set corpus.encoding to the encoding of the source, or save it as UTF-8",
    Reason.SEVERAL_LABELS: "write one label per row: a classifier here has one label per document",
    Reason.NOT_JSON: "write one JSON object per line",
    Reason.UNKNOWN_SPLIT: 'write train or eval in the column, or set corpus.split_column to "" to sample the splits',
}


def import_corpus(config: CorpusConfig, progress: Progress = NoProgress()) -> CorpusManifest:
    """Import a source into `config.path`: documents.parquet and corpus.json.

    One pass over the source; the documents drawn so far and the ids of all rows are in memory. The result does not
    depend on the order of the rows, except that the first of several rows with the same id is used.

    Args:
        config: the source, its columns, and the numbers of documents.
        progress: receives the stage "reading rows", whose total is not known in advance.

    Raises:
        CorpusError: the source is missing, damaged, or lacks a configured column; its labels are lists of labels; no
            row becomes a document; or the directory cannot be written.
        DiskFullError: no space; an existing corpus is unchanged.
    """
    columns, encoding = configured_columns(config), codec_name(config.encoding)
    source = open_source(Path(config.source), Path(config.path))
    _check_not_overwritten(source, Path(config.path))
    dropped, changed = Tally(), Tally()
    maker = DocumentMaker(config, by_split=bool(columns.split) or source.has_splits)
    draw = Draw(config, dropped=dropped, changed=changed)
    rows = 0
    for row in _with_progress(source.rows(columns, encoding), progress):
        rows += 1
        candidate = row if isinstance(row, Reject) else maker.make(row)
        if isinstance(candidate, Reject):
            dropped.add(candidate.reason, candidate.location)
        else:
            draw.offer(candidate)
    check_single_labels(draw.labels)
    drawn = without_ambiguous(sorted(draw.documents()), dropped)
    for document in drawn:
        if document.cut:
            changed.add(Reason.CUT, document.id)
    documents = [Document(document.id, document.label, document.split, document.text) for document in drawn]
    if not documents:
        raise _no_documents(source.name, rows, dropped.drops())
    manifest = CorpusManifest(
        source=source.name,
        source_sha256=source.sha256(),
        content_sha256=content_sha256(documents),
        rows=rows,
        documents=len(documents),
        train=sum(document.split == "train" for document in documents),
        eval=sum(document.split == "eval" for document in documents),
        labels=sorted({document.label for document in documents}),
        dropped=dropped.drops(),
        changed=changed.drops(),
        seed=config.seed,
    )
    write_corpus(Path(config.path), documents, manifest)
    return manifest


def _check_not_overwritten(source: Source, corpus: Path) -> None:
    target = (corpus / DOCUMENTS_FILE).resolve()
    if any(part.path.resolve() == target for part in source.parts):
        raise CorpusError(
            f"the import would overwrite its source {target}", field="corpus.path", fix="choose another directory"
        )


def _with_progress(rows: Iterator[Row | Reject], progress: Progress) -> Iterator[Row | Reject]:
    """The rows, reported as they are read; their number is not known in advance."""
    progress.stage("reading rows")
    number = 0
    for number, row in enumerate(rows, start=1):
        if number % _PROGRESS_ROWS == 0:
            progress.advance(_PROGRESS_ROWS)
        yield row
    progress.advance(number % _PROGRESS_ROWS)


def _no_documents(source: str, rows: int, dropped: list[Drop]) -> CorpusError:
    if not rows:
        return CorpusError(f"{source} has no rows", field="corpus.source", fix="set the key to a file with posts")
    listed = ", ".join(f"{drop.count:,} {drop.reason}" for drop in dropped)
    worst = max(dropped, key=lambda drop: drop.count)
    return CorpusError(
        f"none of the {rows:,} rows of {source} became a document: {listed}",
        field="corpus.source",
        fix=_FIXES.get(Reason(worst.reason), "correct the source, or the columns that the configuration names"),
    )
