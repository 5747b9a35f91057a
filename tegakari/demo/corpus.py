"""Invented posts of Japanese online communities, with clues planted where `communities` says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

import msgspec

from tegakari.demo.communities import COMMUNITIES, Community, Dependence, Kind, shared_by
from tegakari.demo.styles import STYLE_WEIGHTS, STYLES, Style
from tegakari.demo.vocabulary import EMOJI, NEUTRAL, TITLES, TITLES_WITH_CLUE
from tegakari.store.disk.durable import write_atomically

T = TypeVar("T")

NO_CLUE = 0.02
"""share of posts that no reader could place: neither unique nor shared clues."""
ONLY_SHARED = 0.06
"""share of posts that two or three communities could claim."""
LONG = 0.06
"""share of posts that ramble."""

_UNIQUE_CLUES: dict[Dependence, tuple[int, ...]] = {"single": (1,), "redundant": (3, 3, 4, 4, 5), "mixed": (1, 2, 2, 3)}
_SHARED_CLUES: dict[Dependence, tuple[int, ...]] = {"single": (0, 1, 2), "redundant": (0, 0, 1), "mixed": (0, 0, 1, 1)}
_REMARKS = (0, 1, 1, 2, 2)
_ZIPF = 0.6
"""Concepts and their forms are used in proportion to rank ** -_ZIPF: some clues are rare, as in life."""


class Post(NamedTuple):
    """One invented post."""

    id: str
    title: str
    body: str
    label: str


class _Clue(NamedTuple):
    form: str
    kind: Kind


def generate(seed: int, per_label: int) -> list[Post]:
    """Write `per_label` posts for every community, in random order; equal arguments give equal posts.

    No two posts of one community have the same text; posts without a unique clue may be alike across communities.
    """
    posts: list[tuple[str, str, str]] = []
    for community in COMMUNITIES:
        rng = Random(f"{seed}/{community.label}")
        seen: set[tuple[str, str]] = set()
        while len(seen) < per_label:
            post = _write(rng, community)
            if post not in seen:
                seen.add(post)
                posts.append((*post, community.label))
    Random(f"{seed}").shuffle(posts)
    return [Post(f"post-{number:05d}", *post) for number, post in enumerate(posts)]


def write_posts(path: Path, posts: Iterable[Post]) -> None:
    """Write posts as JSONL with the keys id, title, body, label; the file is whole or absent."""
    write_atomically(path, msgspec.json.Encoder().encode_lines([post._asdict() for post in posts]))


def _write(rng: Random, community: Community) -> tuple[str, str]:
    """Title and body of one post."""
    style = rng.choices(STYLES, STYLE_WEIGHTS)[0]
    clues = _draw_clues(rng, community)
    rambling = rng.random() < LONG
    title = _title(rng, clues)
    sentences = _clue_sentences(rng, style, clues)
    remarks = rng.choice(_REMARKS) + (rng.randint(4, 8) if rambling else 0)
    sentences += rng.sample(style.remarks, max(remarks, 0 if sentences else 1))
    rng.shuffle(sentences)
    if rng.random() < 0.5:
        sentences.insert(0, rng.choice(style.openings))
    if rng.random() < 0.5:
        sentences.append(rng.choice(style.closings))
    separator = "\n" if rambling or rng.random() < 0.2 else ""
    body = separator.join(_fill(rng, sentence) for sentence in sentences)
    return _fill(rng, title), _decorate(rng, body)


def _draw_clues(rng: Random, community: Community) -> list[_Clue]:
    kept = rng.random()
    if kept < NO_CLUE:
        return []
    shared = _by_rank(rng, shared_by(community.label), rng.choice(_SHARED_CLUES[community.dependence]))
    if kept < NO_CLUE + ONLY_SHARED:
        unique, shared = [], shared or _by_rank(rng, shared_by(community.label), 1)
    else:
        unique = _by_rank(rng, community.unique, rng.choice(_UNIQUE_CLUES[community.dependence]))
    clues = [_Clue(_by_rank(rng, concept.forms, 1)[0], concept.kind) for concept in (*unique, *shared)]
    rng.shuffle(clues)
    return clues


def _by_rank(rng: Random, items: Sequence[T], count: int) -> list[T]:
    """Draw different items, earlier ones more often."""
    left = list(items)
    drawn = []
    for _ in range(min(count, len(left))):
        drawn.append(rng.choices(left, [(rank + 1) ** -_ZIPF for rank in range(len(left))])[0])
        left.remove(drawn[-1])
    return drawn


def _title(rng: Random, clues: list[_Clue]) -> str:
    """A title; a clue that it takes is, half of the time, not said again in the body."""
    if not clues or rng.random() < 0.4:
        return rng.choice(TITLES)
    pattern = rng.choice([title for title in TITLES_WITH_CLUE if _takes(title) <= len(clues)])
    taken = clues[: _takes(pattern)]
    if rng.random() < 0.5:
        del clues[: len(taken)]
    return _place(pattern, taken)


def _clue_sentences(rng: Random, style: Style, clues: Sequence[_Clue]) -> list[str]:
    """One, two or three clues a sentence, until all are said."""
    sentences = []
    left = list(clues)
    while left:
        group = left[: min(rng.choice((1, 1, 1, 2, 3)), len(left))]
        del left[: len(group)]
        of_kind = style.of_thing if group[0].kind == "thing" else style.of_act
        patterns = {1: (*style.about, *of_kind), 2: style.of_two, 3: style.of_three}[len(group)]
        sentences.append(_place(rng.choice(patterns), group))
    return sentences


def _takes(pattern: str) -> int:
    return sum(slot in pattern for slot in ("{x}", "{y}", "{z}"))


def _place(pattern: str, clues: Sequence[_Clue]) -> str:
    for slot, clue in zip(("{x}", "{y}", "{z}"), clues, strict=False):
        pattern = pattern.replace(slot, clue.form)
    return pattern


def _fill(rng: Random, pattern: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(NEUTRAL[slot[1]]), pattern)


def _decorate(rng: Random, body: str) -> str:
    """Emoji, and the habits of keyboards."""
    if rng.random() < 0.25:
        body += _by_rank(rng, EMOJI, 1)[0] * rng.choice((1, 1, 2))
    if rng.random() < 0.1:
        body = body.replace("！", "!").replace("？", "?")
    return body
