"""Errors of bodies, from those of msgspec: the path of the field, its value, what is allowed there."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from tegakari.schemas.errors import BodyError

MAX_SHOWN = 80
"""Characters of a value in a message."""

_STEPS = re.compile(r"\[(\d+)\]|\[(\.\.\.)\]|\.?([^.\[\]]+)")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


class Place(NamedTuple):
    """A value in a body."""

    path: str
    """such as `features[0].layer`; empty: the body itself"""
    value: Any
    kind: inspect.Type
    """what the value should be"""


def body_error(body: Any, type_: type[msgspec.Struct], path: str, message: str) -> BodyError:
    """The error of a body that has another shape than its type.

    Args:
        body: decoded.
        type_: of the body.
        path: of the value at fault, such as `features[0].layer`; empty: the body itself.
        message: of msgspec.
    """
    place = _find(body, type_, path)
    prefix = f"{place.path}." if place.path else ""
    if match := _MISSING.fullmatch(message):
        kind = next((field.type for field in _fields(place.kind) if field.encode_name == match[1]), None)
        fix = f"add it: {_allowed(kind)}" if kind else "add it"
        return BodyError("the field is missing", field=prefix + match[1], fix=fix)
    if match := _UNKNOWN.fullmatch(message):
        names = ", ".join(field.encode_name for field in _fields(place.kind))
        return BodyError(f"unknown field {match[1]!r}", field=prefix + match[1], fix=f"known fields: {names}")
    value = msgspec.json.encode(place.value).decode()
    shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…"
    return BodyError(f"{shown} is not allowed: {message}", field=place.path or None, fix=f"use {_allowed(place.kind)}")


def _find(body: Any, type_: type[msgspec.Struct], path: str) -> Place:
    """The value at a path. msgspec leaves out keys of mappings (`[...]`): of these it is the first wrong value."""
    place = Place("", body, inspect.type_info(type_))
    for index, any_key, name in _STEPS.findall(path):
        kind = _variant(place.kind, list if index else dict)
        if index and isinstance(kind, inspect.ListType) and isinstance(place.value, list):
            place = Place(f"{place.path}[{index}]", place.value[int(index)], kind.item_type)
        elif any_key and isinstance(kind, inspect.DictType) and isinstance(place.value, dict):
            key = next((key for key, value in place.value.items() if not _fits(value, kind.value_type)), "")
            place = Place(f"{place.path}.{key}", place.value.get(key), kind.value_type)
        elif name and isinstance(kind, inspect.StructType) and isinstance(place.value, dict):
            field = next(field for field in kind.fields if field.encode_name == name)
            place = Place(f"{place.path}.{name}".lstrip("."), place.value.get(name), field.type)
    return place


def _variant(kind: inspect.Type, of_value: type) -> inspect.Type:
    """Of a type or a union the member that a list or an object can be, without its description."""
    wanted = inspect.ListType if of_value is list else (inspect.DictType, inspect.StructType)
    return next((member for member in _members(kind) if isinstance(member, wanted)), kind)


def _members(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Types that a value can have: those of a union, else one."""
    if isinstance(kind, inspect.Metadata):
        return _members(kind.type)
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _fits(value: Any, kind: inspect.Type) -> bool:
    names = {type(None): inspect.NoneType, bool: inspect.BoolType, str: inspect.StrType}
    names |= {int: (inspect.IntType, inspect.FloatType), float: inspect.FloatType}
    wanted = names.get(type(value))
    return wanted is not None and any(isinstance(member, wanted) for member in _members(kind))


def _fields(kind: inspect.Type) -> tuple[inspect.Field, ...]:
    struct = _variant(kind, dict)
    return struct.fields if isinstance(struct, inspect.StructType) else ()


def _allowed(kind: inspect.Type) -> str:  # noqa: PLR0911
    """What a value may be, in words."""
    match kind:
        case inspect.Metadata():
            return _allowed(kind.type)
        case inspect.UnionType():
            return " or ".join(_allowed(member) for member in kind.types)
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return f"one of: {', '.join(map(str, kind.values))}"
        case inspect.IntType():
            return f"an integer{_range(kind)}"
        case inspect.FloatType():
            return f"a number{_range(kind)}"
        case inspect.StrType():
            pattern = f" that matches {kind.pattern}" if kind.pattern else ""
            return f"a text{_length(kind, 'characters')}{pattern}"
        case inspect.ListType():
            return f"a list{_length(kind, 'items')}, each {_allowed(kind.item_type)}"
        case inspect.DictType():
            return f"an object, each value {_allowed(kind.value_type)}"
        case inspect.StructType():
            return f"an object with the fields {', '.join(field.encode_name for field in kind.fields)}"
    return "another value"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f" from {kind.ge:g}" if kind.ge is not None else f" above {kind.gt:g}" if kind.gt is not None else ""
    high = f" to {kind.le:.12g}" if kind.le is not None else f" below {kind.lt:.12g}" if kind.lt is not None else ""
    return low + high


def _length(kind: inspect.StrType | inspect.ListType, unit: str) -> str:
    match kind.min_length, kind.max_length:
        case None, None:
            return ""
        case low, None:
            return f" of {low:,} {unit} at least"
        case None, high:
            return f" of {high:,} {unit} at most"
        case low, high:
            return f" of {low:,} to {high:,} {unit}"
    return ""
