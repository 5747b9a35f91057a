"""`tegakari circuit` on a small run: tables, warning-free and by both definitions, JSON and figure."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tegakari.cli.app import app
from tegakari.indexer.pipeline import index
from tests.support.small_case import SmallCase, with_index


def test_a_circuit_by_both_definitions(small_case: SmallCase, tmp_path: Path):
    store = tmp_path / "store"
    index(with_index(small_case, store))
    figure = tmp_path / "circuit.svg"
    command = ["circuit", "--run", "small", "--store", str(store), "--device", "cpu", "--pairs", "40"]
    command += ["--min-cosine", "-1"]
    output = CliRunner().invoke(app, [*command, "--plot", str(figure)], catch_exceptions=False).output
    assert "(robust)" in output
    assert "below the minimum gain" in output
    assert "in float32" in output
    assert ">ratio of means<" in figure.read_text()
    CliRunner().invoke(app, [*command, "--plot", str(figure), "--own-scale"], catch_exceptions=False)
    assert ">ratio of means / largest of the run<" in figure.read_text()
    results = {}
    for membership in ("robust", "study"):
        arguments = [*command, "--membership", membership, "--json"]
        (results[membership],) = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)["items"]
    for membership, result in results.items():
        assert result["settings"]["membership"] == membership
        assert [row["in_circuit"] for row in result["components"]] == [
            row[f"in_{membership}_circuit"] for row in result["components"]
        ]
    effects = [[(row["effect"], row["study_effect"]) for row in result["components"]] for result in results.values()]
    assert effects[0] == effects[1]
    wrong = CliRunner().invoke(app, [*command, "--membership", "mean"])
    assert wrong.exit_code != 0
