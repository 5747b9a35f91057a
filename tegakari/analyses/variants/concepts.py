"""Files of concepts."""

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


def read_concepts(path: Path | None = None) -> list[Concept]:
    """Read and check a file of concepts, or the one that comes with the package: 50, in Japanese.

    Raises:
        ConfigError: it cannot be read, or a concept or form in it is wrong.
    """
    named = path or "the package's own file"
    try:
        content = (
            path.read_bytes() if path else files("tegakari.analyses.variants").joinpath("concepts.json").read_bytes()
        )
        found = msgspec.json.decode(content, type=ConceptFile).concepts
    except OSError as error:
        raise ConfigError(f"cannot read {named}: {error.strerror}", field=FIELD, fix="give a JSON file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named}: {error}", field=FIELD, fix=_SHAPE) from None
    if not found:
        raise ConfigError(f"{named} has no concepts", field=FIELD, fix=_SHAPE)
    names: set[str] = set()
    for concept in found:
        if concept.concept in names:
            raise ConfigError(f"concept {concept.concept!r} is there twice", field=FIELD, fix="join the two")
        names.add(concept.concept)
        _check(concept)
    return found


_SHAPE = (
    'write {"concepts": [{"concept": "会議", "frame": "明日は{form}です。", "forms": '
    '[{"form": "会議", "sentence": "会議が長い。"}, {"form": "MTG", "sentence": "MTGに出る。"}]}]}'
)


def _check(concept: Concept) -> None:
    if len(concept.forms) < 2:
        raise ConfigError(
            f"concept {concept.concept!r} has {len(concept.forms)} form", field=FIELD, fix="give it two or leave it out"
        )
    seen: set[str] = set()
    for each in concept.forms:
        if each.form in seen:
            raise ConfigError(
                f"form {each.form!r} of concept {concept.concept!r} is there twice", field=FIELD, fix="leave one out"
            )
        seen.add(each.form)
        if each.form not in each.sentence:
            raise ConfigError(
                f"the sentence of form {each.form!r} of concept {concept.concept!r} is without it: {each.sentence!r}",
                field=FIELD,
                fix="write a sentence with the form",
            )
    if concept.frame is not None and concept.frame.count(SLOT) != 1:
        raise ConfigError(
            f"the frame of concept {concept.concept!r} does not hold {SLOT} once: {concept.frame!r}",
            field=FIELD,
            fix=f"write a sentence with {SLOT}, or leave it out",
        )


def check_tokens(classifier: Classifier, concepts: Sequence[Concept]) -> None:
    """Refuse forms that a classifier reads nothing of.

    Raises:
        ConfigError: naming concept and form.
    """
    forms = [(concept.concept, each.form) for concept in concepts for each in concept.forms]
    for (concept, form), tokens in zip(forms, classifier.tokenize([form for _, form in forms]), strict=True):
        if not tokens.positions:
            raise ConfigError(
                f"form {form!r} of concept {concept!r} has no token",
                field=FIELD,
                fix="leave it out, or write it otherwise",
            )


def fingerprint(concepts: Sequence[Concept]) -> str:
    """SHA-256 of what the concepts hold."""
    return hashlib.sha256(msgspec.json.encode(concepts)).hexdigest()
