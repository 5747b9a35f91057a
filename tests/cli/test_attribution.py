"""`tegakari attribution` on a small run: the text with marks, JSON, a page, a figure."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from tegakari.cli.app import app
from tegakari.cli.attribution import MARKS, marked_lines
from tegakari.indexer.pipeline import index
from tegakari.schemas.attribution import Attribution
from tests.support.small_case import SmallCase, with_index

TEXT = "質問があります\n軽トラ & <b>今日は</b> とても楽しい一日でした 軽トラ"


@pytest.fixture(scope="module")
def store(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("attribution") / "store"
    index(with_index(small_case, directory))
    return directory


def run_attribution(store: Path, *options: str, columns: int = 80) -> Result:
    arguments = ["attribution", "--run", "small", "--store", str(store), "--device", "cpu", *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": str(columns)})


def test_marks_stand_below_the_tokens_and_need_no_colour(store: Path):
    result = run_attribution(store, "--text", TEXT, "--candidates", "6")
    assert result.exit_code == 0, result.output
    assert "█" in result.stdout
    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if "質問があります" in line)
    assert set(lines[at + 1]) <= set(" ░▒▓█")
    assert "margin lost" in result.stdout
    assert "seed 0" in result.stdout


def test_lines_are_as_wide_as_the_terminal(store: Path):
    attribution = msgspec.json.decode(run_attribution(store, "--text", TEXT, "--json").stdout, type=Attribution)
    lines = marked_lines(attribution, 20)
    assert all(line.cell_len <= 20 for line in lines)
    assert "".join(line.plain for line in lines[::2]) == TEXT.replace("\n", "")
    assert all(set(line.plain) <= set(MARKS) for line in lines[1::2])


class Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.shaded = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._depth += tag == "div"

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "div"

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.shaded += data


def test_the_page_has_the_whole_text_and_fetches_nothing(store: Path, tmp_path: Path):
    page, figure = tmp_path / "page.html", tmp_path / "bars.svg"
    result = run_attribution(store, "--text", TEXT, "--html", str(page), "--plot", str(figure), "--json")
    assert result.exit_code == 0, result.output
    attribution = json.loads(result.stdout)
    parser = Texts()
    parser.feed(page.read_text(encoding="utf-8"))
    assert parser.shaded == TEXT
    assert not {"script", "link", "img"} & parser.tags
    assert not {"src", "href"} & parser.attributes
    assert str(attribution["features"][0]["feature"]) in page.read_text(encoding="utf-8")
    assert figure.read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(
    "options", [(), ("--document", "nope"), ("--text", "a", "--label", "nope"), ("--text", "a", "--candidates", "0")]
)
def test_wrong_options_are_errors_with_a_fix(store: Path, options: tuple[str, ...]):
    result = run_attribution(store, *options)
    assert result.exit_code != 0
    assert result.exception
    assert getattr(result.exception, "fix", None) or "Invalid" in result.output
