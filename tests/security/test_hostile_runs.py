"""Runs of others, opened by every reader: no crash, nothing read outside of the run, no answer but the honest one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tegakari.schemas.errors import StoreError
from tegakari.store.disk.publish import adopt_run
from tegakari.store.reader import Store
from tests.support.factories import make_run
from tests.support.hostile_runs import HONEST, HOSTILE_RUNS, SECRET, copy_run, outside

SECONDS = 900
"""Time limit of the readers of all runs; they take a minute on a free machine."""

ABOUT_FILES = ("verify", "runs show")
"""Readers that show checksums, which differ."""

Outcomes = dict[str, dict[str, str] | None]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Run -> reader -> what it showed; None: the reader's process ended."""
    store = tmp_path_factory.mktemp("hostile") / "store"
    make_run(store, HONEST, layers=2, d_sae=12, documents_per_label=2)
    base = store / "runs" / HONEST
    outside(base).write_text(SECRET)
    for name, run in HOSTILE_RUNS.items():
        run.change(copy_run(base, name))
    results: Outcomes = {}
    waiting = [HONEST, *HOSTILE_RUNS]
    while waiting:
        command = [sys.executable, "-m", "tests.support.hostile_readers", str(store), *waiting]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            check=False,
            text=True,
            timeout=SECONDS,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "COLUMNS": "200"},
        )
        results.update(json.loads(line) for line in done.stdout.splitlines())
        waiting = [name for name in waiting if name not in results]
        if waiting:  # the process died on the first of them
            results[waiting.pop(0)] = None
    return results


def test_the_readers_show_the_honest_run(outcomes: Outcomes):
    base = outcomes[HONEST]
    assert base is not None
    refused = {name for name, shown in base.items() if shown.startswith(("refused", "failed"))}
    # The run has neither vectors nor analyses.
    assert refused == {
        "GET /circuit",
        "GET /search?q=car",
        "GET /layers/1/features/2/neighbours",
        *(name for name in base if name.endswith("/similar")),
    }
    assert all(not base[name].startswith("failed") for name in refused)
    assert len(base) > 30


@pytest.mark.parametrize("name", HOSTILE_RUNS)
def test_a_hostile_run_is_refused_or_shows_nothing_else(outcomes: Outcomes, name: str):
    shown, base = outcomes[name], outcomes[HONEST]
    assert shown is not None, "the reader died"
    assert base is not None
    for reader, text in shown.items():
        assert SECRET not in text, reader
        assert not text.startswith("failed"), (reader, text)
        if not text.startswith("refused") and not HOSTILE_RUNS[name].shows_itself and reader not in ABOUT_FILES:
            assert text == base[reader], reader
    if not HOSTILE_RUNS[name].shows_itself and not name.startswith("macro") and name != "table-macro":
        assert any(text.startswith("refused") for text in shown.values()), "no reader noticed it"


@pytest.mark.parametrize("name", [name for name in HOSTILE_RUNS if name.startswith("link") or name == "pipe"])
def test_a_run_with_links_is_never_copied_into_a_store(tmp_path: Path, name: str):
    make_run(tmp_path / "store", HONEST, layers=2, d_sae=12, documents_per_label=2)
    base = tmp_path / "store" / "runs" / HONEST
    outside(base).write_text(SECRET)
    run = copy_run(base, name)
    HOSTILE_RUNS[name].change(run)
    if name == "link-for-the-run":  # the user names the directory; its content is an honest run
        assert adopt_run(tmp_path / "target", run).run == HONEST
        return
    with pytest.raises(StoreError):
        adopt_run(tmp_path / "target", run)
    assert not list((tmp_path / "target").rglob("run.json"))


def test_a_hostile_run_does_not_hide_the_others(tmp_path: Path):
    make_run(tmp_path, HONEST, layers=2, d_sae=12, documents_per_label=2)
    (tmp_path / "outside.txt").write_text(SECRET)
    for name in ("name-with-a-path", "link-to-the-run", "manifest-deep", "layers-negative"):
        HOSTILE_RUNS[name].change(copy_run(tmp_path / "runs" / HONEST, name))
    assert [run.name for run in Store(tmp_path).runs()] == [HONEST]
    shutil.rmtree(tmp_path / "runs")
