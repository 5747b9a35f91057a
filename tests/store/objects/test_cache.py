"""A cache of a bucket: in step with it, evicted by size and use, never a run that is open, served through an outage."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.schemas.errors import DiskFullError, NotFoundError, NotPulledError, ObjectStorageError, StoreError
from tegakari.store import Store
from tegakari.store.cached import CachedStore, open_store
from tegakari.store.disk.garbage import find_garbage
from tegakari.store.disk.layout import use_file
from tegakari.store.disk.publish import delete_run
from tegakari.store.objects.bucket import Bucket, Retry
from tegakari.store.objects.cache import Cache, CacheSettings
from tegakari.store.objects.published_runs import delete_published_run
from tegakari.store.objects.push import push_run
from tests.support.object_storage import Fault, Proxy, make_plain_run

QUICK = Retry(seconds=5, attempts=2, wait=0.01, longest_wait=0.05, silence=2)
NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three runs of about one size."""
    store = tmp_path_factory.mktemp("origin")
    for seed, name in enumerate(NAMES):
        make_plain_run(store, name, seed=seed)
    return store


@pytest.fixture
def bucket(s3_bucket: str, origin: Path) -> Bucket:
    bucket = Bucket(s3_bucket, QUICK)
    for name in NAMES:
        push_run(bucket, origin, name)
    return bucket


def size(store: Path, run: str = "first") -> int:
    return sum(entry.size for entry in Store(store).run(run).manifest.files)


def settle(cache: Cache) -> None:
    """Copy what is requested and what fits."""
    while cache._pull_next():
        pass


def test_runs_are_evicted_by_use_and_never_while_they_are_open(bucket: Bucket, origin: Path, tmp_path: Path):
    limit = int(2.5 * max(size(origin, name) for name in NAMES))
    cache = Cache(bucket, CacheSettings(tmp_path, limit))
    with pytest.raises(NotFoundError, match="no run 'none'"):
        cache.pull("none")
    (tmp_path / "catalogue").mkdir()
    cache.refresh()
    settle(cache)  # without a request, what fits
    store = open_store(tmp_path)
    assert isinstance(store, CachedStore)
    assert len(store.names()) == 2
    (remote,) = store.remote()
    opened, other = (store.run(name) for name in store.names())
    with pytest.raises(NotPulledError) as refusal:
        store.run(remote.run)
    assert refusal.value.retry_after
    settle(cache)  # both others are open
    with pytest.raises(NotPulledError, match=r"has [\d,]+ bytes; of the [\d,]+ of the cache, [\d,]+ are in use"):
        store.run(remote.run)
    assert set(store.names()) == {opened.name, other.name}
    closed = other.name
    del other
    store._used[closed] = time.monotonic() - 100
    store.release_idle()
    cache._retry_at.clear()
    settle(cache)
    assert set(store.names()) == {opened.name, remote.run}
    assert store.run(remote.run).manifest == Store(origin).run(remote.run).manifest
    with pytest.raises(NotPulledError):
        store.run(closed)


def test_the_least_recently_used_run_goes_first(bucket: Bucket, origin: Path, tmp_path: Path):
    cache = Cache(bucket, CacheSettings(tmp_path, int(2.5 * max(size(origin, name) for name in NAMES))))
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "use").mkdir()
    cache.refresh()
    for age, name in ((10, "first"), (20, "second")):
        cache.pull(name)
        use_file(tmp_path, name).touch()
        os.utime(use_file(tmp_path, name), (time.time() - age, time.time() - age))
    cache.pull("third")
    assert Store(tmp_path).names() == ["first", "third"]
    with pytest.raises(DiskFullError, match="more than the 1,000 of the cache"):
        Cache(bucket, CacheSettings(tmp_path, 1000))._make_room(cache._manifests["second"])


def test_new_deleted_and_replaced_runs_are_noticed_and_an_outage_deletes_nothing(
    bucket: Bucket, proxy: Proxy, origin: Path, tmp_path: Path
):
    cache = Cache(Bucket(bucket.url, QUICK), CacheSettings(tmp_path))
    (tmp_path / "catalogue").mkdir()
    cache.refresh()
    settle(cache)
    store = open_store(tmp_path)
    assert store.names() == list(NAMES)
    for path in ("list-type", "run.json"):
        proxy.set_faults(Fault(path=path, status=500))
        with pytest.raises(ObjectStorageError):
            cache.refresh()
        assert store.names() == list(NAMES)
    proxy.set_faults()
    held = store.run("second")
    delete_published_run(bucket, "first")
    delete_published_run(bucket, "second")
    make_plain_run(tmp_path / "newer", "second", seed=9)
    push_run(bucket, tmp_path / "newer", "second")
    cache.refresh()
    assert store.names() == ["third"]
    with pytest.raises(NotFoundError):
        store.run("first")
    with pytest.raises(NotPulledError):
        store.run("second")
    settle(cache)
    assert store.run("second").manifest.fingerprint != held.manifest.fingerprint


def test_a_service_starts_from_its_cache_while_the_bucket_is_away(bucket: Bucket, proxy: Proxy, tmp_path: Path):
    away = Bucket(bucket.url, QUICK)
    cache = tmp_path / "cache"
    proxy.set_faults(Fault(status=503))
    with pytest.raises(ObjectStorageError), Cache(away, CacheSettings(cache)).kept():
        pass
    proxy.set_faults()
    with Cache(away, CacheSettings(cache, poll_seconds=0.1)).kept():
        until = time.monotonic() + 20
        while len(Store(cache).names()) < 3 and time.monotonic() < until:
            time.sleep(0.05)
        with (
            pytest.raises(StoreError, match="another service uses the cache"),
            Cache(away, CacheSettings(cache)).kept(),
        ):
            pass
    proxy.set_faults(Fault(status=503))
    with Cache(away, CacheSettings(cache)).kept():
        assert open_store(cache).run("first").manifest.run == "first"


def test_analyses_of_an_evicted_run_are_no_garbage(bucket: Bucket, tmp_path: Path):
    cache = Cache(bucket, CacheSettings(tmp_path))
    (tmp_path / "catalogue").mkdir()
    cache.refresh()
    cache.pull("first")
    manifest = Store(tmp_path).run("first").manifest
    vectors = tmp_path / "vectors" / f"first-{manifest.fingerprint[:16]}"
    vectors.mkdir(parents=True)
    (vectors / "x").write_text(json.dumps(1))
    delete_run(tmp_path, "first")
    assert [entry.path for entry in find_garbage(tmp_path)] == []
    delete_published_run(bucket, "first")
    cache.refresh()
    assert [entry.path for entry in find_garbage(tmp_path)] == [vectors]


def test_a_full_cache_disk_is_reported_and_the_copy_goes_on_when_there_is_space(
    bucket: Bucket, origin: Path, tmp_path: Path
):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size(origin) // 2}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        with Cache(bucket, CacheSettings(disk)).kept():
            store = open_store(disk)
            until = time.monotonic() + 20
            reasons: set[str] = set()
            while time.monotonic() < until and not any("failed" in reason for reason in reasons):
                with pytest.raises(NotPulledError) as refusal:
                    store.run("first")
                reasons.add(str(refusal.value))
                time.sleep(0.05)
            assert any("the last attempt to copy it failed" in reason for reason in reasons), reasons
            assert store.names() == []
        subprocess.run(["mount", "-o", f"remount,size={8 * size(origin)}", str(disk)], check=True)
        cache = Cache(bucket, CacheSettings(disk))
        cache.refresh()
        settle(cache)
        assert open_store(disk).run("first").manifest == Store(origin).run("first").manifest
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
