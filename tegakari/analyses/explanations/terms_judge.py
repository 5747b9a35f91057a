"""The judge without a model: a passage fits an explanation if it contains one of its terms."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.analyses.explanations.passages import Passage
from tegakari.schemas.explanations import Explanation
from tegakari.terms.words import cut, form_of, forms_of


class TermsJudge:
    """Compares words, as they are cut for terms; marked passages fit if a term overlaps a mark."""

    name = "terms"

    def __call__(self, explanation: Explanation, passages: Sequence[Passage]) -> list[bool | None]:
        """Whether each passage contains a term; None for an explanation without terms."""
        terms = [forms for forms in (forms_of(term.word) for term in explanation.terms) if forms]
        if not terms:
            return [None] * len(passages)
        return [_contains(passage, terms) for passage in passages]


def _contains(passage: Passage, terms: Sequence[list[str]]) -> bool:
    spans = cut(passage.text)
    forms = [form_of(passage.text[start:end]) for start, end in spans]
    for term in terms:
        for first in range(len(forms) - len(term) + 1):
            if forms[first : first + len(term)] == term:
                start, end = spans[first][0], spans[first + len(term) - 1][1]
                if not passage.marks or any(low < end and start < high for low, high in passage.marks):
                    return True
    return False
