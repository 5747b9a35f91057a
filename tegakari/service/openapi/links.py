"""OpenAPI links from the first item of a list to the operations that take it."""

from __future__ import annotations

_ITEM = "$response.body#/items/0/"
_SAME_RUN = {"run": "$request.path.run"}
_FEATURE = {**_SAME_RUN, "layer": f"{_ITEM}layer", "feature": f"{_ITEM}feature"}
_LABEL = {**_SAME_RUN, "label": f"{_ITEM}label"}
_DOCUMENT = {**_SAME_RUN, "document": f"{_ITEM}document"}

LINKS: dict[str, dict[str, dict[str, str]]] = {
    "listRuns": {
        name: {"run": f"{_ITEM}run"}
        for name in ("getRun", "listLabels", "listFeatures", "listDocuments", "getSpecificity")
    },
    "listLabels": {"getLabel": _LABEL, "listLabelFeatures": _LABEL},
    "listLabelFeatures": {"getFeature": _FEATURE, "listFeatureTokens": _FEATURE, "listFeatureDocuments": _FEATURE},
    "listFeatures": {"getFeature": _FEATURE, "listFeatureLabels": _FEATURE, "getFeatureHistogram": _FEATURE},
    "listFeatureLabels": {"getLabel": _LABEL},
    "listLabelEffects": {"getFeature": _FEATURE, "listFeatureEffects": _FEATURE},
    "listFeatureEffects": {"getLabel": _LABEL, "listLabelEffects": _LABEL},
    "listFeatureDocuments": {"getDocument": _DOCUMENT},
    "listDocuments": {"getDocument": _DOCUMENT, "listDocumentFeatures": _DOCUMENT},
    "listDocumentFeatures": {"getFeature": _FEATURE},
}
"""Operation -> linked operation -> its parameters."""
