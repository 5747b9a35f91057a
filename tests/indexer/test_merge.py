"""The merge: its result does not depend on threads, and errors of a layer end it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tegakari.indexer import merged_layer
from tegakari.store.disk.layout import run_directory
from tests.support.factories import make_run
from tests.support.run_tables import tables_of


def files_of(run: Path) -> dict[str, bytes]:
    """Content of the blocks and activation files, by path."""
    files = [*(run / "hot").iterdir(), *(run / "activations").rglob("*.parquet")]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


def test_the_number_of_threads_does_not_change_the_run(tmp_path: Path):
    for threads in (1, 3):
        make_run(tmp_path / str(threads), "a", layers=5, threads=threads)
    one, three = (run_directory(tmp_path / name, "a") for name in ("1", "3"))
    assert tables_of(one) == tables_of(three)
    assert files_of(one) == files_of(three)
    assert len(files_of(one)) > 20


def test_an_error_in_a_layer_is_raised_and_nothing_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original = merged_layer.LayerMerge.merge

    def failing(self, layer: int, d_sae: int):
        if layer == 2:
            raise OSError(28, "No space left on device")
        return original(self, layer, d_sae)

    monkeypatch.setattr(merged_layer.LayerMerge, "merge", failing)
    with pytest.raises(OSError, match="No space left"):
        make_run(tmp_path, "a", layers=5, threads=2)
    assert not run_directory(tmp_path, "a").exists()
