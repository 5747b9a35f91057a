"""Figures as SVG: every id is unique, and references keep their targets."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from tegakari.analyses.svg import new_figure, to_svg, with_unique_ids

TITLE = 'id="x" url(#x) <#x>'


def two_equal_heat_maps() -> str:
    """Two images of the same pixels, lines with markers, and a title that looks like markup."""
    figure, axes = new_figure(6, 2, columns=2)
    figure.set_layout_engine("none")
    for panel, x in zip(axes, (0.1, 0.5), strict=True):
        panel.set_position((x, 0.25, 0.25, 0.5))
        panel.imshow(np.eye(2), aspect="auto")
        panel.plot([0, 1], [0, 1], "o-")
        panel.set_title(TITLE)
    return to_svg(figure)


def ids_of(document: ElementTree.Element) -> list[str]:
    return [element.attrib["id"] for element in document.iter() if "id" in element.attrib]


def references_of(document: ElementTree.Element) -> list[str]:
    """Ids that attributes of a document refer to, in the order of the document."""
    return [
        id_
        for element in document.iter()
        for name, value in element.attrib.items()
        for id_ in re.findall(r"^#(.+)" if name.endswith("href") else r"url\(#(.+?)\)", value)
    ]


def test_equal_images_have_different_ids():
    document = ElementTree.fromstring(two_equal_heat_maps())
    images = [element for element in document.iter() if element.tag.endswith("image")]
    pixels = [value for image in images for name, value in image.attrib.items() if name.endswith("href")]
    assert len(pixels) == 2
    assert pixels[0] == pixels[1]
    ids = ids_of(document)
    assert len(ids) == len(set(ids)) > 50
    assert references_of(document)
    assert set(references_of(document)) <= set(ids)
    assert [element.text for element in document.iter() if element.text == TITLE] == [TITLE] * 2


def test_references_follow_renamed_ids():
    """A reference to a shared id leads to the first element with it; references to other documents are unchanged."""
    text = (
        '<svg xmlns:xlink="x"><g id="a1"/><g id="b"/><g id="b"/><use xlink:href="#b"/><use href="#a1"/>'
        '<a href="#elsewhere"/><path clip-path="url(#b)" style="fill: url(#a1); stroke: #b" fill="#b"/></svg>'
    )
    document = ElementTree.fromstring(with_unique_ids(text, "p-"))
    assert ids_of(document) == ["p-0", "p-1", "p-2"]
    assert references_of(document) == ["p-1", "p-0", "elsewhere", "p-1", "p-0"]
    assert document[-1].attrib["style"] == "fill: url(#p-0); stroke: #b"
    assert document[-1].attrib["fill"] == "#b"


def test_documents_with_different_prefixes_share_no_id():
    document = two_equal_heat_maps()
    first, second = (
        set(ids_of(ElementTree.fromstring(with_unique_ids(document, prefix)))) for prefix in ("s1-", "s11-")
    )
    assert len(first) == len(second) > 50
    assert not first & second
