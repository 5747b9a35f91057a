"""Values with which every operation runs against the demo's store; `tests/service/openapi` runs them."""

from __future__ import annotations

from typing import Any

from tegakari.schemas.explanations import explanation_id

EXPLANATION = "軽トラなどの車の語"

PARAMETERS: dict[str, Any] = {
    "run": "demo-jpn",
    "runs": "demo-jpn,demo-base",
    "label": "自動車",
    "layer": 0,
    "feature": 1,
    "document": "post-00003",
    "knockout": "0123456789abcdef0123456789abcdef",
    "analysis": "0123456789abcdef0123456789abcdef",
    "explanation": explanation_id(0, 1, "person", "aki", EXPLANATION),
    "q": "軽トラ",
    "slug": "bad-parameter",
}
"""By name, of parameters that a request must have. Ids of knockouts and analyses are those of lists;
the explanation is the one that `writeExplanation` writes."""

TEXT = "週末に軽トラで買い物に行きました"

BODIES: dict[str, Any] = {
    "classifyTexts": {"texts": [TEXT]},
    "encodeTexts": {"texts": [TEXT], "layers": [0], "top": 5},
    "knockOut": {"label": "自動車", "layer": 0, "k": 2, "draws": 2},
    "attributePrediction": {"text": TEXT},
    "writeNote": {"author": "aki", "starred": True, "tags": ["旅"], "text": "車の語で立ち上がる"},
    "writeExplanation": {"author": "aki", "language": "ja", "text": EXPLANATION},
    "voteOnExplanation": {"author": "aki", "value": 1},
    "querySql": {
        "sql": "SELECT run, label, f1 FROM labels WHERE f1 < $f1 ORDER BY f1",
        "parameters": {"f1": 0.9},
        "limit": 5,
    },
}
"""By operation."""
