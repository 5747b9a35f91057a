"""Routes of cues: the tokens that features fire on, of a label and of one feature."""

from __future__ import annotations

from typing import Annotated

from litestar.params import QueryParameter

from tegakari.analyses.cues import feature_cues, label_cues
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import FeatureCues, LabelCues
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import FEATURE_PATH, FeatureNumber, LayerFilter, LayerNumber, OpenRun

CuesLabel = Annotated[str, QueryParameter(description="label of the run", min_length=1, max_length=1000)]
CuesFeatures = Annotated[int, QueryParameter(description="features with the largest d", ge=1, le=1000)]


@read("/cues", "getCues", "Cues of a label")
def get_cues(run: OpenRun, label: CuesLabel, layer: LayerFilter = None, k: CuesFeatures = 20) -> LabelCues:
    """The tokens that the label's features fire on, and how various they are."""
    return label_cues(run, label, layer=layer, k=k)


@read(f"{FEATURE_PATH}/cues", "getFeatureCues", "Cues of a feature")
def get_feature_cues(run: OpenRun, layer: LayerNumber, feature: FeatureNumber) -> FeatureCues:
    """The tokens that a feature fires on with at least half its maximum; 404 for one that never fires."""
    cues = feature_cues(run, layer, feature)
    if cues is None:
        raise NotFoundError(
            f"feature {feature} of layer {layer} never fires", field="feature", fix="choose another feature"
        )
    return cues


RUN_HANDLERS = (get_cues, get_feature_cues)
