"""Settings of written variants: validation and defaults."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.variants.concepts import fingerprint
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.variants import Concept, VariantsSettings
from tegakari.store import Run

KS = (20, 50, 100)
"""Sizes of the feature sets in the study."""


def variants_settings(
    run: Run, concepts: Sequence[Concept], ks: Sequence[int], unrelated: int, seed: int
) -> VariantsSettings:
    """Settings by which a result is stored.

    Args:
        run: published.
        concepts: with their forms.
        ks: sizes of the feature sets.
        unrelated: number of pairs of forms of different concepts.
        seed: of these pairs and of the intervals.

    Raises:
        ConfigError: a layer has fewer than k features.
    """
    check_sizes(run, ks)
    return VariantsSettings(concepts_sha256=fingerprint(concepts), ks=sorted(set(ks)), unrelated=unrelated, seed=seed)


def check_sizes(run: Run, ks: Sequence[int]) -> None:
    """Refuse feature sets that are larger than a layer.

    Raises:
        ConfigError: a layer has fewer than k features.
    """
    features = min(run.manifest.saes.widths)
    if max(ks) > features:
        raise ConfigError(
            f"a layer of run {run.name!r} has {features} features, not {max(ks)}",
            field="-k",
            fix=f"choose k up to {features}",
        )
