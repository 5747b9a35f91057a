"""Language of the explorer's texts: English or Japanese, by cookie, then by `Accept-Language`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

from litestar.types import Scope

from tegakari.service.http.cookies import cookie_of
from tegakari.service.http.headers import header, preferences

Language = Literal["en", "ja"]
LANGUAGES: dict[Language, str] = {"en": "English", "ja": "日本語"}
COOKIE = "tegakari_language"


def language_of(scope: Scope) -> Language:
    """Language in which a request is answered."""
    chosen = cookie_of(scope, COOKIE)
    accepted = (name.partition("-")[0] for name in preferences(header(scope, b"accept-language")))
    for name in (chosen, *accepted):
        for language in LANGUAGES:
            if name == language:
                return language
    return "en"


@cache
def texts(language: Language) -> dict[str, str]:
    """All texts of the interface in one language, by key."""
    return json.loads((Path(__file__).parent / "texts" / f"{language}.json").read_text(encoding="utf-8"))


SCRIPT_PREFIX = "script_"
"""Of the keys of texts that scripts show."""


@cache
def script_texts(language: Language) -> dict[str, str]:
    """Texts that the pages' scripts show, by key without its prefix."""
    return {
        key.removeprefix(SCRIPT_PREFIX): text for key, text in texts(language).items() if key.startswith(SCRIPT_PREFIX)
    }


def translator(language: Language) -> Callable[..., str]:
    """Function of templates: key and values -> text."""
    table = texts(language)

    def text(key: str, **values: object) -> str:
        return table[key].format(**values) if values else table[key]

    return text
