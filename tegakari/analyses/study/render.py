"""The report of a study: one self-contained HTML file, or Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from tegakari.analyses.study.pages import Linked
from tegakari.analyses.study.sections import sections
from tegakari.analyses.study.sections.layout import Column, Excerpt, Grid, Section, Value
from tegakari.analyses.svg import with_unique_ids
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.study import StudyResult
from tegakari.store import Run


class ReportOptions(NamedTuple):
    """What a report shows besides its result."""

    explorer: str = ""
    """address of the service whose pages labels, features and runs lead to; empty: there are no links"""
    own_scale: bool = False
    """whether Figure 1 shows the effects of each run in units of its largest, as the study does"""


PLAIN = ReportOptions()
"""Without links, on one scale."""


def report_options(explorer: str | None, *, own_scale: bool) -> ReportOptions:
    """Options of a report.

    Raises:
        ConfigError: the address is not one of HTTP.
    """
    if explorer and not re.match(r"https?://[\w.:\[\]-]+(/[\w.~/-]*)?$", explorer):
        raise ConfigError(
            f"{explorer!r} is no address of a service",
            field="--explorer",
            fix="give one such as http://127.0.0.1:8765",
        )
    return ReportOptions((explorer or "").rstrip("/"), own_scale)


def html(result: StudyResult, runs: Sequence[Run], options: ReportOptions = PLAIN) -> str:
    """The report as an HTML page with its figures, which loads nothing.

    Args:
        result: of the runs.
        runs: of the result, in its order.
        options: links and scale of the report.
    """
    # The template is part of the package. Its values are escaped, except figures, whose text is escaped already.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests |= {
        "linked": lambda value: isinstance(value, Linked) and bool(options.explorer),
        "excerpt": lambda value: isinstance(value, Excerpt),
    }
    template = environment.from_string(
        files("tegakari.analyses.study").joinpath("report.html").read_text(encoding="utf-8")
    )
    return template.render(
        title=_title(result),
        sections=[
            _embedded(section, number)
            for number, section in enumerate(sections(result, runs, own_scale=options.own_scale))
        ],
        provenance=_provenance(runs),
        explorer=options.explorer,
    )


def markdown(result: StudyResult, runs: Sequence[Run], options: ReportOptions = PLAIN) -> str:
    """The report as Markdown, without figures.

    Args:
        result: of the runs.
        runs: of the result, in its order.
        options: links of the report.
    """
    lines = [f"# {_title(result)}"]
    for section in sections(result, runs, own_scale=options.own_scale):
        lines += ["", f"## {section.title}", "", section.definition]
        lines += ["", section.basis] if section.basis else []
        lines += ["", _markdown_link(section.page, options)] if section.page and options.explorer else []
        lines += ["", *(f"- {sentence}" for sentence in section.sentences)] if section.sentences else []
        for grid in section.grids:
            lines += ["", *_markdown_table(grid, options)]
    return "\n".join([*lines, "", *(f"- {line}" for line in _provenance(runs))]) + "\n"


def _title(result: StudyResult) -> str:
    return f"Study of {' against '.join(' and '.join(group) for group in result.groups)}"


def _embedded(section: Section, number: int) -> Section:
    """The section with figures as elements of a page: without XML declaration, with ids that no other figure has."""
    pictures = []
    for place, picture in enumerate(section.pictures):
        document = with_unique_ids(picture.svg, f"s{number}p{place}-")
        pictures.append(picture._replace(svg=document[document.index("<svg") :]))
    return section._replace(pictures=pictures)


_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~]")


def _escaped(text: str) -> str:
    """Text: labels and tokens come from posts, and could be Markdown, links or HTML."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.splitlines()))


def _markdown_table(grid: Grid, options: ReportOptions) -> list[str]:
    headings = [_escaped(column.name) for column in grid.columns]
    cells = [
        [_markdown_cell(column, value, options) for column, value in zip(grid.columns, row, strict=True)]
        for row in grid.rows
    ]
    return [f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *cells)]


def _markdown_cell(column: Column, value: Value, options: ReportOptions) -> str:
    if isinstance(value, Excerpt):
        return f"{_escaped(value.before)}**{_escaped(value.token)}**{_escaped(value.after)}"
    if isinstance(value, Linked) and options.explorer:
        return _markdown_link(value, options)
    return _escaped(column.text(value))


def _markdown_link(link: Linked, options: ReportOptions) -> str:
    return f"[{_escaped(link.text)}]({options.explorer}{link.page})"


def _provenance(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.name}: {run.manifest.classifier.architecture}, {run.manifest.classifier.layers} layers, "
        f"{run.manifest.corpus.documents} documents, fingerprint {run.manifest.fingerprint[:16]}, "
        f"made {run.manifest.created} with tegakari {run.manifest.versions.get('tegakari', '?')}"
        + (", synthetic: not from a model" if run.manifest.synthetic else "")
        for run in runs
    ]
