"""`tegakari knockout table` and its `--layer`: on a small run, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tegakari.cli.app import app
from tegakari.cli.layer_selection import read_layer_selection
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import ConfigError
from tests.support.small_case import LABELS, SmallCase, with_index


@pytest.fixture(scope="module")
def store(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("knockout-table") / "store"
    index(with_index(small_case, directory))
    return directory


def table(store: Path, *options: str) -> Result:
    arguments = ["knockout", "table", "--run", "small", "-k", "4", "--store", str(store), "--device", "cpu", *options]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})


def test_a_table_names_its_layer_its_means_and_the_quality_of_the_sae(store: Path):
    result = table(store, "--holdout", "--draws", "2")
    assert result.exit_code == 0, result.output
    assert "of largest mean net effect, by layer 0: " in result.output
    assert f"of {len(LABELS)} labels are beyond their control" in result.output
    assert "explained variance" in result.output
    rows = json.loads(table(store, "--holdout", "--draws", "2", "--json").stdout)["items"]
    assert len({row["settings"]["layer"] for row in rows}) == 1
    assert all(row["settings"]["holdout"] for row in rows)
    assert not any(row["beyond_control"] for row in rows)  # the classifier is random


def test_a_table_in_given_layers(store: Path):
    for layer in ("1", "small=1"):
        rows = json.loads(table(store, "--layer", layer, "--draws", "0", "--json").stdout)["items"]
        assert {row["settings"]["layer"] for row in rows} == {1}
    per_label = table(store, "--layer", "per-label", "--draws", "0", "--json")
    assert len(json.loads(per_label.stdout)["items"]) == len(LABELS)


def test_layers_are_read():
    assert read_layer_selection(None) is None
    assert read_layer_selection(["24"]) == 24
    assert read_layer_selection(["per-label"]) == "per-label"
    assert read_layer_selection(["A=24", "B=22"]) == {"A": 24, "B": 22}


@pytest.mark.parametrize("text", ["", "x", "-1", "A", "A=", "A=x", "=3", "A=1 2", "A=1 A=2", "1 A=2", "per-label A=1"])
def test_other_layers_are_refused(text: str):
    with pytest.raises(ConfigError) as refused:
        read_layer_selection(text.split() or [""])
    assert refused.value.field == "--layer"
    assert refused.value.fix
