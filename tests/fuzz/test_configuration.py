"""Drawn tegakari.toml: an error that names file, key or line, or a configuration that can be written and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tegakari.schemas.config import Config, load_config
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import ConfigError
from tests.support.fuzzing import TEXTS, changed_bytes, drawn

SECTIONS = {
    section.name: sorted(get_type_hints(type(getattr(Config(), section.name))))
    for section in msgspec.structs.fields(Config)
}

HONEST = render_config(Config()).encode()

NUMBERS = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([2**31, 2**63, 2**64, 10**40, 65_536]).map(str),
    st.sampled_from(
        ["nan", "inf", "-inf", "1e999", "0x10", "0o7", "1_000", "1979-05-27", "07:32:00", "-0.0", "1e-320"]
    ),
).map(str)

VALUES = st.recursive(
    st.one_of(st.sampled_from(["true", "false"]), NUMBERS, TEXTS.map(lambda text: json.dumps(text, ensure_ascii=True))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"k{n} = {v}" for n, v in enumerate(items)) + "}"
        ),
    ),
    max_leaves=4,
)
"""Values as TOML spells them, and some that it does not."""

KEYS = st.one_of(
    st.sampled_from(["", "a.b", "a b", "ſtore", "store ", "__class__", "store\n", "[", "`", "0"]).map(json.dumps),
    TEXTS.map(json.dumps),
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A file with one or two drawn keys, known or not."""
    lines = []
    for _ in range(draw(st.integers(1, 2))):
        section = draw(st.one_of(st.sampled_from(sorted(SECTIONS)), KEYS))
        key = draw(st.one_of(st.sampled_from(SECTIONS.get(section, ["x"])), KEYS))
        lines.append(f"[{section}]\n{key} = {draw(VALUES)}\n")
    return "".join(lines).encode("utf-8", "surrogatepass")


def check_file(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    failure = None
    try:
        config = load_config(file)
    except ConfigError as error:
        failure = error
    if failure:
        assert failure.message
        assert failure.field or str(file) in failure.message, failure
        return
    again = file.with_name("again.toml")
    again.write_text(render_config(config), encoding="utf-8")
    assert load_config(again) == config


@drawn(400)
@given(content=documents())
def test_drawn_values_of_keys(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    check_file(tmp_path_factory.getbasetemp() / "tegakari.toml", content)


@drawn(150)
@given(content=st.one_of(changed_bytes(HONEST), st.binary(max_size=50), st.text(max_size=50).map(str.encode)))
def test_drawn_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    check_file(tmp_path_factory.getbasetemp() / "bytes.toml", content)


@pytest.mark.parametrize(
    "content",
    [
        "x = " + "[" * 50_000,
        "x = " + "{a=" * 50_000,
        "[" + ".".join("a" * 5000) + "]\nx = 1",
        "[saes]\nlayers = " + "[" * 5000 + "]" * 5000,
        "[corpus]\nseed = " + "9" * 5000,
    ],
    ids=range(5),
)
def test_deep_and_long_documents_are_refused(tmp_path: Path, content: str):
    file = tmp_path / "tegakari.toml"
    file.write_text(content)
    with pytest.raises(ConfigError):
        load_config(file)


def test_every_key_refuses_a_value_of_another_kind(tmp_path: Path):
    file = tmp_path / "tegakari.toml"
    values: dict[type, Any] = {str: "[1]", int: '"x"', float: '"x"', bool: "3", list: "3"}
    for section, keys in SECTIONS.items():
        for key in keys:
            value = values[type(getattr(getattr(Config(), section), key))]
            file.write_text(f"[{section}]\n{key} = {value}\n")
            with pytest.raises(ConfigError) as raised:
                load_config(file)
            assert raised.value.field == f"{section}.{key}" or str(raised.value.field).startswith(f"{section}.{key}[")
