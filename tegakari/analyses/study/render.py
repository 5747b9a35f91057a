"""The report of a study: one self-contained HTML file, or Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from tegakari.analyses.study.sections import sections
from tegakari.analyses.study.sections.layout import Section
from tegakari.analyses.svg import with_unique_ids
from tegakari.schemas.study import StudyResult
from tegakari.store import Run

DEFAULT_SERVICE = "http://127.0.0.1:8765"


def html(result: StudyResult, runs: Sequence[Run], service: str = DEFAULT_SERVICE) -> str:
    """The report as an HTML page with its figures, which loads nothing.

    Args:
        result: of the runs.
        runs: of the result, in its order.
        service: address of the service that links to labels and runs lead to.
    """
    # The template is part of the package. Its values are escaped, except figures, whose text is escaped already.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("tegakari.analyses.study").joinpath("report.html").read_text(encoding="utf-8")
    )
    names = [run.name for run in runs]
    links = {name: f"{service}/v1/runs/{name}" for name in names}
    links |= {label: f"{service}/v1/runs/{names[0]}/labels/{quote(label, safe='')}/features" for label in result.labels}
    return template.render(
        title=_title(result),
        sections=[_embedded(section, number) for number, section in enumerate(sections(result))],
        links=links,
        provenance=_provenance(runs),
        service=service,
    )


def markdown(result: StudyResult, runs: Sequence[Run]) -> str:
    """The report as Markdown, without figures.

    Args:
        result: of the runs.
        runs: of the result, in its order.
    """
    lines = [f"# {_title(result)}"]
    for section in sections(result):
        lines += ["", f"## {section.title}", "", section.definition]
        lines += ["", section.basis] if section.basis else []
        lines += ["", *(f"- {sentence}" for sentence in section.sentences)] if section.sentences else []
        for grid in section.grids:
            lines += ["", _row(grid.columns), _row(["---"] * len(grid.columns)), *map(_row, grid.rows)]
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


def _row(cells: Sequence[str]) -> str:
    """Cells as text: labels and tokens come from posts, and could be Markdown, links or HTML."""
    return "| " + " | ".join(_MARKDOWN.sub(r"\\\g<0>", " ".join(cell.splitlines())) for cell in cells) + " |"


def _provenance(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.name}: {run.manifest.classifier.architecture}, {run.manifest.classifier.layers} layers, "
        f"{run.manifest.corpus.documents} documents, fingerprint {run.manifest.fingerprint[:16]}, "
        f"made {run.manifest.created} with tegakari {run.manifest.versions.get('tegakari', '?')}"
        + (", synthetic: not from a model" if run.manifest.synthetic else "")
        for run in runs
    ]
