"""run.json: inputs, settings, versions and file checksums of a run."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.config import NAME_PATTERN, Pooling
from tegakari.schemas.corpus import Drop

FORMAT = 4
"""Version of a run's layout, as `tegakari index` writes it.

1: the first. 2: rounded activations, strongest documents and features in the blocks, a checksum of run.json. 3: the
pooling `head`, which was `last`; limits of norms; active documents of features. 4: contexts, probes and label effects.
"""

READ_FORMATS = (3, FORMAT)
"""Versions that a reader reads; it refuses all others. `tegakari runs add-contexts` adds to a run of format 3 what
format 4 has more."""


RunName = Annotated[str, Meta(pattern=NAME_PATTERN)]
Fingerprint = Annotated[str, Meta(pattern="^[0-9a-f]{16,64}$")]
"""Hash of a run's inputs; a part of the names of directories, as a run's name is."""

RelativePath = Annotated[str, Meta(pattern=r"^(?!/)(?!(.*/)?\.\.?(/|$)).+$")]
"""Path of a file below a directory, with forward slashes and without `.` and `..`."""

SourcePath = Annotated[str, Meta(pattern=r"^(\.|(?!/)(?!(.*/)?\.\.?(/|$))[^\x00]+)$", max_length=1024)]
"""Path below a directory, as `RelativePath`, or `.` for the directory itself."""

Count = Annotated[int, Meta(ge=0, lt=2**62)]
MAX_FEATURES = 2**20
"""Largest number of features of a layer, as the activation files pack it."""
MAX_DOCUMENTS = 2**26
"""Largest number of documents of a run, as the activation files pack it."""

MAX_LABELS = 2**20


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a run or an analysis, except its manifest."""

    path: RelativePath
    """relative to the directory of the manifest, with forward slashes"""
    size: Count
    """bytes"""
    sha256: str


class HubRevision(msgspec.Struct, frozen=True, kw_only=True):
    """A commit of a repository of the Hugging Face hub."""

    repository: Annotated[str, Meta(pattern=r"^[\w.-]+(/[\w.-]+)?$", max_length=200)]
    """owner and name"""
    revision: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
    """hash of the commit"""


class ClassifierInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The classifier of a run."""

    sha256: str
    size: Count | None = None
    """bytes of the files that are hashed; null: the run was indexed before this was recorded"""
    architecture: str
    d_model: int
    layers: int
    max_length: int
    dtype: str
    head: Literal["last", "first", "all"]
    """positions that the classification head reads."""
    hub: HubRevision | None = None
    """where it was downloaded from; null: a directory that is not in the hub's cache"""


class SaeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The SAE set of a run."""

    sha256: str
    size: Count | None = None
    """bytes of the files that are hashed, as of the classifier"""
    layers: list[Annotated[int, Meta(ge=0, lt=10_000)]]
    """indexed layers, ascending."""
    architecture: str
    """activation function of the SAEs; `mixed` if they differ."""
    architectures: list[str] | None = None
    """activation function of each of those layers; null: the run was indexed before this was recorded"""
    sources: list[SourcePath] | None = None
    """path of the SAE of each of those layers, relative to the directory; null as above"""
    hub: HubRevision | None = None
    """where they were downloaded from; null: a directory that is not in the hub's cache"""
    widths: list[Annotated[int, Meta(ge=1, le=MAX_FEATURES)]]
    """features (d_sae) of each of those layers."""
    start_seeds: list[int] | None = None
    """seeds of the initial directions of each of those layers; null for SAEs that tegakari did not train"""
    max_norms: list[float | None]
    """norm of the residual above which a position is an outlier, of each of those layers; null: no limit."""
    doubts: list[str] = []
    """reasons to doubt that the SAEs fit the classifier, as sentences that name the layers; empty: none."""

    def __post_init__(self) -> None:
        for name in ("widths", "max_norms", "architectures", "sources"):
            values = getattr(self, name)
            if values is not None and len(self.layers) != len(values):
                raise ValueError(f"{len(self.layers)} layers, but {len(values)} {name}")
        if any(lower >= upper for lower, upper in pairwise(self.layers)):
            raise ValueError(f"the layers {self.layers} do not ascend")


Location = Annotated[str, Meta(max_length=4096, pattern="^[^\\x00]*$")]
"""Path of a directory."""


class Locations(msgspec.Struct, frozen=True, kw_only=True):
    """Directories of the models when the run was indexed; live inference loads them from there. Hidden from clients."""

    classifier: Location
    saes: Location


class CorpusInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The documents of a run."""

    source: str
    content_sha256: str
    split: str
    documents: Annotated[int, Meta(ge=0, le=MAX_DOCUMENTS)]
    labels: Annotated[int, Meta(ge=0, le=MAX_LABELS)]


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of the classifier on the indexed documents."""

    accuracy: float
    macro_f1: float


class IndexedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a run's shards that `tegakari index --shards I/N` or `--only shards` has indexed."""

    run: str
    part: str
    """I/N; 1/1: all shards"""
    shards: Count
    """shards of the part"""
    missing: Count
    """shards of the run that are not indexed yet, of any part"""
    published: bool
    """whether the run was published before, from the same inputs, so that there was nothing to do"""


class RunManifest(msgspec.Struct, frozen=True, kw_only=True):
    """run.json of a published run."""

    format: int
    run: RunName
    created: str
    """ISO 8601, UTC."""
    fingerprint: Fingerprint
    """hash of classifier, SAEs, documents and settings: equal fingerprints give equal tables."""
    classifier: ClassifierInfo
    saes: SaeInfo
    locations: Locations
    corpus: CorpusInfo
    pooling: Pooling
    variety_threshold: float
    top_tokens: Count
    positions: Count
    """countable positions indexed."""
    activations: Count
    """rows of the activations files."""
    skipped: list[Drop]
    """documents that could not be indexed, by reason."""
    scores: Scores
    kernels: str
    """backend of sparse encode."""
    attention: str | None = None
    """attention of the forward passes, by its name in transformers; null: indexed before this was recorded"""
    versions: dict[str, str]
    timings: dict[str, float]
    """seconds of each stage."""
    synthetic: bool = False
    """whether the run was drawn by a generator instead of computed by a model."""
    files: list[FileEntry]
    checksum: str = ""
    """SHA-256 of this file's compact JSON with an empty checksum; set at publication."""
