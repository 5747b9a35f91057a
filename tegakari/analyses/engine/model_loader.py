"""Loader of a run's models: torch is imported, and files are read, once something has to be computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

ModelLoader: TypeAlias = "Callable[[], RunModels]"
"""Returns the models of a run. An analysis calls it only if it has to compute, so stored results need no models."""


def model_loader(run: Run, device: str = "auto") -> ModelLoader:
    """Loader of a run's models, which reads them on the first call and returns the same ones on later calls.

    Args:
        run: published.
        device: auto, cpu, cuda or cuda:N.
    """

    @cache
    def load() -> RunModels:
        from tegakari.analyses.engine.run_models import load_run_models

        return load_run_models(run, device)

    return load
