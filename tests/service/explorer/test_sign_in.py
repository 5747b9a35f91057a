"""Signing in: a key in a cookie opens pages and data, other origins cannot use it, and it never leaves the browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig
from tegakari.service.admission.keys import create_key, revoke_key
from tegakari.service.app import create_app
from tests.support.service import RUN

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


class Keyed(NamedTuple):
    """A service that requires keys, one of which reads."""

    client: TestClient
    keys: Path
    key: str
    id: str


@pytest.fixture
def keyed(store: Path, tmp_path: Path) -> Iterator[Keyed]:
    keys = tmp_path / "keys.json"
    key, record = create_key(keys, "reader", "read")
    app = create_app(store, ServiceConfig(log="off", warm="off"), keys=keys)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield Keyed(client, keys, key, record.id)


def sign_in(keyed: Keyed, key: str, **headers: str):
    data = {"key": key, "next": f"/runs/{RUN}"}
    return keyed.client.post("/sign-in", data=data, headers={**FORM, **headers}, follow_redirects=False)


def test_a_page_asks_for_a_key_and_shows_itself_with_it(keyed: Keyed):
    refused = keyed.client.get(f"/runs/{RUN}")
    assert refused.status_code == 401
    assert f'value="/runs/{RUN}"' in refused.text
    assert "<table" not in refused.text
    answer = sign_in(keyed, keyed.key)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/runs/{RUN}")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = keyed.client.get(f"/runs/{RUN}")
    assert page.status_code == 200
    assert keyed.key not in page.text
    assert keyed.client.get("/v1/runs").status_code == 200  # what the page's scripts read


def test_the_scope_of_the_key_holds(keyed: Keyed):
    sign_in(keyed, keyed.key)
    headers = {"Sec-Fetch-Site": "same-origin"}
    assert keyed.client.post("/v1/sql", json={"sql": "SELECT 1"}, headers=headers).status_code == 403


def test_wrong_revoked_and_foreign_sign_ins_are_refused(keyed: Keyed):
    wrong = sign_in(keyed, "tgk_00000000_" + "x" * 43)
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    assert (
        sign_in(keyed, keyed.key, **{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}).status_code
        == 403
    )
    sign_in(keyed, keyed.key)
    revoke_key(keyed.keys, keyed.id)
    time.sleep(1.1)  # the file is read again at most once per second
    assert keyed.client.get(f"/runs/{RUN}").status_code == 401


def test_signing_out_removes_the_cookie(keyed: Keyed):
    sign_in(keyed, keyed.key)
    answer = keyed.client.post("/sign-out", headers=FORM, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert keyed.client.get(f"/runs/{RUN}").status_code == 401


def test_another_origin_cannot_use_the_cookie(keyed: Keyed):
    sign_in(keyed, keyed.key)
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert keyed.client.post("/sign-out", data={}, headers={**FORM, **headers}).status_code == 403
    assert keyed.client.get(f"/runs/{RUN}").status_code == 200
