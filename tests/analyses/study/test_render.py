"""The report of a study: sections, self-containment, and a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from tegakari.analyses.formatting import sae_quality
from tegakari.analyses.study.plots import cue_scatter
from tegakari.analyses.study.render import html, markdown
from tegakari.schemas.study import StudyResult
from tegakari.store import Run


class Links(HTMLParser):
    """References and ids of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name.endswith("href") and tag != "a"):
                self.fetched.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_report_has_all_sections_and_loads_nothing(two_runs: tuple[Path, list[Run]], result: StudyResult):
    _, runs = two_runs
    page = html(result, runs)
    links = Links(page)
    inside = {url.removeprefix("#") for url in links.fetched if not url.startswith("data:")}
    assert inside <= set(links.ids)
    assert len(links.ids) == len(set(links.ids))
    text = markdown(result, runs)
    assert text.index("## Limits") < text.index("## small and other")
    for sentence in result.limits:
        assert escape(sentence) in page
        assert f"- {sentence}" in text
    for title in (
        "Table 1",
        "Table 2",
        "Tables 3 and 8",
        "Tables 4 and 9",
        "Table 7",
        "Figure 1",
        "Figure 2",
        "Shared features",
    ):
        assert title in page
        assert title in text
    for label in result.labels:
        assert f">{label}</a>" in page
        assert f"| {label} |" in text
    for run in result.runs:
        for sae in run.saes:
            assert f"| {run.run}, {sae.layer} | {sae_quality(sae)} |" in text
    assert page.count("<svg") == 3
    assert page == html(result, runs)  # equal results give equal pages
    assert len({line.count("|") for line in text.split("## ")[3].splitlines() if line.startswith("|")}) == 1


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_report_without_errors_or_network(
    two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path
):
    assert CHROMIUM
    _, runs = two_runs
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(html(result, runs), encoding="utf-8")
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
    base = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        *offline,
    ]
    dumped = subprocess.run(
        [*base, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in dumped.stderr, dumped.stderr  # the console has a page's errors and refused loads
    assert dumped.stdout.count("<section") == 10
    assert re.search(r"<svg[^>]* height=", dumped.stdout)
    drawn = [*base, "--window-size=1200,2000", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(drawn, capture_output=True, timeout=120, check=True)
    assert shot.stat().st_size > 30_000


def test_figure_2_has_the_axes_of_the_study(result: StudyResult):
    """Share of the most frequent token to the right, number of unique tokens upward; a point per label and run."""
    (axes,) = cue_scatter(result.runs).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("top token share", "unique tokens")
    for line, run in zip(axes.lines, result.runs, strict=True):
        points = [(cues.top_token_share.value, cues.unique_tokens.value) for cues in run.cues]
        assert list(zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)) == points
