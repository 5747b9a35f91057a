"""The corpus: any table of labelled posts becomes one Parquet file, and every row of it is accounted for."""

from tegakari.indexer.corpus.files import read_documents, read_manifest
from tegakari.indexer.corpus.importer import import_corpus

__all__ = ["import_corpus", "read_documents", "read_manifest"]
