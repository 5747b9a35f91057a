"""The merge: its files do not depend on threads or memory, its memory is bounded, it resumes, and errors end it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.study_scale import TOP_TOKENS, Size, write_study_shards
from tegakari.indexer import merged_layer
from tegakari.indexer.executors import InProcess
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.merge import merged_layers
from tegakari.indexer.merge_memory import GIGABYTE
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.shard import Shard
from tegakari.schemas.errors import ConfigError
from tegakari.store.disk.layout import run_directory
from tests.support.factories import make_run
from tests.support.run_tables import tables_of


def files_of(run: Path) -> dict[str, bytes]:
    """Content of the blocks and activation files, by path."""
    files = [*(run / "hot").iterdir(), *(run / "activations").rglob("*.parquet")]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


def test_threads_and_memory_do_not_change_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path / "one", "a", layers=5, executor=InProcess(1))
    whole = run_directory(tmp_path / "one", "a")
    assert len(files_of(whole)) > 20
    for memory in (1, 20_000):  # of 40 features, 8 and a few more at a time
        monkeypatch.setattr(merged_layer, "memory_of_ranges", lambda *_, memory=memory, **__: memory)
        make_run(tmp_path / str(memory), "a", layers=5, executor=InProcess(3))
        run = run_directory(tmp_path / str(memory), "a")
        assert tables_of(run) == tables_of(whole)
        assert files_of(run) == files_of(whole)


class Descending:
    """Executor that merges layer after layer, the last first, when the next one is requested."""

    def __init__(self) -> None:
        self.merged: list[int] = []

    def index(self, *_: object) -> Iterator[Shard]:
        raise NotImplementedError

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        for layer, d_sae in sorted(layers.items(), reverse=True):
            self.merged.append(layer)
            merge.merge(layer, d_sae)
            yield layer


def test_layers_are_written_in_their_order_whatever_the_order_in_which_they_are_merged(tmp_path: Path):
    make_run(tmp_path / "ascending", "a", layers=5, executor=InProcess(1))
    make_run(tmp_path / "descending", "a", layers=5, executor=Descending())
    ascending, descending = (run_directory(tmp_path / name, "a") for name in ("ascending", "descending"))
    assert tables_of(descending) == tables_of(ascending)
    assert files_of(descending) == files_of(ascending)


def test_a_layer_is_passed_on_before_the_others_are_merged(tmp_path: Path):
    size = Size(layers=4, d_sae=64, labels=3, documents=16, active=4)
    _, shards = write_study_shards(tmp_path, size)
    merge = LayerMerge(
        tmp_path / "shards",
        [shard.key for shard in shards],
        tmp_path / "layers",
        size.labels,
        MergeSettings("head", 1.0, TOP_TOKENS),
        GIGABYTE // 2,
    )
    merge.merge(0, size.d_sae)
    merge.merge(3, size.d_sae)
    executor = Descending()
    layers = merged_layers(merge, dict.fromkeys(range(4), size.d_sae), executor)
    merged = [(layer, list(executor.merged)) for layer in layers]
    assert merged == [(0, []), (1, [2, 1]), (2, [2, 1]), (3, [2, 1])]


@pytest.mark.parametrize("full_part", ["features", "entries"])
def test_an_error_in_a_layer_is_raised_and_the_next_merge_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_part: str
):
    original = LayerMerge.merge
    merged: list[tuple[int, str]] = []
    full = True

    def failing(self, layer: int, d_sae: int):
        if full and layer == 2 and self.part == full_part:
            raise OSError(28, "No space left on device")
        merged.append((layer, self.part))
        original(self, layer, d_sae)

    monkeypatch.setattr(LayerMerge, "merge", failing)
    with pytest.raises(OSError, match="No space left"):
        make_run(tmp_path, "a", layers=5, executor=InProcess(1))
    assert not run_directory(tmp_path, "a").exists()
    assert merged
    assert (2, full_part) not in merged
    full = False
    make_run(tmp_path, "a", layers=5, executor=InProcess(1))
    assert sorted(merged) == [(layer, part) for layer in range(5) for part in ("entries", "features")]  # each once
    make_run(tmp_path / "at once", "a", layers=5)
    assert files_of(run_directory(tmp_path, "a")) == files_of(run_directory(tmp_path / "at once", "a"))


def test_the_memory_of_a_layer_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """NumPy's arrays, which are all that grows: without the bound they would take 50 MB and more."""
    size = Size(layers=1, d_sae=4096, labels=20, documents=640, active=200, d_model=8)
    _, shards = write_study_shards(tmp_path, size)
    keys, settings = [shard.key for shard in shards], MergeSettings("head", 1.0, TOP_TOKENS)
    peaks = []
    for memory in (2 * 10**6, 2 * 10**8):
        monkeypatch.setattr(merged_layer, "memory_of_ranges", lambda *_, memory=memory, **__: memory)
        merge = LayerMerge(tmp_path / "shards", keys, tmp_path / str(memory), size.labels, settings, 1)
        for part in (merge, merge._replace(part="entries")):
            tracemalloc.start()
            part.merge(0, size.d_sae)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    whole_layer = size.d_sae * (1000 + 12 * TOP_TOKENS)
    assert max(peaks[:2]) < 2 * 10**6 + whole_layer + 2 * 10**6
    assert peaks[2] > 2 * peaks[0]
    assert peaks[3] > 2 * peaks[1]


def test_too_little_memory_is_an_error_that_says_how_much_is_needed(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"0\.01 GB are too little to merge a layer of 40 features") as caught:
        make_run(tmp_path, "a", memory=10**7)
    assert caught.value.field == "index.merge_memory_gb"
    needed = float(str(caught.value.fix).rpartition(" ")[2])
    make_run(tmp_path, "a", memory=round(needed * 10**9))
