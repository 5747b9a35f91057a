"""Files of concepts and their written forms: reading and validation."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.variants import SLOT, Concept, ConceptFile

if TYPE_CHECKING:
    from tegakari.models.classifier import Classifier

FIELD = "--concepts"

WHOLE_CHARACTERS = 0.8
"""Least share of whole characters. Of the package's own forms in Japanese, the tokenizer of the demo (2,000 tokens,
Japanese) has 86 %, that of an English BERT 66 %, that of SmolLM2 17 %."""

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
        concepts = decode_json(file.read_bytes(), ConceptFile).concepts
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}", field=FIELD, fix="give a JSON file") from None
    except msgspec.DecodeError as error:
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


def check_script(classifier: Classifier, concepts: Sequence[Concept]) -> None:
    """Check that the tokenizer knows the script of the forms.

    Of a form in a script that the model was not trained on, it reads unknown tokens or bytes, and features say nothing
    about its meaning. A character is whole if exactly one token has it, alone or with others, and that token is not the
    unknown one.

    Raises:
        ConfigError: fewer than `WHOLE_CHARACTERS` of the forms' characters, without spaces, are whole.
    """
    forms = [form.form for concept in concepts for form in concept.forms]
    unknown = classifier.tokenizer.unk_token_id
    whole, characters = 0, 0
    for form, tokens in zip(forms, classifier.tokenize(forms), strict=True):
        pieces = Counter[int]()
        for token, (start, end) in zip(tokens.input_ids, tokens.spans, strict=True):
            pieces.update(dict.fromkeys(range(start, end), 2 if token == unknown else 1))
        places = [place for place, character in enumerate(form) if not character.isspace()]
        characters += len(places)
        whole += sum(pieces[place] == 1 for place in places)
    if whole < WHOLE_CHARACTERS * characters:
        raise ConfigError(
            f"the classifier's tokenizer does not know the script of the concepts: of {characters} characters of their "
            f"forms, {whole} ({whole / characters:.0%}) are in a token that is neither unknown nor a part of a "
            f"character; at least {WHOLE_CHARACTERS:.0%} are needed",
            field=FIELD,
            fix="give a file of concepts in a language that the model reads",
        )


def fingerprint(concepts: Sequence[Concept]) -> str:
    """SHA-256 of the concepts as JSON."""
    return hashlib.sha256(msgspec.json.encode(concepts)).hexdigest()
