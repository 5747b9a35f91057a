"""`document`, `documents`, `histogram`: the JSON is what the query of the store returns; files have the same rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from tegakari.access.local import LocalStore
from tegakari.cli.app import app
from tests.support.factories import LABELS, make_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("api")
    make_run(directory, "a")
    return directory


def invoke(store: Path, *arguments: str) -> str:
    command = [*arguments, "--run", "a", "--store", str(store)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_documents_are_filtered(store: Path):
    rows = LocalStore(store).documents("a", label=LABELS[1], correct=False).all()
    wrong = json.loads(invoke(store, "documents", "--label", LABELS[1], "--wrong", "--json"))
    assert wrong == {"items": msgspec.to_builtins(rows), "next": None}
    predicted = json.loads(invoke(store, "documents", "--predicted", LABELS[0], "--json"))["items"]
    assert predicted
    assert {row["predicted"] for row in predicted} == {LABELS[0]}


def test_a_document_has_its_text_and_features(store: Path, tmp_path: Path):
    (first, *_) = LocalStore(store).documents("a")
    detail = LocalStore(store).document("a", first.document, features=3, layer=1)
    file = tmp_path / "features.csv"
    arguments = ("document", "--document", first.document, "-k", "3", "--layer", "1", "--csv", str(file))
    assert json.loads(invoke(store, *arguments, "--json")) == msgspec.to_builtins(detail)
    with file.open(encoding="utf-8") as text:
        assert [int(row["feature"]) for row in csv.DictReader(text)] == [row.feature for row in detail.features]
    shown = invoke(store, *arguments)
    assert f"predicted {detail.predicted}" in shown
    assert all(f"{row.activation:.3f}" in shown for row in detail.features)


def test_a_histogram_counts_documents(store: Path, tmp_path: Path):
    feature = max(LocalStore(store).features("a"), key=lambda row: row.density)
    name = f"{feature.layer}:{feature.feature}"
    picture, file = tmp_path / "histogram.svg", tmp_path / "histogram.csv"
    output = invoke(store, "histogram", "--feature", name, "--plot", str(picture), "--csv", str(file), "--json")
    result = LocalStore(store).feature_histogram("a", feature.layer, feature.feature)
    assert json.loads(output) == msgspec.to_builtins(result)
    with file.open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    assert sum(int(row["documents"]) for row in rows) == result.documents > 0
    assert float(rows[-1]["high"]) == pytest.approx(result.edges[-1])
    assert "documents" in picture.read_text(encoding="utf-8")
