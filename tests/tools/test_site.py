"""The documentation site builds strictly: a broken link or anchor, or a page that the navigation lacks, fails it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.generated import ROOT

OUTSIDE = ("benchmarks/RESULTS.md", "tegakari/kernels/README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


@pytest.mark.parametrize("page", ["README.md", *OUTSIDE])
def test_links_in_the_repository_lead_to_files(page: str):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert missing == []


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mkdocs", reason="`make docs` installs mkdocs")
    pytest.importorskip("material", reason="`make docs` installs mkdocs-material")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--config-file",
        str(root / "mkdocs.yml"),
        "--site-dir",
        str(site),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    done = build(ROOT, site)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for part in ("docs", "tools"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for page in ("mkdocs.yml", *OUTSIDE):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    return tmp_path


def test_every_page_is_in_the_site(site: Path):
    docs = ROOT / "docs"  # docs/errors is a link, which rglob does not follow
    pages = [page.relative_to(docs) for page in (*docs.rglob("*.md"), *(docs / "errors").glob("*.md"))]
    assert len(pages) > 40
    assert [page for page in pages if not (site / page.with_suffix(".html")).exists()] == []
    assert (site / "benchmarks/RESULTS.html").exists()
    assert (site / "tegakari/kernels/index.html").exists()


def test_links_to_pages_outside_docs_lead_to_their_place_in_the_site(site: Path):
    assert 'href="benchmarks/RESULTS.html"' in (site / "index.html").read_text(encoding="utf-8")
    assert 'href="tegakari/kernels/index.html"' in (site / "index.html").read_text(encoding="utf-8")


def test_a_page_loads_nothing_from_elsewhere(site: Path):
    loads = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//")
    for page in site.rglob("*.html"):
        assert not loads.search(page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.parametrize(
    ("page", "text", "warning"),
    [
        ("api.md", "[x](no-such-page.md)", "no-such-page.md"),
        ("api.md", "[x](design.md#no-such-heading)", "no-such-heading"),
        ("api.md", "[x](../tegakari/kernels/NONE.md)", "NONE.md"),
        ("errors/busy.md", "[x](../../benchmarks/RESULTS.md#no-such-heading)", "no-such-heading"),
        ("../benchmarks/RESULTS.md", "[x](../docs/no-such-page.md)", "no-such-page.md"),
        ("unlisted.md", "# A page that the navigation lacks", "unlisted.md"),
    ],
)
def test_what_leads_nowhere_fails_the_build(copy: Path, tmp_path: Path, page: str, text: str, warning: str):
    with (copy / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    done = build(copy, tmp_path / "site")
    assert done.returncode == 1
    assert warning in done.stderr


def test_links_between_docs_and_the_repository_work(copy: Path, tmp_path: Path):
    with (copy / "benchmarks/RESULTS.md").open("a", encoding="utf-8") as file:
        file.write("\n[x](../docs/errors/busy.md#what-to-do)\n")
    done = build(copy, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert 'href="../errors/busy.html#what-to-do"' in (tmp_path / "site/benchmarks/RESULTS.html").read_text(
        encoding="utf-8"
    )
