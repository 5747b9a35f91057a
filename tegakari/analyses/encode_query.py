"""A request to encode texts, checked against a run and with its defaults filled in. Needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.inference import EncodeRequest
from tegakari.store import Run


class EncodeQuery(NamedTuple):
    """Texts to encode, and which of their features are returned."""

    texts: Sequence[str]
    layers: tuple[int, ...]
    """layers that the run has, ascending"""
    features: tuple[int, ...] | None
    """only these features; None: all"""
    pooling: Pooling | Literal["none"]
    """over the positions of each text; none: features per position"""
    top: int
    """maximum number of features returned per layer, those with the largest activation"""


def encode_query(run: Run, request: EncodeRequest) -> EncodeQuery:
    """Query of a request: all layers and the pooling of the run by default.

    Args:
        run: published.
        request: of a client.

    Raises:
        NotFoundError: the run has no such layer, or the layer no such feature.
        QueryError: features are given without exactly one layer.
    """
    widths = dict(zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True))
    layers = tuple(sorted(set(widths if request.layers is None else request.layers)))
    for number, layer in enumerate(request.layers or ()):
        if layer not in widths:
            raise NotFoundError(
                f"run {run.name!r} has no layer {layer}",
                field=f"layers[{number}]",
                fix=f"layers: {', '.join(map(str, widths))}",
            )
    if request.features is not None:
        if request.layers is None or len(layers) != 1:
            raise QueryError("features need exactly one layer", field="features", fix="give one layer in `layers`")
        width = widths[layers[0]]
        for number, feature in enumerate(request.features):
            if feature >= width:
                raise NotFoundError(
                    f"layer {layers[0]} has no feature {feature}",
                    field=f"features[{number}]",
                    fix=f"features: 0 to {width - 1}",
                )
    return EncodeQuery(
        request.texts,
        layers,
        None if request.features is None else tuple(request.features),
        request.pooling or run.manifest.pooling,
        request.top,
    )
