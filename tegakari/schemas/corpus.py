"""The imported corpus: a Parquet file of documents, and a manifest that accounts for every row of the source."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Split = Literal["train", "eval"]

DOCUMENTS_FILE = "documents.parquet"
MANIFEST_FILE = "corpus.json"


class Document(NamedTuple):
    """One post."""

    id: str
    label: str
    split: Split
    text: str
    """title, newline, body; never empty."""


class Drop(msgspec.Struct, frozen=True):
    """Rows of the source that were dropped or changed for one reason."""

    reason: str
    count: int
    examples: list[str]
    """ids or row numbers of the first few."""


class CorpusManifest(msgspec.Struct, frozen=True, kw_only=True):
    """corpus.json: source, counts and content hash of an imported corpus."""

    source: str
    """file name of the source, without its directory."""
    source_sha256: str
    content_sha256: str
    """hash of all documents in order: the identity of the corpus."""
    rows: int
    """rows read from the source; equals documents + the sum of dropped counts."""
    documents: int
    train: int
    eval: int
    labels: list[str]
    """sorted; the position is the class index of the classifier."""
    dropped: list[Drop]
    changed: list[Drop]
    """documents that were changed at import, such as texts that were cut."""
    seed: int
