"""The report of a study: sections, self-containment, and a browser."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from markupsafe import escape

from tegakari.analyses.study.csv_tables import write_csv_tables
from tegakari.analyses.study.label_places import Box, label_places
from tegakari.analyses.study.pages import feature_link, label_link, run_link
from tegakari.analyses.study.plots import cue_scatter
from tegakari.analyses.study.render import PLAIN, _markdown_table, html, markdown, report_options
from tegakari.analyses.study.sections import sections
from tegakari.analyses.study.sections.examples import examples_section
from tegakari.analyses.study.sections.layout import Column, Excerpt, Grid, of_run, plain
from tegakari.analyses.visible_text import visible_text
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.study import LabelToken, StudyResult
from tegakari.service.explorer import addresses
from tegakari.store import Run, queries


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
        assert f">{label}</td>" in page
        assert f"| {label} |" in text
    for run in result.runs:
        for sae in run.saes:
            assert f"| {run.run} | {sae.layer} | {sae.features} | " in text
    assert page.count("<svg") == 3
    assert page == html(result, runs)  # equal results give equal pages
    assert len({line.count("|") for line in text.split("## ")[4].splitlines() if line.startswith("|")}) == 1


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
    assert dumped.stdout.count("<section") == 12
    assert re.search(r"<svg[^>]* height=", dumped.stdout)
    drawn = [*base, "--window-size=1200,2000", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(drawn, capture_output=True, timeout=120, check=True)
    assert shot.stat().st_size > 30_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_is_no_wider_than_a_phone(two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path):
    """Tables and figures are wider, and scroll in their own frames. A window has 500 pixels at least, a frame fewer."""
    assert CHROMIUM
    _, runs = two_runs
    page = html(result, runs)
    frames = ".wide { overflow-x: auto;"
    assert frames in page
    script = "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    for name, text in (("phone", page), ("broken", page.replace(frames, ".wide {"))):
        scripted = re.sub("<meta http-equiv[^>]*>", "", text).replace("</body>", script)
        (tmp_path / f"{name}.html").write_text(scripted, encoding="utf-8")
    (tmp_path / "frames.html").write_text(
        "<body><script>addEventListener('message', event => document.body.append('width ' + event.data + ';'))</script>"
        + "".join(f'<iframe width=390 height=800 src="{name}.html"></iframe>' for name in ("phone", "broken"))
    )
    base = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    dumped = subprocess.run(
        [*base, "--virtual-time-budget=5000", "--dump-dom", (tmp_path / "frames.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    widths = sorted(int(width) for width in re.findall(r"width (\d+);", dumped.stdout))
    assert widths[0] <= 390 < widths[1], widths


def test_figure_2_has_the_axes_of_the_study(result: StudyResult):
    """Share of the most frequent token to the right, number of unique tokens upward; a point per label and run."""
    (axes,) = cue_scatter(result.runs).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("top token share", "unique tokens")
    for line, run in zip(axes.lines, result.runs, strict=True):
        points = [(cues.top_token_share.value, cues.unique_tokens.value) for cues in run.cues]
        assert list(zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)) == points


def test_points_and_names_of_figure_2_cover_nothing(result: StudyResult):
    """Names of 60 labels in one corner, measured without any font."""
    rng = np.random.default_rng(0)
    points = [tuple(point) for point in (rng.normal(80, 12, (60, 2))).tolist()]
    sizes = [(40.0, 9.0)] * 60
    bounds = Box(0, 0, 500, 400)
    places = label_places(points, sizes, bounds, 2.5)
    placed = [place for place in places if place]
    assert len(placed) > 50
    marks = [Box(x - 2.5, y - 2.5, x + 2.5, y + 2.5) for x, y in points]
    for number, place in enumerate(placed):
        assert place.is_inside(bounds)
        assert not any(place.overlaps(other) for other in [*marks, *placed[:number]])
    assert label_places([(5, 5)], [(40, 9)], Box(0, 0, 10, 10), 2.5) == [None]
    (axes,) = cue_scatter(result.runs).axes
    assert {text.get_text() for text in axes.texts} <= set(result.labels)
    assert axes.texts
    assert axes.get_legend() is None  # it stands below the axes


def test_links_lead_to_pages_of_the_explorer(two_runs: tuple[Path, list[Run]], result: StudyResult):
    _, runs = two_runs
    assert "/runs/" not in html(result, runs)
    assert "/runs/" not in markdown(result, runs)
    options = report_options("http://127.0.0.1:8765/", own_scale=False)
    feature = result.runs[1].cues[0].features[0]
    for page in (html(result, runs, options), markdown(result, runs, options)):
        assert "http://127.0.0.1:8765/runs/small/labels/%E8%BB%8A%2F%E8%BB%BD" in page
        assert f"http://127.0.0.1:8765/runs/other/layers/{feature.layer}/features/{feature.feature}" in page
        assert re.search(r"8765/compare\?run=small&(amp;)?run=other", page)
    for address in ("javascript:alert(1)", "127.0.0.1:8765", 'http://a/"onclick="b', "http://a/?b"):
        with pytest.raises(ConfigError):
            report_options(address, own_scale=False)


def test_pages_of_links_are_those_of_the_explorer():
    """The report is made without the service, so the paths are written twice."""
    assert run_link("a.b").page == addresses.run_page("a.b")
    assert label_link("a", "車/軽?").page == addresses.label_page("a", "車/軽?")
    assert feature_link("a", 3, 5).page == addresses.feature_page("a", 3, 5)


def test_examples_are_the_strongest_positions_as_text(two_runs: tuple[Path, list[Run]], result: StudyResult):
    _, runs = two_runs
    (grid,) = examples_section(result, runs).grids
    rows = [dict(zip((column.heading for column in grid.columns), row, strict=True)) for row in grid.rows]
    feature = result.runs[0].cues[0].features[0]
    tokens = queries.feature(runs[0], feature.layer, feature.feature).tokens
    assert rows[0]["activation"] == tokens[0].activation == max(token.activation for token in tokens)
    assert rows[0]["context"].token == visible_text(tokens[0].token)  # pyright: ignore
    seen = [(row["run"], row["label"], row["feature"], row["document"]) for row in rows]
    assert len(set(seen)) == len(seen)  # each context is of another document
    page = html(result, runs)
    assert page.count("<mark>") == len(rows)
    assert f"<mark>{escape(rows[0]['context'].token)}</mark>" in page  # pyright: ignore


def test_text_of_documents_is_no_html(two_runs: tuple[Path, list[Run]], result: StudyResult):
    evil = "<script>alert(1)</script>"
    _, runs = two_runs
    cues = [
        msgspec.structs.replace(
            cues, label_tokens=[LabelToken(token=evil, features=1, label_share=0.5, other_share=0.0)]
        )
        for cues in result.runs[0].cues
    ]
    first = msgspec.structs.replace(result.runs[0], cues=cues)
    page = html(msgspec.structs.replace(result, runs=[first, result.runs[1]], limits=[evil]), runs)
    assert evil not in page
    assert str(escape(evil)) in page
    excerpt = Grid("a", plain("context"), [(Excerpt("*a|b", "<b>", "`"),)])
    assert _markdown_table(excerpt, PLAIN)[-1] == "| \\*a\\|b**\\<b\\>**\\` |"


def test_every_table_of_the_report_is_a_file(two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path):
    store, runs = two_runs
    write_csv_tables(store, runs, result, tmp_path)
    grids = [grid for section in sections(result, runs) for grid in section.grids]
    files = {path.stem for path in (tmp_path / "report").iterdir()}
    assert files == {grid.name for grid in grids}
    assert len(files) == len(grids) == html(result, runs).count("<table>")
    for grid in grids:
        with (tmp_path / "report" / f"{grid.name}.csv").open(encoding="utf-8", newline="") as file:
            heading, *rows = csv.reader(file)
        assert len(rows) == len(grid.rows)
        assert {len(row) for row in rows} <= {len(heading)}
        assert len(set(heading)) == len(heading), heading
    with (tmp_path / "report" / "classification.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    score = result.runs[0].classification.macro_f1
    assert [float(row[f"macro-F1 (95 %){end}"]) for end in ("", " low", " high")] == [
        score.value,
        score.low,
        score.high,
    ]


def test_neighbouring_columns_of_a_run_share_a_heading(two_runs: tuple[Path, list[Run]], result: StudyResult):
    grid = Grid(
        "a",
        (Column("label", once=True), *of_run("x", ("p", Column("q", once=True))), *of_run("y", ("p", "q"))),
        [("l", 1, 2, 3, 4), ("l", 5, 2, 3, 4)],
    )
    assert grid.column_groups() == [("", 1), ("x", 2), ("y", 2)]
    assert grid.first_columns() == {1, 3}
    assert grid.shown_rows() == [("l", 1, 2, 3, 4), ("", 5, 2, 3, 4)]
    assert not Grid("b", plain("label", "n"), []).column_groups()
    page = html(result, two_runs[1])
    for run in ("small", "other"):
        assert f'scope="colgroup" colspan="9">{run}</th>' in page
    # Tables and figures scroll in a container of their own.
    assert page.count('<div class="wide"') == page.count("<table>") + page.count("<svg")
