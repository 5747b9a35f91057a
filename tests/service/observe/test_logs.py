"""The log has one line per event, without characters that control a terminal, and without values of variables."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tegakari.service.observe.logs import set_up_logs
from tests.support.fuzzing import drawn

SECRET = "tgk_00000000_a-key-in-a-variable"


@pytest.fixture(autouse=True)
def _restored_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def fail_with_a_key(headers: dict[str, str], message: str) -> None:
    key = headers["authorization"]
    raise ValueError(f"{message} {len(key)}")


def logged(capsys: pytest.CaptureFixture[str], form: str, text: str) -> str:
    set_up_logs(form)  # type: ignore[arg-type]
    try:
        fail_with_a_key({"authorization": SECRET}, text)
    except ValueError as error:
        structlog.get_logger().error("unhandled", path=text, exc_info=error)
    return capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
def test_texts_of_others_forge_no_line_and_control_no_terminal(capsys: pytest.CaptureFixture[str], form: str):
    @drawn(60)
    @given(
        st.one_of(
            st.text(max_size=20),
            st.text('\r\n\x00\x07\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066" =\\ab', max_size=10),
        )
    )
    def check(text: str) -> None:
        written = logged(capsys, form, text)
        assert written.endswith("\n")
        line = written[:-1]
        assert line.splitlines() in ([line], []), "more than one line"
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
        assert not set("\u202e\u2066") & set(line)
        if form == "json":
            assert json.loads(line)["path"] == text

    check()


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_values_of_variables_are_not_logged(capsys: pytest.CaptureFixture[str], form: str):
    written = logged(capsys, form, "a failure")
    assert "fail_with_a_key" in written, "where it failed is in the log"
    assert SECRET not in written
