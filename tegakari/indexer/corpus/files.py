"""The corpus on disk: two files, replaced at the same time and checked against each other when they are read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.indexer.corpus.arrow import read_parquet
from tegakari.indexer.corpus.rows import Columns, Reject
from tegakari.schemas.corpus import DOCUMENTS_FILE, MANIFEST_FILE, CorpusManifest, Document, Split
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import CorpusError
from tegakari.store.disk.durable import exclusive_lock, rename_into_place, translate_disk_full

NEW_DOCUMENTS_FILE = f".{DOCUMENTS_FILE}.new"
NEW_MANIFEST_FILE = f".{MANIFEST_FILE}.new"
_FIELD = "corpus.path"
_IMPORT_AGAIN = "import it again with `tegakari corpus import`"
_GROUP_DOCUMENTS = 1024
_COLUMNS = Columns(id="id", label="label", title="", body="text", split="split")
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
    ]
)


class ContentHash:
    """SHA-256 over documents: id, label, split and text in UTF-8, each preceded by its length in bytes (8 bytes)."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, document: Document) -> None:
        for value in document:
            encoded = value.encode()
            self._digest.update(len(encoded).to_bytes(8))
            self._digest.update(encoded)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def content_sha256(documents: Iterable[Document]) -> str:
    """Content hash of a corpus: the hash of its documents, sorted by id."""
    content = ContentHash()
    for document in documents:
        content.add(document)
    return content.hexdigest()


def write_corpus(directory: Path, documents: Sequence[Document], manifest: CorpusManifest) -> None:
    """Write a corpus; an existing one is replaced when the new files are whole and flushed to the disk.

    A crash leaves the old corpus or the new one: both files are written under temporary names, then renamed, documents
    first. A new manifest without new documents beside it therefore belongs to the documents in place.

    Args:
        directory: created if missing; other files in it are not changed.
        documents: sorted by id.
        manifest: manifest of these documents.

    Raises:
        CorpusError: the directory cannot be written, or another import is writing to it.
        DiskFullError: no space; an existing corpus is unchanged.
    """
    new_documents, new_manifest = directory / NEW_DOCUMENTS_FILE, directory / NEW_MANIFEST_FILE
    with _translate_failures(directory):
        directory.mkdir(parents=True, exist_ok=True)
        busy = CorpusError(
            f"another import is writing to {directory}", field=_FIELD, fix="wait for it, or choose another directory"
        )
        with exclusive_lock(directory, busy):
            _finish_interrupted_import(directory)
            try:
                with _flushed(new_documents) as stream:
                    _write_parquet(stream, documents)
                with _flushed(new_manifest) as stream:
                    stream.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
            except BaseException:
                _discard(directory)
                raise
            rename_into_place(new_documents, directory / DOCUMENTS_FILE)
            rename_into_place(new_manifest, directory / MANIFEST_FILE)


def _write_parquet(stream: BinaryIO, documents: Sequence[Document]) -> None:
    remaining = iter(documents)
    with pq.ParquetWriter(stream, _SCHEMA, compression="zstd") as writer:
        while group := list(islice(remaining, _GROUP_DOCUMENTS)):
            columns = zip(*group, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA))


@contextmanager
def _flushed(path: Path) -> Iterator[BinaryIO]:
    with path.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _translate_failures(directory: Path) -> Iterator[None]:
    fix = "make space and import again; an existing corpus is unchanged"
    try:
        with translate_disk_full(directory, field=_FIELD, fix=fix):
            yield
    except OSError as error:
        raise CorpusError(
            f"cannot write to {directory}: {error.strerror or error}", field=_FIELD, fix="choose another directory"
        ) from None


def _finish_interrupted_import(directory: Path) -> None:
    """Finish the last rename of a killed import, or remove its temporary files."""
    if _manifest_file(directory).name == NEW_MANIFEST_FILE:
        rename_into_place(directory / NEW_MANIFEST_FILE, directory / MANIFEST_FILE)
    else:
        _discard(directory)


def _discard(directory: Path) -> None:
    # The manifest first: without new documents beside it, it would belong to the documents in place.
    (directory / NEW_MANIFEST_FILE).unlink(missing_ok=True)
    (directory / NEW_DOCUMENTS_FILE).unlink(missing_ok=True)


def _manifest_file(directory: Path) -> Path:
    """File with the manifest of the documents in place, also between the two renames of an import."""
    between_renames = not (directory / NEW_DOCUMENTS_FILE).exists() and (directory / NEW_MANIFEST_FILE).exists()
    return directory / (NEW_MANIFEST_FILE if between_renames else MANIFEST_FILE)


def read_manifest(path: Path) -> CorpusManifest:
    """Read corpus.json of an imported corpus.

    Raises:
        CorpusError: no corpus is at `path`, or its manifest is damaged.
    """
    try:
        return decode_json(_manifest_file(path).read_bytes(), CorpusManifest)
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError(
            f"no corpus at {path}", field=_FIELD, fix="import one with `tegakari corpus import`"
        ) from None
    except OSError as error:
        raise CorpusError(f"cannot read the corpus at {path}: {error.strerror}", field=_FIELD) from None
    except msgspec.DecodeError as error:
        raise CorpusError(f"{path / MANIFEST_FILE} is damaged: {error}", field=_FIELD, fix=_IMPORT_AGAIN) from None


def read_documents(path: Path, split: Literal["train", "eval", "all"] = "all") -> list[Document]:
    """Read the documents of an imported corpus, sorted by id, and check all of them against corpus.json.

    Raises:
        CorpusError: no corpus is at `path`, or its files are damaged or not of the same import.
    """
    manifest = read_manifest(path)
    file = path / DOCUMENTS_FILE
    content = ContentHash()
    labels: set[str] = set()
    documents: list[Document] = []
    try:
        for document in _stored_documents(file):
            content.add(document)
            labels.add(document.label)
            if split in ("all", document.split):
                documents.append(document)
    except FileNotFoundError:
        raise CorpusError(f"{file} is missing", field=_FIELD, fix=_IMPORT_AGAIN) from None
    except (OSError, UnicodeError, pa.ArrowException) as error:
        raise CorpusError(f"cannot read {file}: {error}", field=_FIELD, fix=_IMPORT_AGAIN) from None
    if content.hexdigest() != manifest.content_sha256 or sorted(labels) != manifest.labels:
        raise CorpusError(
            f"{file} and {MANIFEST_FILE} do not belong together: one was changed after the import",
            field=_FIELD,
            fix=_IMPORT_AGAIN,
        )
    return documents


def _stored_documents(file: Path) -> Iterator[Document]:
    with pq.ParquetFile(file) as parquet:
        if not parquet.schema_arrow.equals(_SCHEMA):
            raise pa.ArrowInvalid(f"its columns are {', '.join(parquet.schema_arrow.names)}")
    for row in read_parquet(file, _COLUMNS):  # someone else may have made the corpus
        if isinstance(row, Reject):
            raise pa.ArrowInvalid(f"{row.location}: {row.reason}")
        id_, label, split, text = (
            value.decode() if isinstance(value, bytes) else str(value)
            for value in (row.id, row.label, row.split, row.body)
        )
        yield Document(id_, label, cast(Split, split), text)
