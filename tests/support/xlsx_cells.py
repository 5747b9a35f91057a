"""Cells of an XLSX file, read by the standard (ECMA-376) without the library that writes it."""

from __future__ import annotations

import re
import zipfile
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

_NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def xlsx_cells(content: bytes) -> list[list[Any]]:
    """Rows of the first sheet: text, number as float, bool, or None.

    Raises:
        AssertionError: a cell holds a formula.
    """
    with zipfile.ZipFile(BytesIO(content)) as archive:
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
        texts: list[str] = []
        if "xl/sharedStrings.xml" in archive.namelist():
            shared = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
            texts = [_text(item) for item in shared]
    rows: list[list[Any]] = []
    for row in sheet.iter(f"{_NAMESPACE}row"):
        cells: dict[int, Any] = {}
        for cell in row:
            assert cell.find(f"{_NAMESPACE}f") is None
            value = cell.find(f"{_NAMESPACE}v")
            match cell.get("t"):
                case "inlineStr":
                    content_of_cell: Any = _text(cell)
                case "s":
                    assert value is not None
                    content_of_cell = texts[int(value.text or "")]
                case "b":
                    assert value is not None
                    content_of_cell = value.text == "1"
                case _:
                    content_of_cell = None if value is None else float(value.text or "")
            cells[_column(cell.get("r") or "")] = content_of_cell
        rows.append([cells.get(number) for number in range(max(cells, default=-1) + 1)])
    width = max(map(len, rows), default=0)
    return [row + [None] * (width - len(row)) for row in rows]


def sheet_rows(content: bytes) -> list[dict[str, Any]]:
    """Rows of an XLSX file, by the names in its first row."""
    names, *rows = xlsx_cells(content)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _text(element: ElementTree.Element) -> str:
    joined = "".join(part.text or "" for part in element.iter(f"{_NAMESPACE}t"))
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), joined)


def _column(reference: str) -> int:
    number = 0
    for letter in reference.rstrip("0123456789"):
        number = 26 * number + ord(letter) - 64
    return number - 1
