"""Addresses of the explorer's pages and of the API's routes, as templates write them."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def segment(text: object) -> str:
    """One segment of a path, percent-encoded; a segment of dots alone would be removed by browsers."""
    encoded = quote(str(text), safe="")
    return encoded.replace(".", "%2E") if set(encoded) == {"."} else encoded


def run_page(run: str) -> str:
    """Address of the page of a run."""
    return f"/runs/{segment(run)}"


def label_page(run: str, label: str) -> str:
    """Address of the page of a label."""
    return f"{run_page(run)}/labels/{segment(label)}"


def feature_page(run: str, layer: int, feature: int) -> str:
    """Address of the page of a feature."""
    return f"{run_page(run)}/layers/{layer}/features/{feature}"


def document_page(run: str, document: str) -> str:
    """Address of the page of a document."""
    return f"{run_page(run)}/documents/{segment(document)}"


def confusion_page(run: str, label: str, predicted: str) -> str:
    """Address of the page of the documents of one label that are predicted as another."""
    return f"{run_page(run)}/confusions/{segment(label)}/{segment(predicted)}"


def with_query(address: str, **parameters: object) -> str:
    """An address with query parameters; those that are None are left out."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{address}?{query}" if query else address


def api(address: str, **parameters: object) -> str:
    """Address of the API's route that has the content of a page."""
    return with_query(f"/v1{address}", **parameters)


ADDRESSES = {
    function.__name__: function
    for function in (run_page, label_page, feature_page, document_page, confusion_page, with_query, api)
}
"""Functions of templates."""
