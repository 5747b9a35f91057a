"""Labels that are several labels in one text, which a classifier with one label per document would learn as one."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable

from tegakari.schemas.errors import CorpusError

_SEPARATORS = (";", "|", ",")
_FIX = (
    "keep the rows with one label and write it without the others; if it is one name, replace what separates its parts"
)


def check_single_labels(labels: Iterable[str]) -> None:
    """Refuse labels such as `['a', 'b']`, and `a;b` where `a` and `b` occur elsewhere as well.

    A comma is common in names: it separates labels only where all parts are labels of other documents.

    Args:
        labels: the distinct labels of a source.

    Raises:
        CorpusError: a label is several labels; names the first one.
    """
    names = sorted(labels)
    for label in names:
        if _is_printed_list(label):
            raise _several(label, "is a list that was written as text", len(names))
    whole = set(names)
    for separator in _SEPARATORS:
        parts = {label: _parts(label, separator) for label in names}
        counts = Counter(part for label in names for part in set(parts[label]))
        for label, split in parts.items():
            elsewhere = all(part in whole if separator == "," else counts[part] > 1 for part in split)
            if len(set(split)) > 1 and elsewhere:
                reason = f"is several labels: {' and '.join(map(repr, split))} occur in other labels as well"
                raise _several(label, reason, len(names))


def _parts(label: str, separator: str) -> list[str]:
    return [part.strip() for part in label.split(separator) if part.strip()]


def _is_printed_list(label: str) -> bool:
    if not (label.startswith("[") and label.endswith("]")):
        return False
    try:
        value = ast.literal_eval(label)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(value, list)


def _several(label: str, reason: str, labels: int) -> CorpusError:
    return CorpusError(
        f"label {label!r}, one of {labels:,}, {reason}; a document has one label here",
        field="corpus.label_column",
        fix=_FIX,
    )
