"""Written variants: concepts with their forms, and how much of a form's features another form does without."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tegakari.schemas.analysis import Interval, Provenance
from tegakari.schemas.config import Natural, Seed

SLOT = "{form}"

VariantKind = Literal["sentences", "frames", "unrelated"]
"""sentences: forms of a concept, each in a sentence of its own; frames: in the same sentence; unrelated: forms of
different concepts in their own sentences, which is what survives where nothing is shared."""


class WrittenForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to write a concept."""

    form: Annotated[str, Meta(min_length=1)]
    sentence: Annotated[str, Meta(min_length=1)]
    """holds the form"""


class Concept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One meaning."""

    concept: Annotated[str, Meta(min_length=1)]
    forms: list[WrittenForm]
    """two at least"""
    frame: str | None = None
    """a sentence with `{form}` that every form fits; without it the concept is not in that control"""


class ConceptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of concepts, JSON."""

    concepts: list[Concept]


class VariantsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is compared."""

    concepts_sha256: str
    """of the concepts"""
    ks: list[Natural]
    """sizes of the feature sets"""
    unrelated: Natural = 1000
    """pairs of forms of different concepts that are drawn"""
    seed: Seed = 0


class LayerSurvival(msgspec.Struct, frozen=True, kw_only=True):
    """Of one layer."""

    layer: int
    survival: float | None
    """null where no pair has features"""


class Survival(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a form's feature set remains without those of another form, for one k and kind of pairs."""

    kind: VariantKind
    k: int
    survival: Interval | None
    """mean over concepts (unrelated: pairs) of the mean over layers; the interval is over concepts, or pairs"""
    layers: list[LayerSurvival]
    pairs: int
    """ordered pairs of forms"""
    empty: int
    """pairs and layers left out because the second form's sentence has no active feature there"""
    small: int
    """feature sets, of all forms and layers, with fewer than k active features"""
    of_concepts: list[float | None]
    """mean over layers of each concept, in the order of the file (unrelated: of each pair)"""


class VariantsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Tables 4 and 9 of the study, for one run."""

    run: str
    settings: VariantsSettings
    concepts: list[str]
    forms: int
    rows: list[Survival]
    seconds: float
    provenance: Provenance
