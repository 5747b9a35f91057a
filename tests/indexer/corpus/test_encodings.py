"""Encodings of text files: read by their name, and named where the configuration has another."""

from __future__ import annotations

import codecs
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tegakari.indexer.corpus import read_documents
from tegakari.schemas.errors import CorpusError
from tests.support.corpus_sources import import_file, post, posts, write_arrow_file, write_csv, write_jsonl

ROWS = [post(n, "食べ物" if n % 2 else "クルマ", body=f"本文の{n}番、ひらがなとカタカナ") for n in range(8)]

BYTES: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "utf-16 with a mark": ("utf-16", lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le")),
    "utf-16 with a mark, big-endian": ("utf-16", lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be")),
    "utf-16-le": ("utf-16-le", lambda text: text.encode("utf-16-le")),
    "utf-16-be": ("utf-16-be", lambda text: text.encode("utf-16-be")),
    "utf-32": ("utf-32", lambda text: text.encode("utf-32")),
    "cp932": ("cp932", lambda text: text.encode("cp932")),
    "euc_jp": ("euc_jp", lambda text: text.encode("euc_jp")),
    "iso2022_jp": ("iso2022_jp", lambda text: text.encode("iso2022_jp")),
}
"""Encoding that the error names, and bytes of a text, by kind."""


def encoded(directory: Path, name: str, encode: Callable[[str], bytes]) -> Path:
    """A file of ROWS in an encoding."""
    plain = directory / "plain"
    plain.mkdir(exist_ok=True)
    if "csv" in name:
        file = write_csv(plain / "posts.csv", ROWS)
    else:
        file = plain / "posts.jsonl"
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    content = encode(file.read_text(encoding="utf-8"))
    target = directory / name
    target.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return target


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl", "posts.csv.gz"])
@pytest.mark.parametrize("kind", BYTES)
def test_another_encoding_is_named_and_then_read(tmp_path: Path, kind: str, name: str):
    encoding, encode = BYTES[kind]
    file = encoded(tmp_path, name, encode)
    with pytest.raises(CorpusError) as caught:
        import_file(file)
    assert caught.value.field == "corpus.encoding"
    assert f"its bytes are those of {encoding}" in caught.value.message
    assert f'set corpus.encoding = "{encoding}"' in (caught.value.fix or "")
    manifest = import_file(file, encoding=encoding)
    assert (manifest.documents, manifest.dropped) == (len(ROWS), [])
    assert {document.id: document.text for document in read_documents(tmp_path / "corpus")} == {
        row["id"]: f"{row['title']}\n{row['body']}" for row in ROWS
    }


@pytest.mark.skipif(shutil.which("iconv") is None, reason="needs iconv")
@pytest.mark.parametrize("name", ["posts.csv", "posts.csv.gz"])
@pytest.mark.parametrize("kind", BYTES)
def test_the_command_of_the_error_converts_the_file(tmp_path: Path, kind: str, name: str):
    file = encoded(tmp_path, name, BYTES[kind][1])
    with pytest.raises(CorpusError) as caught:
        import_file(file)
    command = (caught.value.fix or "").partition("convert it: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert import_file(tmp_path / "utf8-posts.csv").documents == len(ROWS)


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp", "shift_jis", "utf-16", "latin-1"])
def test_a_file_in_utf8_is_not_read_as_another_encoding(tmp_path: Path, encoding: str):
    file = encoded(tmp_path, "posts.csv", str.encode)
    with pytest.raises(CorpusError, match="its bytes are those of utf-8"):
        import_file(file, encoding=encoding)


def test_a_file_in_one_japanese_encoding_is_not_read_as_another(tmp_path: Path):
    file = encoded(tmp_path, "posts.csv", BYTES["cp932"][1])
    with pytest.raises(CorpusError, match="those of cp932"):
        import_file(file, encoding="euc_jp")


@pytest.mark.parametrize("encoding", ["cp932", "ms932", "Shift_JIS", "utf-8", "UTF8", "utf_8_sig", "latin-1"])
def test_ascii_is_read_in_any_encoding_that_extends_it(tmp_path: Path, encoding: str):
    assert import_file(write_csv(tmp_path / "posts.csv", posts()), encoding=encoding).documents == 8


def test_accents_of_western_europe(tmp_path: Path):
    rows = [row | {"body": f"café {row['id']}"} for row in posts()]
    file = write_csv(tmp_path / "posts.csv", rows)
    file.write_bytes(file.read_text(encoding="utf-8").encode("cp1252"))
    with pytest.raises(CorpusError, match=r"set corpus\.encoding"):
        import_file(file)
    assert import_file(file, encoding="cp1252").documents == 8
    assert read_documents(tmp_path / "corpus")[0].text == "title 0\ncafé p000"


def test_characters_of_windows_need_cp932(tmp_path: Path):
    rows = [row | {"body": f"①髙 {row['body']}"} for row in ROWS]
    file = write_csv(tmp_path / "posts.csv", rows)
    file.write_bytes(file.read_text(encoding="utf-8").encode("cp932"))
    with pytest.raises(CorpusError, match="those of cp932"):
        import_file(file, encoding="shift_jis")
    assert import_file(file, encoding="cp932").documents == 8


def test_a_broken_character_invalidates_one_row_in_every_encoding(tmp_path: Path):
    file = encoded(tmp_path, "posts.csv", BYTES["cp932"][1])
    content = file.read_bytes()
    place = content.rindex("本文".encode("cp932"))
    file.write_bytes(content[:place] + b"\x81\x01" + content[place + 2 :])
    manifest = import_file(file, encoding="cp932")
    assert [(drop.count, drop.examples) for drop in manifest.dropped] == [(1, ["line 9"])]
    assert "not valid Unicode" in manifest.dropped[0].reason


@pytest.mark.parametrize("encoding", ["klingon", "", "rot13", "hex", "a\0b", "日本語"])
def test_a_name_that_is_no_encoding(tmp_path: Path, encoding: str):
    with pytest.raises(CorpusError) as caught:
        import_file(write_jsonl(tmp_path / "posts.jsonl", posts()), encoding=encoding)
    assert caught.value.field == "corpus.encoding"
    assert repr(encoding) in caught.value.message


def test_files_that_are_no_text_have_no_encoding(tmp_path: Path):
    with pytest.raises(CorpusError, match="its texts are UTF-8"):
        import_file(write_arrow_file(tmp_path / "posts.arrow", posts()), encoding="cp932")
