"""Reasons why rows did not become documents or were changed, and their counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from enum import StrEnum

from tegakari.schemas.corpus import Drop

EXAMPLES = 5
_EXAMPLE_CHARACTERS = 80


class Reason(StrEnum):
    """Reasons as in corpus.json, in the order of corpus.json."""

    TOO_LARGE = "row larger than 64 Mi characters"
    NOT_JSON = "line is not a JSON object"
    BAD_QUOTES = "quotes do not match"
    RAGGED = "number of fields differs from the header's"
    NOT_TEXT = "a configured column holds a list or an object"
    SEVERAL_LABELS = "label is a list of several labels"
    NOT_UNICODE = "not valid Unicode: broken UTF-8 or half a surrogate pair"
    NUL = "holds a NUL character"
    EMPTY_ID = "empty id"
    EMPTY_LABEL = "empty label"
    EMPTY_TEXT = "empty text"
    UNKNOWN_SPLIT = "split is neither train nor eval"
    DUPLICATE_ID = "id stands in an earlier row"
    SMALL_LABEL = "label has fewer than 2 documents"
    NOT_DRAWN = "not drawn: the label has more documents than are wanted"
    OTHER_LABEL = "evaluation text also stands under another label"
    LEAKED = "evaluation text also stands in its label's training documents"
    # Reasons of changes.
    CUT = "text cut at corpus.max_characters"
    FEWER_THAN_WANTED = (
        "label has fewer documents than are wanted: split in the ratio of train_per_label to eval_per_label"
    )


class Tally:
    """Counts of each reason, with the first few examples."""

    def __init__(self) -> None:
        self._counts: Counter[Reason] = Counter()
        self._examples: defaultdict[Reason, list[str]] = defaultdict(list)

    def add(self, reason: Reason, example: str, count: int = 1) -> None:
        self._counts[reason] += count
        if len(self._examples[reason]) < EXAMPLES:
            short = example if len(example) <= _EXAMPLE_CHARACTERS else example[: _EXAMPLE_CHARACTERS - 1] + "…"
            self._examples[reason].append(short)

    def drops(self) -> list[Drop]:
        """One entry per reason that occurred, in the order of `Reason`."""
        return [
            Drop(str(reason), self._counts[reason], self._examples[reason])
            for reason in Reason
            if reason in self._counts
        ]
