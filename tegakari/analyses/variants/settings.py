"""Settings of written variants: validation and defaults."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.variants.concepts import fingerprint
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.variants import SIZES, Concept, VariantsSettings, default_sizes
from tegakari.store import Run


def variants_settings(
    run: Run, concepts: Sequence[Concept], ks: Sequence[int] | None, unrelated: int, seed: int
) -> VariantsSettings:
    """Settings by which a result is stored.

    Args:
        run: published.
        concepts: with their forms.
        ks: sizes of the feature sets; None: those of the study that every layer has.
        unrelated: number of pairs of forms of different concepts.
        seed: of these pairs and of the intervals.

    Raises:
        ConfigError: a layer has fewer than k features.
    """
    return VariantsSettings(
        concepts_sha256=fingerprint(concepts), ks=variant_sizes([run], ks), unrelated=unrelated, seed=seed
    )


def variant_sizes(runs: Sequence[Run], ks: Sequence[int] | None) -> list[int]:
    """Sizes of feature sets, ascending; by default those of the study that every layer of the runs has.

    Raises:
        ConfigError: a layer has fewer features.
    """
    features = min(min(run.manifest.saes.widths) for run in runs)
    sizes = default_sizes(features) if ks is None else sorted(set(ks))
    largest = max(sizes, default=min(SIZES))
    if largest > features:
        raise ConfigError(
            f"a layer has {features} features, too few for sets of {largest} in written variants",
            field="ks",
            fix=f"give sizes up to {features}; a study can leave the variants out: `--skip variants`",
        )
    return sizes
