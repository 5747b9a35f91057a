"""`tegakari corpus import`: rows, candidates, a draw, a corpus; the counts add up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.progress import Progress

from tegakari.indexer.corpus.documents import DocumentMaker
from tegakari.indexer.corpus.draw import Draw, without_ambiguous
from tegakari.indexer.corpus.files import content_sha256, write_corpus
from tegakari.indexer.corpus.reasons import Reason, Tally
from tegakari.indexer.corpus.rows import Reject, Row, configured_columns
from tegakari.indexer.corpus.sources import Source, open_source
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import DOCUMENTS_FILE, CorpusManifest, Document, Drop
from tegakari.schemas.errors import CorpusError

_PROGRESS_ROWS = 1000
_FIXES = {
    Reason.NOT_UNICODE: "save the source as UTF-8",
    Reason.NOT_JSON: "write one JSON object a line",
    Reason.UNKNOWN_SPLIT: 'write train or eval there, or set corpus.split_column to "" to have the splits sampled',
}


def import_corpus(config: CorpusConfig, progress: Progress | None = None) -> CorpusManifest:
    """Import a source into `config.path`: documents.parquet and corpus.json.

    One pass; in memory are the documents drawn so far and the ids of all rows. The result depends on the rows and the
    configuration, not on the order of the rows, except that of rows with one id the first is taken.

    Raises:
        CorpusError: the source is missing, damaged, or lacks a configured column; no document is left; or the
            directory cannot be written.
        DiskFullError: no space; a corpus that was there is untouched.
    """
    columns = configured_columns(config)
    source = open_source(Path(config.source), Path(config.path))
    _refuse_overwriting(source, Path(config.path))
    dropped, changed = Tally(), Tally()
    maker = DocumentMaker(config, by_split=bool(columns.split) or source.has_splits)
    draw = Draw(config, dropped=dropped, changed=changed)
    rows = 0
    for row in _shown(source.rows(columns), progress):
        rows += 1
        made = row if isinstance(row, Reject) else maker.make(row)
        if isinstance(made, Reject):
            dropped.add(made.reason, made.where)
        else:
            draw.offer(made)
    kept = without_ambiguous(sorted(draw.documents()), dropped)
    for document in kept:
        if document.cut:
            changed.add(Reason.CUT, document.id)
    documents = [Document(document.id, document.label, document.split, document.text) for document in kept]
    if not documents:
        raise _nothing_left(source.name, rows, dropped.drops())
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


def _refuse_overwriting(source: Source, corpus: Path) -> None:
    target = (corpus / DOCUMENTS_FILE).resolve()
    if any(part.path.resolve() == target for part in source.parts):
        raise CorpusError(
            f"the import would write over its source {target}", field="corpus.path", fix="choose another directory"
        )


def _shown(rows: Iterator[Row | Reject], progress: Progress | None) -> Iterator[Row | Reject]:
    """The rows, counted on a bar without an end: how many there are is known when they are read."""
    task = progress.add_task("reading rows", total=None) if progress else None
    number = 0
    for number, row in enumerate(rows, start=1):
        if progress and task is not None and number % _PROGRESS_ROWS == 0:
            progress.update(task, completed=number)
        yield row
    if progress and task is not None:
        progress.update(task, completed=number, total=number)


def _nothing_left(source: str, rows: int, dropped: list[Drop]) -> CorpusError:
    if not rows:
        return CorpusError(f"{source} has no rows", field="corpus.source", fix="set the key to a file with posts")
    listed = ", ".join(f"{drop.count:,} {drop.reason}" for drop in dropped)
    worst = max(dropped, key=lambda drop: drop.count)
    return CorpusError(
        f"none of the {rows:,} rows of {source} became a document: {listed}",
        field="corpus.source",
        fix=_FIXES.get(Reason(worst.reason), "correct the source, or the columns that the configuration names"),
    )
