"""Files that claim gigabytes without having them: refused before anything is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.models.model_files import check_model_directory
from tegakari.models.sae_formats import load_sae
from tegakari.schemas.errors import ModelError, ModelNotHereError, SaeError
from tegakari.schemas.run import Locations, RunManifest
from tegakari.store import Store
from tegakari.store.disk.layout import MANIFEST, run_directory
from tegakari.store.disk.publish import damaged_files
from tests.support.factories import make_run
from tests.support.service import RUN

GIGABYTES = 30 * 10**9


@contextmanager
def at_once() -> Iterator[None]:
    """Reading 30 GB takes ten seconds at least."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 2


def sparse(file: Path, start: bytes = b"") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(start)
    os.truncate(file, GIGABYTES)


@pytest.fixture
def claimed(tmp_path: Path) -> Callable[..., Store]:
    """Makes a store whose run names these directories, with these sizes."""

    def make(classifier: Path, saes: Path, *, size: int | None) -> Store:
        manifest = make_run(tmp_path / "store", RUN)
        replace = msgspec.structs.replace
        changed = replace(
            manifest,
            locations=Locations(classifier=str(classifier), saes=str(saes)),
            classifier=replace(manifest.classifier, size=size),
            saes=replace(manifest.saes, size=size),
        )
        assert isinstance(changed, RunManifest)
        (run_directory(tmp_path / "store", RUN) / MANIFEST).write_bytes(msgspec.json.encode(changed))
        return Store(tmp_path / "store")

    return make


@pytest.mark.parametrize(
    ("size", "reason"), [(1000, "not 1,000"), (GIGABYTES, "not on the disk"), (None, "not on the disk")]
)
def test_a_sparse_file_of_a_model_is_not_hashed(
    claimed: Callable[..., Store], tmp_path: Path, size: int | None, reason: str
):
    sparse(tmp_path / "classifier" / "model.safetensors")
    store = claimed(tmp_path / "classifier", tmp_path, size=size)
    with at_once(), pytest.raises(ModelNotHereError, match=reason):
        load_run_models(store.run(RUN), "cpu")


def test_a_whole_file_system_is_not_searched_for_models(claimed: Callable[..., Store], tmp_path: Path):
    store = claimed(Path("/"), Path("/"), size=None)
    with pytest.raises(ModelError, match="more than 10,000 files"):
        load_run_models(store.run(RUN), "cpu")
    del tmp_path


def test_a_sparse_file_of_a_run_is_not_hashed(tmp_path: Path):
    manifest = make_run(tmp_path, RUN)
    entry = max(manifest.files, key=lambda file: file.size)
    os.truncate(run_directory(tmp_path, RUN) / entry.path, GIGABYTES)
    with at_once():
        assert damaged_files(tmp_path, RUN) == [f"{entry.path}: has {GIGABYTES:,} bytes, not {entry.size:,}"]


def test_sparse_weights_of_a_classifier_are_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    sparse(tmp_path / "model.safetensors")
    with at_once(), pytest.raises(ModelError, match="not on the disk"):
        check_model_directory(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        ("cfg.json", "sae_weights.safetensors"),
        ("cfg.json", "sae.safetensors"),
        ("config.json", "ae.pt"),
        ("params.npz",),
    ],
)
def test_sparse_weights_of_an_sae_are_refused(tmp_path: Path, files: tuple[str, ...]):
    (tmp_path / files[0]).write_text("{}")
    header = b'{"W_enc":{"dtype":"F32","shape":[1000,7500000],"data_offsets":[0,30000000000]}}'
    sparse(tmp_path / files[-1], len(header).to_bytes(8, "little") + header)
    with at_once(), pytest.raises(SaeError, match="not on the disk"):
        load_sae(tmp_path)


def test_an_archive_of_weights_that_unpacks_to_far_more_is_refused(tmp_path: Path):
    zeros = np.zeros((1000, 100_000), np.float32)
    np.savez_compressed(tmp_path / "params.npz", W_enc=zeros, W_dec=zeros[:1], b_enc=zeros[0], b_dec=zeros[0])
    assert (tmp_path / "params.npz").stat().st_size < 2_000_000
    with pytest.raises(SaeError, match="unpacks to"):
        load_sae(tmp_path)
