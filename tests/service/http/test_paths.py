"""Any label is one segment of a path, over a real server and in-process; HEAD works wherever GET does."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from tests.support.factories import LABELS, make_run
from tests.support.service import RUN, client_of, get, segment

ODD_LABELS = (
    "a/features",
    "a",
    "%2F",
    "%252F",
    "a%",
    "+ +",
    "..a",
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
    if label in (".", ".."):  # clients remove these from a path
        return
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
