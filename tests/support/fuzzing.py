"""Drawn tests: the same examples in every `make test`, more and other ones in `make soak`; and hostile JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.support.soak_length import SOAK

SOAK_FACTOR = 20
"""Examples of `make soak` per example of `make test`."""

Json = Any


def drawn(examples: int) -> Callable[[Any], Any]:
    """Decorator of a drawn test, without limits of time.

    Args:
        examples: in `make test`, where they are always the same.
    """
    return settings(
        max_examples=examples * (SOAK_FACTOR if SOAK else 1),
        derandomize=not SOAK,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.sampled_from([2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**40]),
    st.floats(allow_nan=False, allow_infinity=False),
)
"""Numbers that JSON can spell, at and beyond the bounds of machine types."""

TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\0", "..", "../../etc/passwd", "/", "\\", "a\nb", "\x1b[2J", "e\u0301", "\u00e9", "%2F"]
    ),
    st.sampled_from(["null", "NaN", "-Infinity", "1e999", "0x10", "١", "５", "\u202e", "\ufeff", "𐏿", "a" * 3000]),
)
"""Texts that confuse parsers, paths, terminals and comparisons."""

VALUES: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
"""Any JSON."""

NESTED = st.builds(
    lambda opening, depth: opening * depth, st.sampled_from(["[", '{"a":', '["x",']), st.integers(1, 5000)
)
"""JSON that never ends."""


@st.composite
def changed(draw: st.DrawFn, document: Json) -> Json:
    """A JSON document with one or two changes: a value replaced, removed or repeated, a key added."""
    copy = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(copy))
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat", "add"]))
        if change == "remove":
            del container[key]
        elif change == "repeat" and isinstance(container, list):
            container.append(container[key])
        elif change == "add" and isinstance(container, dict):
            container[draw(TEXTS)] = draw(VALUES)
        else:
            container[key] = draw(VALUES)
        if not list(_places(copy)):
            break
    return copy


def _places(value: Json) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value below a document."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes cut, or with some of them replaced or inserted."""
    changes = draw(st.integers(1, 3))
    for _ in range(changes):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        piece = draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff", b"\0", b'"', b"\xed\xa0\x80", b"{"])))
        match draw(st.sampled_from(["cut", "replace", "insert"])):
            case "cut":
                content = content[:at]
            case "replace":
                content = content[:at] + piece + content[at + len(piece) :]
            case _:
                content = content[:at] + piece + content[at:]
    return content
