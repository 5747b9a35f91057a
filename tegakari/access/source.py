"""What a store offers, whether it is a directory or a service: one protocol for both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from tegakari.schemas.api import (
    ActivationHistogram,
    DocumentDetail,
    DocumentFeature,
    DocumentMatch,
    DocumentRow,
    FeatureDetail,
    FeatureLabel,
    FeatureNeighbour,
    FeatureRow,
    LabelDetail,
    LabelFeature,
    LabelRow,
    LayerSpecificity,
    Page,
    RunSummary,
    TopDocument,
    TopToken,
)
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.config import Pooling
from tegakari.schemas.inference import Classification, EncodedText
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.study import ClassificationResult, FeatureCues, LabelCues, SparsityResult
from tegakari.schemas.variants import VariantsResult

if TYPE_CHECKING:
    import pyarrow as pa

T_co = TypeVar("T_co", covariant=True)

Variety = Literal["specific", "shared"] | int
"""Label variety: exactly 1, at least 2, or exactly this number."""

SqlValue = str | int | float | bool | None
"""Value of a `$name` parameter in a query."""


class Listing(Protocol[T_co]):
    """A list that is read page by page."""

    def __iter__(self) -> Iterator[T_co]: ...

    def page(self, cursor: str | None = None) -> Page[T_co]:
        """One page: the first, or the one that `next` of the page before names."""
        ...

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        ...


class Source(Protocol):
    """The queries of a store. `tegakari.client.Client` answers them over HTTP, `LocalStore` from a directory.

    `limit` of a list is the size of its pages. Errors are those of docs/errors: `NotFoundError` and the others for a
    directory, `ApiError` with the same slug for a service.
    """

    def runs(self) -> Listing[RunSummary]: ...
    def run(self, run: str) -> RunSummary: ...
    def labels(self, run: str) -> Listing[LabelRow]: ...
    def label(self, run: str, label: str) -> LabelDetail: ...
    def specificity(self, run: str, *, pooling: Pooling | None = None) -> Listing[LayerSpecificity]: ...
    def label_features(
        self,
        run: str,
        label: str,
        *,
        layer: int | None = None,
        pooling: Pooling | None = None,
        min_d: float | None = None,
        variety: Variety | None = None,
        limit: int | None = None,
    ) -> Listing[LabelFeature]: ...
    def features(
        self,
        run: str,
        *,
        layer: int | None = None,
        token: str | None = None,
        variety: Variety | None = None,
        min_density: float | None = None,
        max_density: float | None = None,
        min_d: float | None = None,
        order: str | None = None,
        limit: int | None = None,
    ) -> Listing[FeatureRow]: ...
    def feature(
        self, run: str, layer: int, feature: int, *, pooling: Pooling | None = None, tokens: int | None = None
    ) -> FeatureDetail: ...
    def feature_labels(
        self, run: str, layer: int, feature: int, *, pooling: Pooling | None = None, limit: int | None = None
    ) -> Listing[FeatureLabel]: ...
    def feature_tokens(self, run: str, layer: int, feature: int, *, limit: int | None = None) -> Listing[TopToken]: ...
    def feature_documents(
        self, run: str, layer: int, feature: int, *, limit: int | None = None
    ) -> Listing[TopDocument]: ...
    def feature_neighbours(
        self,
        run: str,
        layer: int,
        feature: int,
        *,
        in_run: str | None = None,
        in_layer: int | None = None,
        limit: int | None = None,
    ) -> Listing[FeatureNeighbour]: ...
    def feature_histogram(self, run: str, layer: int, feature: int) -> ActivationHistogram: ...
    def documents(
        self,
        run: str,
        *,
        label: str | None = None,
        predicted: str | None = None,
        correct: bool | None = None,
        limit: int | None = None,
    ) -> Listing[DocumentRow]: ...
    def document(
        self, run: str, document: str, *, layer: int | None = None, features: int | None = None
    ) -> DocumentDetail: ...
    def document_features(
        self, run: str, document: str, *, layer: int | None = None, limit: int | None = None
    ) -> Listing[DocumentFeature]: ...
    def similar_documents(self, run: str, document: str, *, limit: int | None = None) -> Listing[DocumentMatch]: ...
    def search(self, run: str, words: str, *, limit: int | None = None) -> Listing[DocumentMatch]: ...
    def classification(self, run: str) -> ClassificationResult: ...
    def sparsity(self, run: str) -> SparsityResult: ...
    def cues(self, run: str, label: str, *, layer: int | None = None, k: int = 20) -> LabelCues: ...
    def feature_cues(self, run: str, layer: int, feature: int) -> FeatureCues: ...
    def circuit(self, run: str) -> CircuitResult: ...
    def variants(self, run: str) -> VariantsResult: ...
    def compare_features(self, a: str, b: str) -> MatchingResult: ...
    def classify(self, run: str, texts: list[str]) -> list[Classification]: ...
    def encode(
        self,
        run: str,
        texts: list[str],
        *,
        layers: list[int] | None = None,
        features: list[int] | None = None,
        pooling: Literal["last", "max", "mean", "none"] | None = None,
        top: int = 20,
    ) -> list[EncodedText]: ...
    def knock_out(self, run: str, settings: KnockoutSettings) -> KnockoutResult: ...
    def sql_table(
        self, query: str, parameters: dict[str, SqlValue] | None = None, *, runs: list[str] | None = None
    ) -> pa.Table: ...
