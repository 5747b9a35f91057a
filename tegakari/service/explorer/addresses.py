"""Addresses of the explorer's pages and of the API's routes, as templates write them."""

from __future__ import annotations

from urllib.parse import urlencode

from tegakari.schemas.segments import segment_of


def run_page(run: str) -> str:
    """Address of the page of a run."""
    return f"/runs/{segment_of(run)}"


def label_page(run: str, label: str) -> str:
    """Address of the page of a label."""
    return f"{run_page(run)}/labels/{segment_of(label)}"


def feature_page(run: str, layer: int, feature: int) -> str:
    """Address of the page of a feature."""
    return f"{run_page(run)}/layers/{layer}/features/{feature}"


def document_page(run: str, document: str) -> str:
    """Address of the page of a document."""
    return f"{run_page(run)}/documents/{segment_of(document)}"


def confusion_page(run: str, label: str, predicted: str) -> str:
    """Address of the page of the documents of one label that are predicted as another."""
    return f"{run_page(run)}/confusions/{segment_of(label)}/{segment_of(predicted)}"


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
