"""Tokens of a feature as the whole words that they are pieces of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection

from tegakari.store import Run
from tegakari.store.queries.onset import onsets
from tegakari.terms import words
from tegakari.terms.words import form_of

MIN_SHARE = 0.5
"""A token is shown as a word that it is a piece of in this share of the documents at least; else it stays a piece."""


class WholeWords:
    """Words of a run's documents, cut as its search index cuts them; a document is cut once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._spans: dict[int, tuple[list[int], list[int]]] = {}

    def of_tokens(self, place: int, tokens: Collection[str]) -> dict[str, str]:
        """The word of most documents in which a token of a feature is a piece of it.

        Args:
            place: of the feature.
            tokens: texts of tokens that stand at or before the feature's onset.

        Returns:
            Token -> word; the token itself where no word has MIN_SHARE of the feature's documents with the token, or
            where nothing is installed that cuts words.

        Raises:
            StoreError: the run is damaged.
        """
        if not words.available():
            return {token: token for token in tokens}
        documents = self._run.blocks.documents
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        spellings: dict[str, str] = {}
        with_token = Counter[str]()
        for document, onset in zip(*(part.tolist() for part in onsets(self._run, place)), strict=True):
            text: str = documents.text[document].as_py()
            first = int(documents.first_token[document])
            rows = slice(first, first + onset + 1)
            pairs = set[tuple[str, str]]()
            for start, end in zip(
                documents.token_starts[rows].tolist(), documents.token_ends[rows].tolist(), strict=True
            ):
                token = text[start:end].strip()
                if token in tokens:
                    character = text.index(token, start)
                    word = self._covering(document, text, character, character + len(token))
                    spellings.setdefault(form_of(word), word)
                    pairs.add((token, form_of(word)))
            for token, form in pairs:
                counts[token][form] += 1
            with_token.update({token for token, _ in pairs})
        return {token: self._word(token, counts[token], with_token[token], spellings) for token in tokens}

    def _covering(self, document: int, text: str, start: int, end: int) -> str:
        """The words of which the characters from `start` to `end` are a part."""
        if document not in self._spans:
            spans = words.cut(text)
            self._spans[document] = [first for first, _ in spans], [last for _, last in spans]
        firsts, lasts = self._spans[document]
        low, high = bisect_right(lasts, start), bisect_left(firsts, end)
        return text[firsts[low] : lasts[high - 1]] if low < high else text[start:end]

    @staticmethod
    def _word(token: str, forms: Counter[str], documents: int, spellings: dict[str, str]) -> str:
        form = min(forms, key=lambda form: (-forms[form], form), default=None)
        return spellings[form] if form is not None and forms[form] >= MIN_SHARE * documents else token
