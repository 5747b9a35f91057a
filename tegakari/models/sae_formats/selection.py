"""Choice of one SAE per layer among several: the terms of `saes.select`, and the choices that an error lists.

A term is one of

- a glob over names of the path, such as `width_16k/average_l0_71` or `resid_post_all/*_width_16k_l0_small`; one that
  begins with `/` is of the whole path;
- `KEY=VALUE`: the path has VALUE after KEY, as `width=16k` in `layer_9_width_16k_l0_small`;
- several of these, separated by `|`: one of them holds;
- `KEY~NUMBER`: of each layer, the SAE whose number after KEY is nearest, as `l0~70`; the smaller one of two.

All terms must hold.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from tegakari.schemas.errors import SaeError

FIELD = "saes.select"

LayerOf = Callable[[str], int | None]
"""Layer that the path of an SAE names; None: none."""

_NEAREST = re.compile(r"^(\w+)~(\d+(?:\.\d+)?)([km]?)$", re.IGNORECASE)
_EQUAL = re.compile(r"^(\w+)=([^=/*?\[|]+)$")
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
_LISTED = 12
"""Choices that an error lists at most."""


def select(names: Sequence[str], selector: str, layer_of: LayerOf) -> list[str]:
    """The SAEs that a selector chooses, in their order.

    Args:
        names: paths of the SAEs, relative to the directory of the set.
        selector: terms separated by spaces; empty: all SAEs.
        layer_of: layer that a path names.

    Raises:
        SaeError: a term matches no SAE.
    """
    chosen = list(names)
    terms = selector.split()
    for term in terms:
        nearest = _NEAREST.match(term)
        if nearest is None:
            matching = [name for name in chosen if _matches(name, term)]
            if chosen and not matching:
                raise _no_match(term, names, chosen, layer_of)
            chosen = matching
    for term in terms:
        if nearest := _NEAREST.match(term):
            target = float(nearest[2]) * _UNITS[nearest[3].lower()]
            matching = _nearest(chosen, nearest[1], target, layer_of)
            if chosen and not matching:
                raise _no_match(term, names, chosen, layer_of)
            chosen = matching
    return chosen


def matches(name: str, selector: str) -> bool:
    """Whether a path satisfies all terms of a selector that do not compare SAEs."""
    return all(_matches(name, term) for term in selector.split() if not _NEAREST.match(term))


def exactly(names: Sequence[str]) -> str:
    """The selector of these SAEs and no others."""
    return "|".join(f"/{_term(name)}" for name in names)


def _matches(name: str, term: str) -> bool:
    return any(_matches_one(name, alternative) for alternative in term.split("|"))


def _matches_one(name: str, term: str) -> bool:
    equal = _EQUAL.match(term)
    if equal:
        return _after(name, equal[1], re.escape(equal[2])) is not None
    parts, patterns = name.split("/"), term.strip("/").split("/")
    starts = range(len(parts) - len(patterns) + 1)
    if term.startswith("/"):
        starts = range(1) if len(parts) == len(patterns) else range(0)
    return any(
        all(
            fnmatchcase(part, pattern)
            for part, pattern in zip(parts[start : start + len(patterns)], patterns, strict=True)
        )
        for start in starts
    )


def _after(name: str, key: str, value: str) -> re.Match[str] | None:
    """The value after a key in a path: `width_16k`, `width-16k` and `width16k` have 16k after width."""
    return re.search(rf"(?:^|[/_.-]){re.escape(key)}[_=-]?({value})(?=$|[/_-]|\.(?!\d))", name, re.IGNORECASE)


def _nearest(names: Sequence[str], key: str, target: float, layer_of: LayerOf) -> list[str]:
    candidates: dict[int | None, list[tuple[float, float, str]]] = defaultdict(list)
    for name in names:
        if match := _after(name, key, r"\d+(?:\.\d+)?[km]?"):
            unit = _UNITS.get(match[1][-1].lower())
            number = float(match[1][:-1]) * unit if unit else float(match[1])
            candidates[layer_of(name)].append((abs(number - target), number, name))
    chosen = {name for of_layer in candidates.values() for distance, number, name in of_layer if
              (distance, number) == min(of_layer)[:2]}  # fmt: skip
    return [name for name in names if name in chosen]


def _no_match(term: str, names: Sequence[str], chosen: Sequence[str], layer_of: LayerOf) -> SaeError:
    among = f"the {len(chosen)} SAEs that the other terms choose" if len(chosen) < len(names) else f"{len(names)} SAEs"
    return SaeError(
        f"{term!r} matches none of {among}", field=FIELD, fix=f"use one of:\n{listed(choices(names, layer_of))}"
    )


def several(layer: int, of_layer: Sequence[str], names: Sequence[str], layer_of: LayerOf) -> SaeError:
    """Error for several SAEs of a layer, with selectors that can be pasted.

    Args:
        layer: the layer.
        of_layer: its SAEs.
        names: all SAEs of the set.
        layer_of: layer that a path names.
    """
    return SaeError(
        f"{', '.join(of_layer[:-1])} and {of_layer[-1]} are both of layer {layer}",
        field=FIELD,
        fix=f"choose one SAE per layer, in [saes] of tegakari.toml:\n{listed(choices(names, layer_of))}",
    )


def listed(selectors: Sequence[str]) -> str:
    """Lines of a configuration file, one per selector."""
    lines = [f'select = "{selector}"' for selector in selectors[:_LISTED]]
    return "\n".join([*lines, *([f"({len(selectors) - _LISTED} more)"] if len(selectors) > _LISTED else [])])


def choices(names: Sequence[str], layer_of: LayerOf) -> list[str]:
    """Selectors that choose at most one SAE per layer, those of most layers first: at least one for every SAE."""
    layers_of: dict[str, int] = {}
    for name in names:
        for selector in (_every_layer(name, layer_of(name)), _nearest_l0(name, layer_of(name))):
            if selector and selector not in layers_of:
                chosen = [layer_of(choice) for choice in select(names, selector, layer_of)]
                layers_of[selector] = len(chosen) if len(chosen) == len(set(chosen)) else 0
            if selector and layers_of[selector] > 1:
                break
        else:
            layers_of[_term(name)] = 1
    return sorted((selector for selector, count in layers_of.items() if count), key=lambda item: -layers_of[item])


def _term(name: str) -> str:
    """The path of an SAE as a term: characters of terms and globs match any character."""
    return re.sub(r"[\s*?\[\]=~|]", "?", name)


def _every_layer(name: str, layer: int | None) -> str:
    """The path of an SAE with `*` for its layer; empty: the path does not name it."""
    if layer is None:
        return ""
    pattern = rf"((?:^|[/._-])(?:blocks|layers?|h|L)[._=-]?)0*{layer}(?!\d)"
    generalised, count = re.subn(pattern, r"\1\0", _term(name), count=1, flags=re.IGNORECASE)
    return generalised.replace("\0", "*") if count else ""


def _nearest_l0(name: str, layer: int | None) -> str:
    """The path with `*` for its layer and its L0, and the term for that L0; empty: it has no numeric L0."""
    every = _every_layer(name, layer)
    match = re.search(r"((?:average_)?l0[_=-])(\d+)(?=$|[/_-])", every)
    return f"{every[: match.start(2)]}*{every[match.end(2) :]} l0~{match[2]}" if match else ""
