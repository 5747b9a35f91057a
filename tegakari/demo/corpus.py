"""Invented posts of Japanese online communities, with the clues that `communities` defines."""

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
"""Share of posts without unique or shared clues, whose label no reader could tell."""
ONLY_SHARED = 0.06
"""Share of posts with shared clues alone, whose label is one of two or three."""
LONG = 0.06
"""Share of long posts."""

_UNIQUE_CLUES: dict[Dependence, tuple[int, ...]] = {"single": (1,), "redundant": (3, 3, 4, 4, 5), "mixed": (1, 2, 2, 3)}
_SHARED_CLUES: dict[Dependence, tuple[int, ...]] = {"single": (0, 1, 2), "redundant": (0, 0, 1), "mixed": (0, 0, 1, 1)}
_REMARKS = (0, 1, 1, 2, 2)
_ZIPF = 0.6
"""Concepts and their forms are drawn in proportion to rank ** -_ZIPF, as words are: some clues are rare."""


class Post(NamedTuple):
    """One invented post."""

    id: str
    title: str
    body: str
    label: str


class _Clue(NamedTuple):
    form: str
    kind: Kind


def generate(seed: int, per_label: int, communities: Sequence[Community] = COMMUNITIES) -> list[Post]:
    """Draw `per_label` posts for every community, in random order; equal arguments give equal posts.

    No two posts of one community have the same text; posts without a unique clue may repeat across communities.
    """
    posts: list[tuple[str, str, str]] = []  # title, body, label
    for community in communities:
        rng = Random(f"{seed}/{community.label}")
        texts: set[tuple[str, str]] = set()
        while len(texts) < per_label:
            post = _draw_post(rng, community)
            if post not in texts:
                texts.add(post)
                posts.append((*post, community.label))
    Random(f"{seed}").shuffle(posts)
    return [Post(f"post-{number:05d}", *post) for number, post in enumerate(posts)]


def write_posts(path: Path, posts: Iterable[Post]) -> None:
    """Write posts as JSONL with the keys id, title, body, label; the file is complete or absent."""
    write_atomically(path, msgspec.json.Encoder().encode_lines([post._asdict() for post in posts]))


def _draw_post(rng: Random, community: Community) -> tuple[str, str]:
    """Title and body of one post."""
    style = rng.choices(STYLES, STYLE_WEIGHTS)[0]
    clues = _draw_clues(rng, community)
    long = rng.random() < LONG
    title = _title(rng, clues)
    sentences = _clue_sentences(rng, style, clues)
    remarks = rng.choice(_REMARKS) + (rng.randint(4, 8) if long else 0)
    sentences += rng.sample(style.remarks, max(remarks, 0 if sentences else 1))
    rng.shuffle(sentences)
    if rng.random() < 0.5:
        sentences.insert(0, rng.choice(style.openings))
    if rng.random() < 0.5:
        sentences.append(rng.choice(style.closings))
    separator = "\n" if long or rng.random() < 0.2 else ""
    body = separator.join(_fill(rng, sentence) for sentence in sentences)
    return _fill(rng, title), _decorate(rng, body)


def _draw_clues(rng: Random, community: Community) -> list[_Clue]:
    """Clues of one post, in random order."""
    kind = rng.random()
    if kind < NO_CLUE:
        return []
    shared = _by_rank(rng, shared_by(community.label), rng.choice(_SHARED_CLUES[community.dependence]))
    if kind < NO_CLUE + ONLY_SHARED:
        unique, shared = [], shared or _by_rank(rng, shared_by(community.label), 1)
    else:
        unique = _by_rank(rng, community.unique, rng.choice(_UNIQUE_CLUES[community.dependence]))
    clues = [_Clue(_by_rank(rng, concept.forms, 1)[0], concept.kind) for concept in (*unique, *shared)]
    rng.shuffle(clues)
    return clues


def _by_rank(rng: Random, items: Sequence[T], count: int) -> list[T]:
    """Draw different items, earlier ones more often."""
    remaining = list(items)
    draws = []
    for _ in range(min(count, len(remaining))):
        draws.append(rng.choices(remaining, [(rank + 1) ** -_ZIPF for rank in range(len(remaining))])[0])
        remaining.remove(draws[-1])
    return draws


def _title(rng: Random, clues: list[_Clue]) -> str:
    """Title of a post. Half of the time, the clues it contains are removed from `clues`, and so from the body."""
    if not clues or rng.random() < 0.4:
        return rng.choice(TITLES)
    pattern = rng.choice([title for title in TITLES_WITH_CLUE if _clue_slots(title) <= len(clues)])
    title_clues = clues[: _clue_slots(pattern)]
    if rng.random() < 0.5:
        del clues[: len(title_clues)]
    return _insert_clues(pattern, title_clues)


def _clue_sentences(rng: Random, style: Style, clues: Sequence[_Clue]) -> list[str]:
    """Sentences with one, two or three clues each, until all clues are used."""
    sentences = []
    remaining = list(clues)
    while remaining:
        group = remaining[: min(rng.choice((1, 1, 1, 2, 3)), len(remaining))]
        del remaining[: len(group)]
        of_kind = style.of_thing if group[0].kind == "thing" else style.of_act
        patterns = {1: (*style.about, *of_kind), 2: style.of_two, 3: style.of_three}[len(group)]
        sentences.append(_insert_clues(rng.choice(patterns), group))
    return sentences


def _clue_slots(pattern: str) -> int:
    """Number of clues that a pattern takes."""
    return sum(slot in pattern for slot in ("{x}", "{y}", "{z}"))


def _insert_clues(pattern: str, clues: Sequence[_Clue]) -> str:
    for slot, clue in zip(("{x}", "{y}", "{z}"), clues, strict=False):
        pattern = pattern.replace(slot, clue.form)
    return pattern


def _fill(rng: Random, pattern: str) -> str:
    """Fill the slots of neutral concepts with random forms."""
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(NEUTRAL[slot[1]]), pattern)


def _decorate(rng: Random, body: str) -> str:
    """Add emoji to some bodies, and write ASCII punctuation in others."""
    if rng.random() < 0.25:
        body += _by_rank(rng, EMOJI, 1)[0] * rng.choice((1, 1, 2))
    if rng.random() < 0.1:
        body = body.replace("！", "!").replace("？", "?")
    return body
