"""Shards of an index in parts, with shared bounds, and merged by a command of its own: the tables are equal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tegakari.indexer import merged_layer, shared_bounds
from tegakari.indexer.layer_tally import Bounds
from tegakari.indexer.parts import Part
from tegakari.indexer.pipeline import index, index_part, merge
from tegakari.indexer.shared_bounds import read_bounds, write_bounds
from tegakari.schemas.errors import ConfigError, StoreError
from tegakari.store.disk.durable import exclusive_lock
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index


def checksums(manifest) -> dict[str, str]:
    return {
        file.path: file.sha256 for file in manifest.files if file.path.startswith(("activations/", "contexts/", "hot/"))
    }


def test_parts_and_a_merge_of_its_own_give_the_same_run(
    small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each part takes over the bounds of those before, through their file."""
    whole = index(with_index(small_case, tmp_path / "whole")).manifest
    monkeypatch.setattr(shared_bounds, "SECONDS", 0.0)
    config = with_index(small_case, tmp_path / "parts")
    work = tmp_path / "parts" / "work" / "small"
    with pytest.raises(StoreError, match="of 10 shards of run 'small' are not indexed") as caught:
        merge(config)
    assert "--only shards" in str(caught.value.fix)
    left = []
    for number in (3, 1):
        part = index_part(config, part=Part(number, 3))
        assert not part.published
        left.append(part.missing)
    assert left == [7, 3]
    bounds = read_bounds(next(work.glob("bounds-*.npz")))
    assert sorted(bounds) == whole.saes.layers
    assert all((of_layer.floor > 0).any() for of_layer in bounds.values())
    with pytest.raises(StoreError, match=r"3 of 10 shards .* parts 2/3") as caught:
        merge(config)
    assert (caught.value.field, "--shards I/N" in str(caught.value.fix)) == ("--only", True)
    busy = StoreError("busy")
    with exclusive_lock(work / "lock-2-of-3", busy), pytest.raises(StoreError, match="part 2/3"):
        index_part(config, part=Part(2, 3))
    with exclusive_lock(work / "lock", busy), pytest.raises(StoreError, match="all shards"):
        index_part(config, part=Part(2, 3))
    assert index_part(config, part=Part(2, 3)).missing == 0
    # Eight features and little more at a time; the shards of `whole` were merged in one range.
    monkeypatch.setattr(merged_layer, "memory_of_ranges", lambda *_, **__: 1)
    manifest = merge(config).manifest
    assert tables_of(tmp_path / "parts" / "runs" / "small") == tables_of(tmp_path / "whole" / "runs" / "small")
    assert checksums(manifest) == checksums(whole)
    assert index_part(config, part=Part(2, 3)).published
    assert merge(config).already_published
    assert [path.name for path in (tmp_path / "parts" / "work").iterdir()] == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", " 1/3"])
def test_a_part_of_another_form_is_refused(text: str):
    with pytest.raises(ConfigError, match="is not a part") as caught:
        Part.parse(text)
    assert caught.value.field == "--shards"


def test_parts_are_disjoint_and_complete():
    shards = list(range(11))
    parts = [Part.parse(f"{number}/4").of(shards) for number in (1, 2, 3, 4)]  # type: ignore[arg-type]
    assert sorted(shard for part in parts for shard in part) == shards


def test_a_damaged_file_of_bounds_is_no_hint(tmp_path: Path):
    file = tmp_path / "bounds.npz"
    assert read_bounds(file) == {}
    bounds = Bounds(torch.tensor([0.5, 2.0]), torch.tensor([7, 2**62]))
    write_bounds(file, {3: bounds})
    assert [column.tolist() for column in read_bounds(file)[3]] == [column.tolist() for column in bounds]
    content = bytearray(file.read_bytes())
    content[content.index(bounds.floor.numpy().tobytes())] ^= 1
    file.write_bytes(content)
    assert read_bounds(file) == {}
    file.write_bytes(content[: len(content) // 2])
    assert read_bounds(file) == {}
