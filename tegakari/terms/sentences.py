"""One sentence, in English and in Japanese, for what the contexts of a feature have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from tegakari.schemas.explanations import MAX_EXPLANATION, Evidence, Place, Script, Term
from tegakari.terms.words import form_of

_PLACES: Mapping[Place, tuple[str, str]] = MappingProxyType(
    {
        "head": ("the token that the classifier reads", "分類器が読むトークン"),
        "first": ("the first token", "先頭のトークン"),
        "last": ("the last token", "末尾のトークン"),
        "after-punctuation": ("the token after punctuation", "句読点の直後"),
    }
)

_SCRIPTS: Mapping[Script, tuple[str, str]] = MappingProxyType(
    {
        "kanji": ("kanji", "漢字"),
        "hiragana": ("hiragana", "ひらがな"),
        "katakana": ("katakana", "カタカナ"),
        "latin": ("Latin letters", "ラテン文字"),
        "digits": ("digits", "数字"),
        "punctuation": ("punctuation", "句読点や括弧"),
        "symbols": ("emoji and symbols", "絵文字や記号"),
        "space": ("spaces and line breaks", "空白や改行"),
        "other": ("other scripts", "その他の文字"),
    }
)

_NAMED_TOKEN = 0.5
"""Share of the contexts with the same strongest token from which a sentence names it before the words around it."""

_SENTENCE_TERMS = 6
"""Terms that a sentence names; the evidence has all."""


class Sentences(NamedTuple):
    """A sentence per language."""

    en: str
    ja: str


def sentences(terms: Sequence[Term], evidence: Evidence) -> Sentences:
    """The sentences of a feature.

    Args:
        terms: of the feature.
        evidence: of the feature.
    """
    if "never" in evidence.traits:
        return Sentences("Never active in this run.", "このランでは一度も活性しない。")
    en, ja = _lead(terms, evidence)
    for part in (_place(evidence), _script(terms, evidence), _labels(evidence)):
        if part is not None and part[0] not in en:
            en, ja = en + part[0], ja + part[1]
    return Sentences(_short(en, "."), _short(ja, "。"))


def _lead(terms: Sequence[Term], evidence: Evidence) -> tuple[str, str]:
    """The first part: what the feature is active on."""
    if "always" in evidence.traits:
        return "Active at nearly every token", "ほぼすべてのトークンで活性する"
    if evidence.token and evidence.token_share >= _NAMED_TOKEN:
        return _token(terms, evidence, evidence.token)
    if terms:
        en, ja = _near(terms)
        share = f"{evidence.covered / max(evidence.contexts, 1):.0%}"
        return f"Active {en} ({share} of its contexts)", f"{ja}活性する（文脈の{share}）"
    if evidence.script is not None:
        en, ja = _SCRIPTS[evidence.script]
        return f"Active on {en}, on no common word", f"共通の語はなく、{ja}で活性する"
    if evidence.place is not None:
        en, ja = _PLACES[evidence.place]
        return f"Active at {en}, on no common word", f"共通の語はなく、{ja}で活性する"
    return "Active on no common word, place or script", "共通の語・位置・文字種は見つからない"


def _token(terms: Sequence[Term], evidence: Evidence, token: str) -> tuple[str, str]:
    """The strongest token of most contexts, then the words around it."""
    if "single-token" in evidence.traits:
        return f"Active on the token “{token}” alone", f"トークン「{token}」だけで活性する"
    share = f"{evidence.token_share:.0%}"
    others = [term for term in terms if form_of(term.word) != token]
    en, ja = _near(others) if others else ("", "")
    return (
        f"Active on the token “{token}” ({share} of its contexts)" + f", {en}" * bool(others),
        f"{ja}トークン「{token}」で活性する（文脈の{share}）",
    )


def _near(terms: Sequence[Term]) -> tuple[str, str]:
    """Words, and where the strongest token is by them."""
    en = ", ".join(f"“{term.word}”" for term in terms[:_SENTENCE_TERMS])
    ja = "".join(f"「{term.word}」" for term in terms[:_SENTENCE_TERMS])
    contexts = sum(term.contexts for term in terms)
    if 2 * sum(term.on for term in terms) > contexts:
        return f"on {en}", f"{ja}で"
    if 2 * sum(term.before for term in terms) > contexts:
        return f"after {en}", f"{ja}の後で"
    return f"near {en}", f"{ja}の近くで"


def _place(evidence: Evidence) -> tuple[str, str] | None:
    if evidence.place is None:
        return None
    en, ja = _PLACES[evidence.place]
    return f", mostly at {en}", f"、主に{ja}"


def _script(terms: Sequence[Term], evidence: Evidence) -> tuple[str, str] | None:
    """Script of the strongest token, where it says more than the words."""
    if evidence.script is None or not terms or (evidence.token and evidence.token_share >= _NAMED_TOKEN):
        return None
    if 2 * sum(term.on for term in terms) > sum(term.contexts for term in terms):
        return None
    en, ja = _SCRIPTS[evidence.script]
    return f", mostly on {en}", f"、主に{ja}"


def _labels(evidence: Evidence) -> tuple[str, str] | None:
    if not evidence.labels:
        return None
    best = evidence.labels[0]
    if "label-wide" in evidence.traits:
        return (
            f", in {best.active_share:.0%} of the documents of {best.label} (d = {best.cohens_d:.1f})",
            f"、ラベル「{best.label}」の文書の{best.active_share:.0%}で活性（d = {best.cohens_d:.1f}）",
        )
    en = ", ".join(f"{label.label} (d = {label.cohens_d:.1f})" for label in evidence.labels)
    ja = "".join(f"「{label.label}」（d = {label.cohens_d:.1f}）" for label in evidence.labels)
    return f", most in {en}", f"、ラベル{ja}に多い"


def _short(text: str, end: str) -> str:
    """A sentence of at most MAX_EXPLANATION characters."""
    return text + end if len(text) < MAX_EXPLANATION else text[: MAX_EXPLANATION - 1] + "…"
