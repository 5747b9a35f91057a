"""What is built: everything that is served or read at run time is inside, and nothing else is."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import tegakari
from tegakari.schemas.errors import error_classes

PACKAGE = Path(tegakari.__file__).parent
DATA_SUFFIXES = {".html", ".js", ".json", ".md", ".txt", ".toml", ".typed", ".css"}


def test_the_wheel_contains_every_module_and_data_file(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"tegakari/{file.relative_to(PACKAGE).as_posix()}"
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix in {".py", *DATA_SUFFIXES}
    }
    assert expected <= names
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_the_wheel_contains_a_page_for_every_error(wheel: Path):
    pages = {
        Path(name).stem for name in zipfile.ZipFile(wheel).namelist() if "/errors/" in name and name.endswith(".md")
    }
    assert {error.slug for error in error_classes()} <= pages


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, sdist: Path):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in zipfile.ZipFile(wheel).namelist():
        assert ".dist-info/" in name or name in names, f"{name} is not in the source distribution"


def test_metadata_names_every_extra(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    text = archive.read(metadata).decode()
    for extra in ("store", "serve", "index", "ray", "study", "telemetry", "all"):
        assert f"Provides-Extra: {extra}\n" in text
    assert f"Version: {tegakari.__version__}\n" in text
