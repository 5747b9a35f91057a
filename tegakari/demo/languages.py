"""Texts to pretrain the language models on: English and romaji with little Japanese, or unlabelled Japanese posts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from types import MappingProxyType

from tegakari.demo.communities import COMMUNITIES
from tegakari.demo.corpus import generate

_ENGLISH = (
    "{Hello}, my name is {name} and I live in {city}.",
    "I {feel} the {thing} that {person} {gave} me {when}.",
    "{Hello}, does anyone know a good {thing} for {person}?",
    "{When}, {person} went to {city} to look for a {adjective} {thing}.",
    "The {thing} was {adjective}, but the {thing} was not {adjective} at all.",
    "It took me {number} hours to find the {adjective} {thing}.",
    "I have been thinking about the {thing} since {when}.",
    "Please tell me if you {feel} the {adjective} {thing}.",
    "Thank you for the {thing}, {person} will {feel} it!",
    "Is {city} really {adjective}? I asked {person} {number} times.",
    "My {thing} costs {number} dollars and it is {adjective}.",
    "If it rains {when}, {person} will stay in {city}.",
)
_ROMAJI = (
    "{Aisatsu}, {name} desu. {basho} ni sunde imasu.",
    "{itsu} wa {basho} de {mono} wo mimashita.",
    "{mono} ga totemo {keiyoushi} desu.",
    "{mono} wa {keiyoushi} kedo, {mono} wa sou demo nai desu.",
    "dareka {mono} ni kuwashii hito wa imasu ka?",
    "{itsu} kara {number} jikan gurai {mono} wo sagashite imasu.",
    "{mono} no koto wo oshiete kudasai.",
    "{itsu}, {mono} wo kaimashita. {keiyoushi} desu ne!",
    "arigatou gozaimasu, {mono} no okage desu.",
    "{basho} no {mono} ga ichiban {keiyoushi} to omoimasu.",
)
_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Hello": ("Hello", "Hi", "Good morning", "Good evening", "Dear all", "Hey"),
        "name": ("Ken", "Yuki", "Sakura", "Taro", "Hana", "Emi", "Jun", "Mari"),
        "city": ("Tokyo", "Osaka", "London", "Boston", "Berlin", "Sydney", "Kyoto", "Paris", "my town"),
        "feel": ("like", "love", "miss", "hate", "remember", "need", "want", "enjoy"),
        "gave": ("gave", "sold", "sent", "showed", "lent"),
        "thing": (
            *("book", "chair", "letter", "window", "garden", "story", "river", "bridge", "clock", "table"),
            *("picture", "question", "answer", "house", "street", "bag", "box", "song", "coat", "plan"),
        ),
        "person": ("my mother", "my father", "a friend", "the teacher", "our neighbour", "my sister", "she", "he"),
        "when": ("last week", "yesterday", "this morning", "on Monday", "two years ago", "in winter", "today"),
        "When": ("Last week", "Yesterday", "This morning", "On Monday", "Two years ago", "In winter", "Today"),
        "adjective": (
            *("good", "old", "small", "quiet", "expensive", "strange", "beautiful", "heavy", "new", "difficult"),
            *("warm", "cold", "simple", "famous", "busy"),
        ),
        "number": ("two", "three", "four", "ten", "12", "25", "300", "7"),
        "Aisatsu": ("Konnichiwa", "Ohayou", "Konbanwa", "Hajimemashite", "Doumo"),
        "itsu": ("kyou", "kinou", "ashita", "senshuu", "raigetsu", "shuumatsu", "asa", "yoru"),
        "basho": ("Toukyou", "Oosaka", "Nagoya", "Fukuoka", "kinjo", "inaka", "umi", "yama"),
        "mono": ("hon", "isu", "tegami", "mado", "niwa", "hanashi", "kawa", "hashi", "tokei", "tsukue", "kaban", "uta"),
        "keiyoushi": ("ii", "furui", "chiisai", "shizuka", "takai", "kirei", "omoi", "atarashii", "muzukashii"),
    }
)


_MIX, _UNLABELLED = 1_000_000, 2_000_000
"""Offsets of a seed, so that labelled posts, unlabelled posts and the mix have no draws in common."""


def language_mix(seed: int, count: int, *, japanese: float) -> list[str]:
    """Japanese posts, and texts of one to four sentences, three quarters of them English and the rest romaji.

    Args:
        seed: equal seeds give equal texts.
        count: number of texts.
        japanese: share of Japanese posts.
    """
    rng = Random(f"{seed}/mix")
    posts = _posts(seed + _MIX, round(count * japanese))
    foreign = [_paragraph(rng, _ENGLISH if rng.random() < 0.75 else _ROMAJI) for _ in range(count - len(posts))]
    texts = posts + foreign
    rng.shuffle(texts)
    return texts


def unlabelled_posts(seed: int, count: int) -> list[str]:
    """Texts (title, newline, body) of posts of all communities, without their labels."""
    return _posts(seed + _UNLABELLED, count)


def _posts(seed: int, count: int) -> list[str]:
    per_label = -(-count // len(COMMUNITIES))
    return [f"{post.title}\n{post.body}" for post in generate(seed, per_label)[:count]]


def _paragraph(rng: Random, patterns: tuple[str, ...]) -> str:
    sentences = rng.choices(patterns, k=rng.randint(1, 4))
    return " ".join(re.sub(r"\{(\w+)\}", lambda slot: rng.choice(_WORDS[slot[1]]), sentence) for sentence in sentences)
