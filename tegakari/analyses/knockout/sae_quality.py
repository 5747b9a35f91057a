"""Quality of a run's SAEs, which stands beside every knockout."""

from __future__ import annotations

from collections.abc import Mapping

from tegakari.schemas.knockout import SaeQuality
from tegakari.store import Run


def sae_qualities(run: Run) -> Mapping[int, SaeQuality]:
    """Layer -> quality of its SAE, ascending.

    Raises:
        NotFoundError: the run was deleted meanwhile.
    """
    return {
        row["layer"]: SaeQuality(
            layer=row["layer"],
            features=row["d_sae"],
            dead_share=1 - row["alive"] / row["d_sae"],
            l0=row["l0"],
            explained_variance=row["explained_variance"],
            explained_variance_all=row["explained_variance_all"],
        )
        for row in run.rows("SELECT * FROM layers ORDER BY layer")
    }
