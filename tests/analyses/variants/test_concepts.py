"""Files of concepts: the package's own, and errors in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.variants import read_concepts
from tegakari.schemas.errors import ConfigError


def test_the_package_has_fifty_concepts(models: RunModels):
    concepts = read_concepts()
    assert len(concepts) == 50
    assert all(3 <= len(item.forms) <= 5 and item.frame for item in concepts)
    sentences = [form.sentence for item in concepts for form in item.forms]
    assert len(set(sentences)) == len(sentences)
    forms = [form.form for item in concepts for form in item.forms]
    assert len(set(forms)) == len(forms)


GOOD = {"concept": "会議", "forms": [{"form": "会議", "sentence": "会議です"}, {"form": "MTG", "sentence": "MTGです"}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ('{"concepts": []}', "no concepts"),
        ({"concepts": [GOOD, GOOD]}, "'会議' occurs twice"),
        ({"concepts": [{**GOOD, "forms": GOOD["forms"][:1]}]}, "'会議' has 1 form"),
        ({"concepts": [{**GOOD, "forms": [GOOD["forms"][0]] * 2}]}, "form '会議' of concept '会議' occurs twice"),
        (
            {"concepts": [{**GOOD, "forms": [GOOD["forms"][0], {"form": "MTG", "sentence": "会"}]}]},
            "form 'MTG' of concept '会議' does not contain it",
        ),
        ({"concepts": [{**GOOD, "forms": [{"form": "", "sentence": "会"}]}]}, r"forms\[0\].form"),
        ({"concepts": [{**GOOD, "frame": "明日です"}]}, "frame of concept '会議'"),
        ({"concepts": [{**GOOD, "more": 1}]}, "unknown field"),
    ],
)
def test_a_wrong_file_is_refused(content: object, words: str, tmp_path: Path):
    path = tmp_path / "concepts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_concepts(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_concepts(tmp_path / "none.json")
