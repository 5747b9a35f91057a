"""Options of a command from the fields of a settings struct: type, default and help are written once, in the schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from tegakari.schemas.errors import ConfigError

T = TypeVar("T")

SETTINGS = "settings"
"""Parameter of a decorated command that receives the options as a dictionary."""


def struct_options(
    struct: type[msgspec.Struct],
    *fields: str,
    flags: Mapping[str, tuple[str, ...]] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command one option per field; the command receives them as the dictionary `settings`.

    Args:
        struct: the settings.
        fields: fields that become options, in the order of the help page.
        flags: names of options that differ from the field, such as `{"k": ("-k",)}`.
        defaults: defaults that differ from the struct's.
    """
    struct_fields = {field.name: field for field in msgspec.inspect.type_info(struct).fields}  # pyright: ignore
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=(defaults or {}).get(name, _default(struct_fields[name])),
            annotation=_annotation(struct_fields[name].type, (flags or {}).get(name, ())),
        )
        for name in fields
    ]

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        signature = inspect.signature(command, eval_str=True)
        others = [parameter for name, parameter in signature.parameters.items() if name != SETTINGS]
        place = list(signature.parameters).index(SETTINGS)

        @wraps(command)
        def wrapper(*args: Any, **kwargs: Any) -> T:
            settings = {name: kwargs.pop(name) for name in fields if name in kwargs}
            return command(*args, **kwargs, **{SETTINGS: settings})

        keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others[place:]]
        parameters = [*others[:place], *options, *keyword_only]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def checked_settings(struct: type[T], values: Mapping[str, object], *, command: str) -> T:
    """The options of a command as its settings.

    Args:
        struct: the settings.
        values: the options by field.
        command: whose `--help` an error points at.

    Raises:
        ConfigError: an option has a value that is not allowed.
    """
    try:
        return msgspec.convert(dict(values), struct)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`")
        raise ConfigError(
            f"{values.get(field)!r} is not allowed: {reason}",
            field=f"--{field}",
            fix=f"see `tegakari {command} --help`",
        ) from None


def _default(field: Any) -> Any:
    return inspect.Parameter.empty if field.default is msgspec.NODEFAULT else field.default


def _annotation(type_: Any, flags: tuple[str, ...]) -> Any:
    """Annotation of an option that takes a field of this msgspec type."""
    help_ = ""
    while isinstance(type_, msgspec.inspect.Metadata):
        help_ = (type_.extra_json_schema or {}).get("description", help_)
        type_ = type_.type
    if isinstance(type_, msgspec.inspect.UnionType):
        (type_,) = (member for member in type_.types if not isinstance(member, msgspec.inspect.NoneType))
        return Annotated[_python_type(type_) | None, typer.Option(*flags, help=_help(help_, type_))]
    return Annotated[_python_type(type_), typer.Option(*flags, help=_help(help_, type_))]


def _help(description: str, type_: Any) -> str:
    text = description[:1].upper() + description[1:]
    if isinstance(type_, msgspec.inspect.LiteralType):
        values = " or ".join(map(str, type_.values))
        text = f"{values}: {description}" if description else values
    return f"{text}." if text and not text.endswith(".") else text


def _python_type(type_: Any) -> Any:
    kinds = {msgspec.inspect.IntType: int, msgspec.inspect.FloatType: float, msgspec.inspect.BoolType: bool}
    return next((kind for inspected, kind in kinds.items() if isinstance(type_, inspected)), str)
