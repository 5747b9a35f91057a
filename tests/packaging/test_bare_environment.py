"""`pip install tegakari` alone: the client and the commands that talk to a server; everything else names its extra."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.environments import run

ABSENT = ("torch", "duckdb", "lancedb", "matplotlib", "pyarrow", "numpy", "litestar", "transformers", "structlog")
LARGEST_INSTALL = 29_000_000
"""bytes of the environment's packages, pip and setuptools left out"""


def tegakari(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "COLUMNS": "200"}
    command = [str(python.parent / "tegakari"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


def test_it_is_small(bare_python: Path):
    (packages,) = (bare_python.parents[1] / "lib").glob("python*/site-packages")
    files = [
        file
        for file in packages.rglob("*")
        if file.is_file()
        and file.relative_to(packages).parts[0].split("-")[0] not in ("pip", "setuptools", "_distutils_hack")
    ]
    assert not [name for name in ABSENT if (packages / name).exists()]
    assert sum(file.stat().st_size for file in files) < LARGEST_INSTALL


def test_the_client_imports_without_the_rest(bare_python: Path):
    program = (
        "import sys, tegakari, tegakari.client, tegakari.access.store\n"
        f"assert not {set(ABSENT)!r} & set(sys.modules)\n"
        "print(tegakari.__version__)"
    )
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run(bare_python, "-c", program))


def test_version_and_help(bare_python: Path):
    assert re.fullmatch(r"tegakari \d+\.\d+\.\d+\n", tegakari(bare_python, "--version").stdout)
    listing = tegakari(bare_python, "--help")
    assert listing.returncode == 0
    assert "knockout" in listing.stdout
    for command in re.findall(r"^│ ([a-z]+) ", listing.stdout, re.MULTILINE):
        assert tegakari(bare_python, command, "--help").returncode == 0, command


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("labels", "--run", "a", "--store", "/tmp"), "store"),
        (("runs", "export", "a", "--store", "/tmp", "--to", "/tmp/never"), "store"),
        (("sql", "SELECT 1", "--store", "/tmp"), "store"),
        (("mcp", "--store", "/tmp"), "mcp"),
        (("serve", "--store", "/tmp"), "serve"),
        (("keys", "list", "--keys", "/tmp/no-keys.json"), "serve"),
        (("circuit", "--run", "a", "--store", "/tmp"), "study"),
        (("study", "--run", "a", "--store", "/tmp", "-o", "/tmp/report.html"), "study"),
        (("demo", "/tmp/tegakari-demo-that-never-starts"), "all"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else value,
)
def test_a_command_names_its_extra(bare_python: Path, arguments: tuple[str, ...], extra: str):
    completed = tegakari(bare_python, *arguments)
    assert completed.returncode == 1, completed.stdout
    assert "Traceback" not in completed.stderr
    assert f"pip install 'tegakari[{extra}]'" in completed.stderr


def test_commands_work_against_a_server(bare_python: Path, server_url: str):
    assert [
        row["run"] for row in json.loads(tegakari(bare_python, "runs", "--store", server_url, "--json").stdout)["items"]
    ]
    table = tegakari(bare_python, "runs", "--store", server_url)
    assert table.returncode == 0, table.stderr
    assert "demo-jpn" in table.stdout
    labels = json.loads(tegakari(bare_python, "labels", "--run", "demo-jpn", "--store", server_url, "--json").stdout)
    label = labels["items"][0]["label"]
    for arguments in (
        ("features", "--run", "demo-jpn", "--label", label),
        ("feature", "--run", "demo-jpn", "--feature", "0:1"),
        ("specificity", "--run", "demo-jpn"),
        ("sparsity", "--run", "demo-jpn"),
        ("search", "--run", "demo-jpn", "車"),
        ("sql", "SELECT run, label FROM labels LIMIT 2"),
    ):
        completed = tegakari(bare_python, *arguments, "--store", server_url)
        assert completed.returncode == 0, (arguments, completed.stderr)
        assert len(completed.stdout.splitlines()) > 2


def test_the_python_api_works_against_a_server(bare_python: Path, server_url: str):
    program = (
        "import sys, tegakari\n"
        "run = tegakari.connect(sys.argv[1])['demo-jpn']\n"
        "label = run.labels()[0].label\n"
        "rows = run.label(label).features()\n"
        "assert rows[0].cohens_d >= rows[1].cohens_d and len(rows[:3]) == 3\n"
        "print(run, run.feature(0, 1), rows, sep='\\n')\n"
        "assert '<table>' in run._repr_html_()\n"
    )
    assert "<Run demo-jpn:" in run(bare_python, "-c", program, server_url)
