"""Notes that people write on features: a star, tags and a text, one note per feature and author."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

MAX_TEXT = 10_000
MAX_TAGS = 20
MAX_TAG = 40
MAX_AUTHOR = 100
"""Characters, and number of tags."""

NOTE_FORMAT = 1
"""Version of the files of notes."""

Author = Annotated[
    str, Meta(min_length=1, max_length=MAX_AUTHOR, description="name, without line breaks and without spaces around it")
]
Tag = Annotated[
    str, Meta(min_length=1, max_length=MAX_TAG, description="tag, without commas, line breaks and spaces around it")
]
Tags = Annotated[list[Tag], Meta(max_length=MAX_TAGS)]
NoteText = Annotated[str, Meta(max_length=MAX_TEXT)]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The note of one author on a feature."""

    layer: Annotated[int, Meta(ge=0)]
    feature: Annotated[int, Meta(ge=0)]
    author: Author
    starred: bool = False
    tags: Tags = []
    """in the order in which they were given, each once"""
    text: NoteText = ""
    created: str
    """ISO 8601, UTC"""
    updated: str
    """ISO 8601, UTC: the last change"""

    @property
    def empty(self) -> bool:
        """Whether there is neither a star nor a tag nor a text."""
        return not (self.starred or self.tags or self.text)


class NoteChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of a note; what is left out or null stays as it is."""

    starred: bool | None = None
    """whether the feature has a star"""
    tags: Tags | None = None
    """all tags of the note"""
    text: NoteText | None = None
    """text of the note; empty = none"""
    author: Author | None = None
    """null = the name of the API key, where the service has keys"""


class StoredNote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Content of the file of a note."""

    format: int
    run: str
    fingerprint: str
    """of the run"""
    note: Note


class NoteFilters(TypedDict, total=False):
    """Which notes of a run are listed; None: no filter."""

    layer: int | None
    """only notes on features of this layer"""
    feature: int | None
    """only notes on features of this number"""
    tag: str | None
    """only notes with this tag"""
    starred: bool | None
    """only notes with a star (false: without)"""
    author: str | None
    """only notes of this author"""
    q: str | None
    """only notes with all these words in text or tags, whatever their case and width"""
