"""`tegakari study` and `compare` on drawn runs, which have no models: every part that needs one is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tegakari.cli.app import app
from tests.support.factories import make_run

SKIP = ("circuit", "knockouts", "variants")
SKIPS = tuple(part for name in SKIP for part in ("--skip", name))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("study")
    for seed, name in enumerate(("a1", "a2", "b1", "b2")):
        make_run(directory, name, seed=seed)
    return directory


def invoke(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", str(store)])


def test_replicates_are_compared_without_models(store: Path, tmp_path: Path):
    report, tables = tmp_path / "report.md", tmp_path / "tables"
    result = invoke(
        store, "study", "--run", "a1", "--run", "a2", "--against", "b1", "--against", "b2", *SKIPS, "--format", "md",
        "-o", str(report), "--tables", str(tables),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"Skipped, as the settings say: {', '.join(SKIP)}." in result.output
    assert "a1 and a2" in result.output
    assert report.read_text(encoding="utf-8").startswith("# Study of a1 and a2 against b1 and b2")
    assert (tables / "differences.csv").read_text().count("true") >= 3


def test_the_result_is_printed_as_json(store: Path):
    arguments = (*SKIPS, "--skip", "matching", "--pooling", "max", "--json")
    result = invoke(store, "study", "--run", "a1", "--run", "b1", *arguments)
    assert result.exit_code == 0, result.output
    study = json.loads(result.stdout)
    assert study["groups"] == [["a1"], ["b1"]]
    assert study["settings"]["pooling"] == "max"
    assert all(not row["covers_training"] for row in study["differences"])


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        (("--run", "a1", "--against", "b1", "--against", "b2"), "--against", "the spread of one run is not known"),
        (("--run", "a1", "--run", "a2", "--run", "b1"), "--run", "3 runs are given"),
        (("--run", "a1", "--skip", "circuits"), "skip", "circuits"),
        (("--run", "a1", "--concepts", "none.json"), "--concepts", "cannot read none.json"),
    ],
)
def test_wrong_options_are_explained(store: Path, arguments: tuple[str, ...], field: str, message: str):
    from tegakari.schemas.errors import ConfigError

    result = invoke(store, "study", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert field in (result.exception.field or "")
    assert message in result.exception.message


def test_counts_by_chance_stand_beside_shared_features(store: Path):
    result = invoke(store, "compare", "--run", "a1", "--run", "a2", "--json")
    assert result.exit_code == 0, result.output
    layer = json.loads(result.stdout)["layers"][0]
    assert {"cutoff", "pairs", "by_chance"} == layer["by_correlation"][0].keys()
    assert "Directions are not compared" in invoke(store, "compare", "--run", "a1", "--run", "a2").output
