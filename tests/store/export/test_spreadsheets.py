"""Spreadsheets open what is written for them: texts are texts, numbers are numbers, and nothing is cut in silence."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tegakari.cli.app import app
from tegakari.schemas.errors import StoreError
from tegakari.store.export import formats, spreadsheets
from tests.support.factories import make_run
from tests.support.xlsx_cells import xlsx_cells

PYTHON = os.environ.get("TEGAKARI_DATASETS_PYTHON") or sys.executable

TEXTS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "-",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "====== 2",
    "plain",
    "手掛かり 🔎",
    " white space ",
    "line\nline\r\nline",
    "_x0041_",
    "\x01\x1f\x7f",
    "\ufffe",
    "<b>&amp;</b> \"quoted\" 'too'",
    "https://example.org/" + "a" * 3000,
    "007",
    "1e5",
    "TRUE",
    "😀" * 16_383,
    "x" * 32_767,
]
"""Texts that writers of spreadsheets have changed, run or lost."""


def written(table: pa.Table, file_format: str = "xlsx", **options: Any) -> bytes:
    sink = io.BytesIO()
    assert formats.write(sink, table.to_reader(max_chunksize=2), file_format, **options) == table.num_rows
    return sink.getvalue()


def test_texts_stay_texts():
    names = ["text", "=1+1", "", "text"]
    table = pa.Table.from_arrays([pa.array(TEXTS)] * 4, names=names)
    assert xlsx_cells(written(table)) == [["text", "=1+1", "", "text"], *([text] * 4 for text in TEXTS)]


def test_numbers_stay_numbers_and_null_is_empty():
    values: dict[str, list[Any]] = {
        "integer": [-1, 0, 10**15, None],
        "large": [2**53 + 1, -(2**62), 7, None],
        "float": [-1.5, 1e-300, float("nan"), float("-inf")],
        "decimal": [Decimal("-1.25"), Decimal("0.00"), Decimal("12345678.00"), None],
        "truth": [True, False, None, True],
        "list": [[1, 2], [], None, [-3]],
        "empty": ["", None, "a", ""],
    }
    rows = xlsx_cells(written(pa.table(values)))
    assert rows[0] == list(values)
    columns = dict(zip(values, zip(*rows[1:], strict=True), strict=True))
    assert columns["integer"] == (-1, 0, 1e15, None)
    assert columns["large"] == ("9007199254740993", "-4611686018427387904", 7, None)
    assert columns["float"] == (-1.5, 1e-300, "nan", "-inf")
    assert columns["decimal"] == (-1.25, 0, 12345678, None)
    assert [type(value) for value in columns["truth"]] == [bool, bool, type(None), bool]
    assert columns["list"] == ("[1,2]", "[]", None, "[-3]")
    assert columns["empty"] == ("", None, "a", "")


def test_equal_rows_give_equal_files_in_both_ways():
    table = pa.table({"text": TEXTS, "number": range(len(TEXTS))})
    assert written(table) == written(table)
    sink = io.BytesIO()
    with spreadsheets.xlsx_in_memory(sink, table.schema) as writer:
        for batch in table.to_batches():
            writer.write_batch(batch)
    assert xlsx_cells(sink.getvalue()) == xlsx_cells(written(table))


def test_no_rows():
    assert xlsx_cells(written(pa.table({"a": pa.array([], pa.string())}))) == [["a"]]


@pytest.mark.parametrize("text", ["x" * 32_768, "😀" * 16_384, "\r\n" * 16_384])
@pytest.mark.parametrize("file_format", ["xlsx", "csv"])
def test_a_text_that_is_too_long_is_named(text: str, file_format: str):
    table = pa.table({"number": [1, 2, 3], "body": ["a", "b", text]})
    reader = spreadsheets.for_spreadsheets(table.to_reader(max_chunksize=2), file_format)
    with pytest.raises(StoreError, match=r"column body, row 3: a text of 32,768 characters") as caught:
        formats.write(io.BytesIO(), reader, file_format)
    assert "left(body, 16000)" in (caught.value.fix or "")


def test_too_many_rows_and_columns(monkeypatch: pytest.MonkeyPatch):
    assert (spreadsheets.MAX_ROWS, spreadsheets.MAX_COLUMNS) == (1_048_576, 16_384)
    limits = spreadsheets.Limits(pa.schema([("a", pa.int8())]))
    limits.check(pa.record_batch({"a": pa.array([0] * 1_048_575, pa.int8())}))
    with pytest.raises(StoreError, match="more than 1,048,575 rows"):
        limits.check(pa.record_batch({"a": pa.array([0], pa.int8())}))
    with pytest.raises(StoreError, match="16,385 columns"):
        written(pa.table([[0]] * 16_385, names=[str(number) for number in range(16_385)]))
    monkeypatch.setattr(spreadsheets, "MAX_ROWS", 3)
    with pytest.raises(StoreError, match="more than 2 rows"):
        written(pa.table({"a": [1, 2, 3]}))


def test_a_refused_file_leaves_no_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StoreError):
        written(pa.table({"a": ["x" * 40_000]}))
    written(pa.table({"a": ["x"]}))
    assert list(tmp_path.iterdir()) == []


def test_csv_with_a_byte_order_mark():
    table = pa.table({"名前": ["食べ物"]})
    plain = written(table, "csv")
    assert written(table, "csv", bom=True) == b"\xef\xbb\xbf" + plain
    for file_format in ("xlsx", "parquet", "arrow"):
        with pytest.raises(StoreError, match="--bom"):
            written(table, file_format, bom=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, "one", seed=1)
    return directory


def test_commands_write_for_spreadsheets(store: Path, tmp_path: Path):
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--store", str(store)])

    query = "SELECT '=1+1' AS text, -2 AS number, 1.5 AS share, sum(3) AS total"
    assert run("sql", query, "-o", str(tmp_path / "a.xlsx"), "--spreadsheet").exit_code == 0
    assert xlsx_cells((tmp_path / "a.xlsx").read_bytes()) == [
        ["text", "number", "share", "total"],
        ["=1+1", -2, 1.5, 3],
    ]
    assert run("sql", query, "-o", str(tmp_path / "a.csv"), "--spreadsheet", "--bom").exit_code == 0
    content = (tmp_path / "a.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    (row,) = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
    assert (row["text"], row["number"]) == ("'=1+1", "-2")
    for wrong in (["--bom"], ["--json", "--bom"], ["-o", str(tmp_path / "b.xlsx"), "--bom"]):
        assert "--bom" in str(run("sql", query, *wrong).exception)
    assert not (tmp_path / "b.xlsx").exists()
    export = ["runs", "export", "one", "--table", "labels", "--table", "features"]
    assert run(*export, "--format", "xlsx", "--to", str(tmp_path / "x")).exit_code == 0
    assert run(*export, "--format", "csv", "--bom", "--to", str(tmp_path / "c")).exit_code == 0
    cells = xlsx_cells((tmp_path / "x" / "labels.xlsx").read_bytes())
    rows = list(csv.reader((tmp_path / "c" / "labels.csv").open(encoding="utf-8-sig", newline="")))
    assert cells[0] == rows[0]
    assert len(cells) == len(rows) > 1
    for row_cells, row in zip(cells[1:], rows[1:], strict=True):
        for cell, text in zip(row_cells, row, strict=True):
            assert cell == pytest.approx(float(text), rel=1e-14) if isinstance(cell, float) else (cell or "") == text
    assert run("sql", query, "--csv", str(tmp_path / "e.XLSX")).exit_code == 0
    assert xlsx_cells((tmp_path / "e.XLSX").read_bytes())[1] == ["=1+1", -2, 1.5, 3]
    assert run("labels", "--run", "one", "--csv", str(tmp_path / "f.xlsx")).exit_code == 0
    assert len(xlsx_cells((tmp_path / "f.xlsx").read_bytes())) == len(rows)
    assert run(*export, "--bom", "--to", str(tmp_path / "d")).exception
    assert not (tmp_path / "d").exists()


def test_the_libraries_that_read_spreadsheets_agree(tmp_path: Path):
    """openpyxl and pandas, in this Python or in the one that TEGAKARI_DATASETS_PYTHON names."""
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('openpyxl') is None)"
    if subprocess.run([PYTHON, "-c", found], check=False).returncode:
        pytest.skip(f"{PYTHON} has no openpyxl; name one that has it in TEGAKARI_DATASETS_PYTHON")
    # openpyxl leaves escapes of control characters as they are.
    texts = [text for text in TEXTS if not set(text) & set("\x01\r\t\ufffe") and "_x0041_" not in text]
    table = pa.table({"text": texts, "number": [-1.5 + n for n in range(len(texts))], "truth": [True] * len(texts)})
    (tmp_path / "a.xlsx").write_bytes(written(table))
    program = (
        "import json, sys, openpyxl, pandas\n"
        "sheet = openpyxl.load_workbook(sys.argv[1]).active\n"
        "rows = [[cell.value for cell in row] for row in sheet.iter_rows()]\n"
        "kinds = sorted({cell.data_type for row in sheet.iter_rows() for cell in row})\n"
        "frame = pandas.read_excel(sys.argv[1], dtype={'text': str}, keep_default_na=False)\n"
        "print(json.dumps([rows, kinds, frame['text'].tolist(), frame['number'].tolist()]))\n"
    )
    done = subprocess.run(
        [PYTHON, "-c", program, str(tmp_path / "a.xlsx")], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    rows, kinds, frame_texts, frame_numbers = json.loads(done.stdout)
    assert rows == [table.column_names, *(list(row.values()) for row in table.to_pylist())]
    assert kinds == ["b", "n", "s"]  # none is "f", a formula
    assert (frame_texts, frame_numbers) == (texts, table["number"].to_pylist())
