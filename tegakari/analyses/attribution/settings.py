"""Settings of an attribution, checked against a run. Needs no model."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.analyses.engine.cost import Cost, cost_of_documents, cost_of_texts
from tegakari.schemas.attribution import AttributionSettings
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.store import Run, queries

GRADIENT_PASSES = 3
"""Passes that one forward and backward pass costs."""


class AttributionInput(NamedTuple):
    """What an attribution reads."""

    settings: AttributionSettings
    """with the run's layers filled in"""
    text: str
    cost: Cost


def attribution_input(run: Run, settings: AttributionSettings) -> AttributionInput:
    """Text of an attribution and its cost; all layers of the run by default.

    Args:
        run: published.
        settings: of a client.

    Raises:
        QueryError: not exactly one of document and text, or the classifier has one label only.
        NotFoundError: the run has no such document, label or layer.
    """
    if (settings.document is None) == (settings.text is None):
        raise QueryError(
            "an attribution needs a document or a text", field="document", fix="give `document` or `text`, not both"
        )
    if len(run.labels) < 2:
        raise QueryError(
            f"run {run.name!r} has one label: no other label to tell it from", field="run", fix="choose another run"
        )
    if settings.label is not None:
        run.label_id(settings.label)
    available = run.manifest.saes.layers
    layers = available if settings.layers is None else sorted(set(settings.layers))
    for layer in layers:
        if layer not in available:
            raise NotFoundError(
                f"run {run.name!r} has no layer {layer}",
                field="layers",
                fix=f"layers: {', '.join(map(str, available))}",
            )
    passes = GRADIENT_PASSES + 1 + _sets(settings)
    if settings.text is not None:
        text, cost = settings.text, cost_of_texts(run, [settings.text], passes)
    else:
        assert settings.document is not None
        number = queries.document_number(run, settings.document)
        text = run.blocks.documents.text[number].as_py()
        cost = cost_of_documents(run, np.array([number]), passes)
    return AttributionInput(msgspec.structs.replace(settings, layers=list(layers)), text, cost)


def _sets(settings: AttributionSettings) -> int:
    """Most sets of features that are ablated: each candidate, those of the greedy search, and two per draw."""
    steps = min(settings.max_set, settings.candidates)
    search = sum(settings.candidates - step for step in range(1, steps))
    return settings.candidates + search + 2 * settings.draws
