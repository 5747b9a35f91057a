"""Any label is one segment of a path, over a real server and in-process; HEAD works wherever GET does."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from tegakari.schemas.segments import name_of, segment_of
from tests.support.factories import LABELS, make_run
from tests.support.service import RUN, client_of, get, segment
from tests.support.serving import serving

ODD_LABELS = (
    "a/features",
    "a",
    "%2F",
    "%252F",
    "a%",
    "+ +",
    "..a",
    "..",
    ".",
    "%2E%2E",
    "%2e",
    "%252E%252E",
    ".%2E",
    "\u200f\u0645",
    "e\u0301",
    "\u00e9",
    "\t",
    ";=&",
    "\\",
    "/",
)


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_found_over_a_socket(server: httpx.Client, client: TestClient, label: str):
    path = f"/v1/runs/{RUN}/labels/{segment(label)}"
    assert get(server, path)["label"] == label
    assert get(server, path) == get(client, path)
    assert get(server, f"{path}/features", limit=3) == get(client, f"{path}/features", limit=3)


def test_labels_that_look_like_paths_are_told_apart(tmp_path):
    make_run(tmp_path, "odd", labels=ODD_LABELS, layers=1, d_sae=20, documents_per_label=2)
    with client_of(tmp_path) as client:
        for label in ODD_LABELS:
            path = f"/v1/runs/odd/labels/{segment(label)}"
            assert get(client, path)["label"] == label
            assert get(client, f"{path}/features")["items"]
        slash = get(client, "/v1/runs/odd/labels/a%2ffeatures")  # lower-case digits are the same character
        assert slash["label"] == "a/features"
        assert "items" in get(client, "/v1/runs/odd/labels/a/features")


@given(label=st.text(min_size=1).filter(lambda text: text not in LABELS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_text_is_an_unknown_label(server: httpx.Client, label: str):
    try:
        encoded = segment(label)
    except UnicodeEncodeError:  # a lone surrogate cannot be sent
        return
    response = server.get(f"/v1/runs/{RUN}/labels/{encoded}")
    assert response.status_code == 404
    assert response.json()["field"] == "label"
    assert repr(label) in response.json()["detail"]


@pytest.mark.parametrize("name", ["車", "a/b", "A", "..%2F..%2Fwork", "%00", "x" * 65])
def test_impossible_names_of_runs_are_not_found(server: httpx.Client, name: str):
    response = server.get(f"/v1/runs/{name if '%' in name else segment(name)}")
    assert response.status_code == 404
    assert response.json()["field"] == "run"


def test_unreserved_characters_may_be_encoded(server: httpx.Client):
    assert get(server, f"/v1/%72uns/{RUN}") == get(server, f"/v1/runs/{RUN}")


def test_a_trailing_slash_makes_no_difference(server: httpx.Client):
    assert get(server, f"/v1/runs/{RUN}/labels/") == get(server, f"/v1/runs/{RUN}/labels")


@pytest.mark.parametrize(
    "path", ["/v1/runs", f"/v1/runs/{RUN}/labels", "/healthz", "/schema", "/docs/errors/busy", "/nowhere"]
)
def test_head_is_get_without_the_body(server: httpx.Client, path: str):
    head, body = server.head(path), server.get(path)
    assert head.status_code == body.status_code
    assert head.content == b""
    assert head.headers["content-length"] == body.headers["content-length"]


def test_dots_in_a_path_are_a_label_and_lead_nowhere(tmp_path):
    """Raw requests: clients resolve the first spellings before they send them."""
    make_run(tmp_path, "dots", labels=("..", "x"), layers=1, d_sae=20, documents_per_label=2)
    with serving("--store", tmp_path) as (url, _):
        address = httpx.URL(url)
        for raw in (b"..", b"%2E%2E", b"%2e.", b"%252E%252E", b"%252e%252e"):
            with socket.create_connection((address.host, address.port or 80), timeout=60) as connection:
                lines = [
                    b"GET /v1/runs/dots/labels/" + raw + b"/features?limit=1 HTTP/1.0",
                    b"Host: 127.0.0.1",
                    b"",
                    b"",
                ]
                connection.sendall(b"\r\n".join(lines))
                response = b"".join(iter(lambda: connection.recv(65536), b""))
            head, _, body = response.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), response
            assert len(json.loads(body)["items"]) == 1


def test_the_next_page_of_a_label_of_dots_has_an_address_that_clients_keep(tmp_path):
    make_run(tmp_path, "dots", labels=("..", "x"), layers=1, d_sae=20, documents_per_label=2)
    with client_of(tmp_path) as client:
        pages, address = [], f"/v1/runs/dots/labels/{segment('..')}/features?limit=5&format=csv"
        while address:
            response = client.get(address)
            assert response.status_code == 200
            pages.append(response.text)
            address = response.links.get("next", {}).get("url")
        whole = client.get(f"/v1/runs/dots/labels/{segment('..')}/features?limit=1000&format=csv").text
    assert "".join(page.partition("\n")[2] for page in pages) == whole.partition("\n")[2]


@given(name=st.one_of(st.text(min_size=1), st.from_regex(r"(\.|%(25)*2[Ee]){1,3}", fullmatch=True)))
def test_a_segment_stands_for_one_name(name: str):
    try:
        segment = segment_of(name)
    except UnicodeEncodeError:
        return
    assert name_of(segment) == name
    assert segment.lower() not in (".", "..", "%2e", "%2e%2e", ".%2e", "%2e.")  # those of the URL standard
    assert "/" not in segment
