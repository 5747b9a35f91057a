"""JSON of others: one error for whatever is wrong with it."""

from __future__ import annotations

import msgspec
import pytest

from tegakari.schemas.decoding import decode_json


class Document(msgspec.Struct):
    size: int = 0
    rest: msgspec.Raw = msgspec.Raw(b"null")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b'{"size": "x"}',
        b'{"size": 1e999}',
        b'{"size": NaN}',
        b'{"size": ' + b"9" * 5000 + b"}",
        b'{"rest": "\xff"}',
        b'{"rest": "\xed\xa0\x80"}',
        b'{"other": "\xff"}',
        b'{"rest": ' + b"[" * 100_000,
        b'{"other": ' + b'{"a":' * 100_000,
        b'\xef\xbb\xbf{"size": 1}',
        '{"size": 1}'.encode("utf-16"),
        "\ud800",
    ],
)
def test_wrong_json_is_one_error(content: bytes | str):
    with pytest.raises(msgspec.DecodeError):
        decode_json(content, Document)


def test_right_json_is_decoded():
    assert decode_json(b'{"size": 3, "rest": ["\xe8\xbb\x8a"]}', Document).size == 3
    assert decode_json('{"size": 3}', Document) == Document(3)
