"""Files of concepts and their written forms: reading and validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import msgspec

from tegakari.models.classifier import Classifier
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.variants import SLOT, Concept, ConceptFile

FIELD = "--concepts"

_EXAMPLE = (
    'write {"concepts": [{"concept": "会議", "frame": "明日は{form}です。", "forms": '
    '[{"form": "会議", "sentence": "会議が長い。"}, {"form": "MTG", "sentence": "MTGに出る。"}]}]}'
)


def read_concepts(path: Path | None = None) -> list[Concept]:
    """Read and check a file of concepts; without a path the package's own, 50 concepts in Japanese.

    Raises:
        ConfigError: the file cannot be read, or a concept or form in it is wrong.
    """
    file = path or files("tegakari.analyses.variants").joinpath("concepts.json")
    name = path or "the package's own file"
    try:
        concepts = msgspec.json.decode(file.read_bytes(), type=ConceptFile).concepts
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}", field=FIELD, fix="give a JSON file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {error}", field=FIELD, fix=_EXAMPLE) from None
    if not concepts:
        raise ConfigError(f"{name} has no concepts", field=FIELD, fix=_EXAMPLE)
    names: set[str] = set()
    for concept in concepts:
        if concept.concept in names:
            raise ConfigError(f"concept {concept.concept!r} occurs twice", field=FIELD, fix="join the two")
        names.add(concept.concept)
        _check(concept)
    return concepts


def _check(concept: Concept) -> None:
    if len(concept.forms) < 2:
        raise ConfigError(
            f"concept {concept.concept!r} has {len(concept.forms)} form", field=FIELD, fix="add a form or remove it"
        )
    forms: set[str] = set()
    for form in concept.forms:
        if form.form in forms:
            raise ConfigError(
                f"form {form.form!r} of concept {concept.concept!r} occurs twice", field=FIELD, fix="remove one"
            )
        forms.add(form.form)
        if form.form not in form.sentence:
            raise ConfigError(
                f"the sentence of form {form.form!r} of concept {concept.concept!r} does not contain it: "
                f"{form.sentence!r}",
                field=FIELD,
                fix="write a sentence with the form",
            )
    if concept.frame is not None and concept.frame.count(SLOT) != 1:
        raise ConfigError(
            f"the frame of concept {concept.concept!r} does not contain {SLOT} once: {concept.frame!r}",
            field=FIELD,
            fix=f"write a sentence with one {SLOT}, or remove the frame",
        )


def check_tokens(classifier: Classifier, concepts: Sequence[Concept]) -> None:
    """Check that every form has a token.

    Raises:
        ConfigError: a form has none.
    """
    forms = [(concept.concept, form.form) for concept in concepts for form in concept.forms]
    for (concept, form), tokens in zip(forms, classifier.tokenize([form for _, form in forms]), strict=True):
        if not tokens.positions:
            raise ConfigError(
                f"form {form!r} of concept {concept!r} has no token",
                field=FIELD,
                fix="remove the form, or write it with other characters",
            )


def fingerprint(concepts: Sequence[Concept]) -> str:
    """SHA-256 of the concepts as JSON."""
    return hashlib.sha256(msgspec.json.encode(concepts)).hexdigest()
