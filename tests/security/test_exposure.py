"""Without keys the server listens where nobody else reaches it, unless it is told so, twice for all networks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tegakari.cli.app import app
from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import ConfigError
from tegakari.service.admission.keys import create_key
from tegakari.service.process.server import _exposure, _listen


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "0"])
@pytest.mark.parametrize("insecure", [0, 1])
def test_all_addresses_need_keys_or_two_words(tmp_path: Path, host: str, insecure: int):
    config = ServiceConfig(host=host, keys=str(tmp_path / "keys.json"), log="off")
    with pytest.raises(ConfigError, match="every network") as refused:
        _listen(config, has_keys=False, insecure=insecure)
    assert "--insecure --insecure" in str(refused.value.fix)


def test_an_address_of_a_network_needs_keys_or_one_word(tmp_path: Path):
    config = ServiceConfig(host="192.0.2.7", keys=str(tmp_path / "keys.json"), log="off")
    with pytest.raises(ConfigError, match="other machines"):
        _listen(config, has_keys=False, insecure=0)
    with pytest.raises(ConfigError, match="cannot listen"):  # the address is none of this machine's
        _listen(config, has_keys=False, insecure=1)


@pytest.mark.parametrize(
    ("address", "exposure"),
    [
        ("127.0.0.1", 0),
        ("127.8.8.8", 0),
        ("::1", 0),
        ("::ffff:127.0.0.1", 0),
        ("192.0.2.7", 1),
        ("::ffff:192.0.2.7", 1),
        ("fe80::1%eth0", 1),
        ("0.0.0.0", 2),
        ("::", 2),
        ("::ffff:0.0.0.0", 2),
    ],
)
def test_exposure_of_addresses(address: str, exposure: int):
    assert _exposure(address) == exposure


def test_the_command_counts_its_words(tmp_path: Path):
    options = [
        "serve",
        "--host",
        "0.0.0.0",
        "--port",
        "1",
        "--store",
        str(tmp_path),
        "--keys",
        str(tmp_path / "k.json"),
    ]
    for words in ([], ["--insecure"]):
        done = CliRunner().invoke(app, [*options, *words])
        assert isinstance(done.exception, ConfigError)
        assert "every network" in done.exception.message


def test_keys_suffice(tmp_path: Path):
    create_key(tmp_path / "keys.json", "a", "read")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = ServiceConfig(host="0.0.0.0", port=port, keys=str(tmp_path / "keys.json"), log="off")
    _listen(config, has_keys=True, insecure=0).close()
