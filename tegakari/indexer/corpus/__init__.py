"""Import of a corpus (`tegakari corpus import`): labelled posts in any table format become one Parquet file."""

from tegakari.indexer.corpus.files import read_documents, read_manifest
from tegakari.indexer.corpus.importer import import_corpus

__all__ = ["import_corpus", "read_documents", "read_manifest"]
