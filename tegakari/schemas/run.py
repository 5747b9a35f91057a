"""run.json: what a run was made from, with what, and the checksum of every file of it."""

from __future__ import annotations

import msgspec

from tegakari.schemas.config import Pooling
from tegakari.schemas.corpus import Drop

FORMAT = 2
"""Version of the store's layout; a reader refuses a run with another one.

1: the first. 2: rounded activations, strongest documents and features in the blocks, a checksum of run.json.
"""


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a run, run.json itself excepted."""

    path: str
    """relative to the run's directory, with forward slashes."""
    size: int
    """bytes"""
    sha256: str


class ClassifierInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The classifier of a run."""

    sha256: str
    architecture: str
    d_model: int
    layers: int
    max_length: int
    dtype: str


class SaeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The SAE set of a run."""

    sha256: str
    layers: list[int]
    """indexed layers, ascending."""
    architecture: str
    widths: list[int]
    """features (d_sae) of each of those layers."""


class Locations(msgspec.Struct, frozen=True, kw_only=True):
    """Where the models were when the run was made; live inference looks for them there. Not shown to clients."""

    classifier: str
    saes: str


class CorpusInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of a run."""

    source: str
    content_sha256: str
    split: str
    documents: int
    labels: int


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How the classifier does on the indexed documents."""

    accuracy: float
    macro_f1: float


class RunManifest(msgspec.Struct, frozen=True, kw_only=True):
    """run.json of a published run."""

    format: int
    run: str
    created: str
    """ISO 8601, UTC."""
    fingerprint: str
    """hash of classifier, SAEs, documents and settings: equal fingerprints give equal tables."""
    classifier: ClassifierInfo
    saes: SaeInfo
    locations: Locations
    corpus: CorpusInfo
    pooling: Pooling
    variety_threshold: float
    top_tokens: int
    positions: int
    """non-special positions indexed."""
    activations: int
    """rows of the activations files."""
    skipped: list[Drop]
    """documents that could not be indexed, by reason."""
    scores: Scores
    kernels: str
    """the encode backend that ran."""
    versions: dict[str, str]
    timings: dict[str, float]
    """seconds of each stage."""
    synthetic: bool = False
    """made by a generator, not from a model."""
    files: list[FileEntry]
    checksum: str = ""
    """SHA-256 of this file's compact JSON with an empty checksum; added when the run is published."""
