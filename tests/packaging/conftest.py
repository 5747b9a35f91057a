"""Wheel, source distribution and bare environments, made once per run of the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tegakari.store.vectors import publish_added
from tests.support.environments import make_environment, run
from tests.support.factories import D_MODEL, make_run, random_case
from tests.support.serving import serving

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the wheel and the source distribution of this checkout.

    Built from a copy of the tracked files, so that nothing that lies around can get in, and nothing is left behind.
    """
    directory = tmp_path_factory.mktemp("distributions")
    source = directory / "source"
    source.mkdir()
    listing = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    files = [name for name in listing.split("\0") if name and (ROOT / name).exists()]
    archive = directory / "files.tar"
    (directory / "names").write_text("\0".join(files), encoding="utf-8")
    run("tar", "-cf", archive, "--null", "-T", directory / "names", cwd=ROOT)
    run("tar", "-xf", archive, "-C", source)
    # setuptools changes sys.argv, hence the name.
    program = "import sys, setuptools.build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"
    builder = make_environment(directory / "builder")
    run(builder, "-m", "pip", "install", "--quiet", "setuptools>=77")
    run(builder, "-c", program, directory, cwd=source)
    return directory


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    (file,) = distributions.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def sdist(distributions: Path) -> Path:
    (file,) = distributions.glob("*.tar.gz")
    return file


@pytest.fixture(scope="session")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with `pip install tegakari` and nothing else."""
    python = make_environment(tmp_path_factory.mktemp("bare") / "environment")
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    return python


@pytest.fixture(scope="session", autouse=True)
def package_index() -> None:
    """Skip where no package index can be reached: environments cannot be made there."""
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "-d",
        "/dev/shm",
        "typing_extensions==4.16.0",
    ]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("no package index can be reached")


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service, run from this checkout's environment, over a store with the run demo-jpn."""
    store = tmp_path_factory.mktemp("store")
    manifest = make_run(store, "demo-jpn")
    case = random_case()
    random = np.random.default_rng(5)
    directions = {layer: random.normal(size=(40, D_MODEL)).astype(np.float32) for layer in range(3)}
    embeddings = random.normal(size=(len(case.documents), D_MODEL)).astype(np.float32)
    publish_added(store, manifest, directions, [embeddings], [document.text for document in case.documents])
    with serving("--store", store) as (url, _):
        yield url
