"""Files of others that cannot be read in bounded time and memory: pipes, devices, sparse files, whole disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.schemas.errors import ConfigError, ModelNotHereError, NotFoundError, StoreError
from tegakari.service.admission.keys import read_keys
from tegakari.store import Store
from tegakari.store.disk.contents import read_bounded
from tegakari.store.disk.publish import adopt_run, damaged_files, read_manifest
from tegakari.store.results import stored_analyses
from tests.support.asgi import AsgiClient, asgi_client
from tests.support.factories import make_run

HONEST, HOSTILE = "honest", "hostile"


def sparse(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(2**40)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def linked(target: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        file.unlink()
        file.symlink_to(target)

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "sparse": sparse,
    "pipe": pipe,
    "endless device": linked("/dev/zero"),
    "terminal": linked("/dev/tty"),
    "another file": linked("/etc/passwd"),
    "itself": lambda file: linked(str(file))(file),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    for name in (HONEST, HOSTILE):
        make_run(tmp_path, name, layers=1, d_sae=8, documents_per_label=2)
    yield tmp_path
    for file in tmp_path.rglob("*.json"):
        file.unlink()


def test_every_run_json_is_read_in_bounds_or_not_at_all(store: Path):
    """In a process of its own, with little memory and time: a failure would take all of either."""
    for name, change in CHANGES.items():
        directory = store / "runs" / name.replace(" ", "-")
        shutil.copytree(store / "runs" / HOSTILE, directory)
        change(directory / "run.json")
    program = (
        "import resource, sys\n"
        "from tests.security.test_unreadable_files import try_readers\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))\n"
        "try_readers(sys.argv[1])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(store)],
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == str(len(CHANGES))


def try_readers(directory: str) -> None:
    """Fail unless each changed run is refused by every reader, and the others are listed."""
    store, names = Path(directory), [name.replace(" ", "-") for name in CHANGES]
    with asgi_client(store) as client:
        for name in names:
            response = client.request("GET", f"/v1/runs/{name}".encode())
            assert response.status in (404, 500), (name, response.body)
            assert b"internal-error" not in response.body, name
            assert b"root:" not in response.body
        listed = client.request("GET", b"/v1/runs")
        assert [run["run"] for run in json.loads(listed.body)["items"]] == [HONEST, HOSTILE]
    for name in names:
        for read in (
            lambda: read_manifest(store / "runs" / name),  # noqa: B023 - called in this turn
            lambda: damaged_files(store, name),  # noqa: B023
            lambda: Store(store).run(name),  # noqa: B023
            lambda: adopt_run(store / "other", store / "runs" / name),  # noqa: B023
        ):
            with pytest.raises((StoreError, NotFoundError, FileNotFoundError)):
                read()
    sys.stdout.write(f"{len(names)}\n")


@pytest.mark.parametrize("change", CHANGES)
def test_bounded_reading_refuses_what_is_no_small_file(tmp_path: Path, change: str):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bounded(file, 5) == b"12345"
    with pytest.raises(OSError, match="larger"):
        read_bounded(file, 4)
    CHANGES[change](file)
    with pytest.raises(OSError):  # noqa: PT011 - of several kinds
        read_bounded(file, 1000)


@pytest.mark.parametrize("change", ["sparse", "pipe", "endless device"])
def test_an_analysis_is_read_in_bounds_or_left_out(store: Path, change: str):
    directory = store / "analyses" / "circuit" / ("0" * 32)
    directory.mkdir(parents=True)
    (directory / "analysis.json").write_text("{}")
    CHANGES[change](directory / "analysis.json")
    assert list(stored_analyses(store)) == []


def test_a_sparse_file_of_keys_is_refused(tmp_path: Path):
    file = tmp_path / "keys.json"
    file.write_text("{}")
    sparse(file)
    with pytest.raises(ConfigError, match=r"keys\.json"):
        read_keys(file)
    target = tmp_path / "secret.json"  # as orchestrators mount secrets
    target.write_text('{"keys": []}')
    (tmp_path / "link.json").symlink_to(target)
    assert read_keys(tmp_path / "link.json") == []


@pytest.mark.parametrize("location", ["a\0b", "x" * 5000, "/".join(["x" * 300] * 3), "/dev", "/etc/passwd", "\ud800"])
def test_a_run_can_name_any_path_for_its_models(store: Path, location: str):
    """They are not on this machine, whatever the file system says about the name."""
    file = store / "runs" / HOSTILE / "run.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "locations": {"classifier": location, "saes": location}}))
    with asgi_client(store) as client:
        check_no_failure(client)
    with pytest.raises((ModelNotHereError, StoreError)):
        load_run_models(Store(store).run(HOSTILE))


def check_no_failure(client: AsgiClient) -> None:
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    for method, target in (("GET", "classification"), ("POST", "classify"), ("POST", "encode")):
        response = client.request(method, f"/v1/runs/{HOSTILE}/{target}".encode(), headers, b'{"texts": ["a"]}')
        assert b"internal-error" not in response.body, response.body
        assert response.status in (200, 409, 500)
