"""Words as searches compare them: whatever their case and width."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> str:
    """A text in compatibility form and without differences of case, as ＡＢＣ becomes abc."""
    return unicodedata.normalize("NFKC", text).casefold()
