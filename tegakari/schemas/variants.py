"""Written variants: concepts with their written forms, and the survival of features between forms."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.config import Natural, Seed

SLOT = "{form}"

SIZES = (20, 50, 100)
"""Sizes of the feature sets in the study."""

DEFAULT_CONCEPTS_SHA256 = "11b601aa204bf4f0483f51ccd376a8001d9b979424775df4337a0c00bd278ff9"
"""Of the package's own concepts, which are used where no file is given."""

VariantKind = Literal["sentences", "frames", "unrelated"]
"""Kinds of pairs of forms.

sentences: forms of a concept, each in its own sentence; frames: forms of a concept in the same sentence; unrelated:
forms of different concepts, each in its own sentence, as a control without shared meaning."""


class WrittenForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A written form of a concept, and a sentence with it."""

    form: Annotated[str, Meta(min_length=1)]
    sentence: Annotated[str, Meta(min_length=1)]
    """contains the form"""


class Concept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A meaning and its written forms."""

    concept: Annotated[str, Meta(min_length=1)]
    forms: list[WrittenForm]
    """at least two"""
    frame: str | None = None
    """a sentence with `{form}`, which every form fits; without it the concept is not in the pairs of kind frames"""


class ConceptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Content of a JSON file of concepts."""

    concepts: list[Concept]


class VariantsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Concepts, sizes of feature sets, and pairs that a result is of."""

    concepts_sha256: str
    """of the concepts as JSON"""
    ks: list[Natural]
    """sizes of the feature sets"""
    unrelated: Natural = 1000
    """pairs of forms of different concepts to draw"""
    seed: Seed = 0


def default_sizes(features: int) -> list[int]:
    """The sizes of `SIZES` that a layer with this number of features has."""
    return [size for size in SIZES if size <= features]


class LayerSurvival(msgspec.Struct, frozen=True, kw_only=True):
    """Survival in one layer."""

    layer: int
    survival: float | None
    """null if no pair has active features"""


class Survival(msgspec.Struct, frozen=True, kw_only=True):
    """Share of a form's features that remains without those of another form, for one k and kind of pairs."""

    kind: VariantKind
    k: int
    survival: Interval | None
    """mean over concepts (unrelated: pairs) of the mean over layers; the interval is over concepts (pairs)"""
    layers: list[LayerSurvival]
    pairs: int
    """ordered pairs of forms"""
    empty: int
    """pairs left out, summed over layers, because the second form's sentence has no active feature in the layer"""
    small: int
    """feature sets with fewer than k active features, over all forms and layers"""
    of_concepts: list[float | None]
    """of each concept, in the order of the file (unrelated: of each pair), the mean over layers"""


class VariantsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Written variants of a run (the study, Tables 4 and 9)."""

    run: str
    settings: VariantsSettings
    concepts: list[str]
    forms: int
    rows: list[Survival]
    seconds: float
    provenance: Provenance
