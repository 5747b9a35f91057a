"""Push and pull through a real S3 server: identical bytes, one winner, and every fault on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.schemas.errors import (
    BrokenTransferError,
    ConfigError,
    DiskFullError,
    NotFoundError,
    ObjectStorageError,
    RunExistsError,
    StoreError,
)
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.run import RunManifest
from tegakari.store import Store
from tegakari.store.disk import publish as publish_module
from tegakari.store.disk.publish import damaged_files
from tegakari.store.objects import bucket as bucket_module
from tegakari.store.objects import creation as creation_module
from tegakari.store.objects import pull as pull_module
from tegakari.store.objects.bucket import Bucket, Retry
from tegakari.store.objects.published_runs import (
    abandoned_uploads,
    abandoned_work,
    delete_abandoned_work,
    delete_published_run,
    delete_upload,
    existing_run,
    published_run,
    published_runs,
)
from tegakari.store.objects.pull import pull_run
from tegakari.store.objects.push import push_run
from tegakari.store.objects.verify import damaged_objects
from tests.support.object_storage import Fault, Proxy

QUICK = Retry(seconds=5, attempts=3, wait=0.005, longest_wait=0.02, silence=2)


@pytest.fixture
def bucket(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(creation_module, "CREATION_SECONDS", 0.01)
    monkeypatch.setattr(pull_module, "PART", 40_000)
    monkeypatch.setattr(bucket_module, "CHUNK", 4_000)
    return Bucket(s3_bucket, QUICK)


@pytest.fixture
def faulty(proxy: Proxy, bucket: Bucket) -> Bucket:
    """The bucket through the proxy."""
    return Bucket(bucket.url, QUICK)


def contents(store: Path) -> dict[str, bytes]:
    directory = store / "runs" / "drawn"
    files = [file for file in directory.rglob("*") if file.is_file()]
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}


def paths(bucket: Bucket) -> list[str]:
    return [stored.path for stored in bucket.objects("")]


def largest(bucket: Bucket) -> str:
    """Path of the largest file of the run."""
    return max(existing_run(bucket, "drawn").manifest.files, key=lambda entry: entry.size).path


def own_store(store: Path, copy: Path) -> Path:
    shutil.copytree(store, copy)
    return copy


def test_a_run_comes_back_as_it_went(pushed_store: Path, bucket: Bucket, tmp_path: Path):
    push_run(bucket, pushed_store, "drawn")
    assert damaged_objects(bucket, "drawn") == []
    assert pull_run(bucket, "drawn", tmp_path) == Store(pushed_store).run("drawn").manifest
    assert contents(tmp_path) == contents(pushed_store)
    assert damaged_files(tmp_path, "drawn") == []
    assert list((tmp_path / "work").iterdir()) == list((pushed_store / "work").iterdir()) == []
    assert [run.manifest.run for run in published_runs(bucket)] == ["drawn"]
    for again in (lambda: push_run(bucket, pushed_store, "drawn"), lambda: pull_run(bucket, "drawn", tmp_path)):
        with pytest.raises(RunExistsError, match="'drawn' exists"):
            again()
    delete_published_run(bucket, "drawn")
    assert paths(bucket) == []
    for missing in (lambda: delete_published_run(bucket, "drawn"), lambda: pull_run(bucket, "drawn", tmp_path / "x")):
        with pytest.raises(NotFoundError, match="no run 'drawn' in s3://"):
            missing()


RACE = """
import os, sys
from pathlib import Path
from tegakari.schemas.errors import RunExistsError
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.push import push_run
waiting, start = os.pipe()
children = []
for store in sys.argv[2:]:
    child = os.fork()  # before the first request: obstore has no threads yet
    if not child:
        os.close(start)
        os.read(waiting, 1)  # until the parent closes its end
        try:
            push_run(Bucket(sys.argv[1]), Path(store), "drawn")
        except RunExistsError:
            os._exit(3)
        os._exit(0)
    children.append(child)
os.close(start)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_of_twelve_racing_publishers_one_wins_and_the_others_clean_up(
    pushed_store: Path, bucket: Bucket, tmp_path: Path
):
    stores = [str(own_store(pushed_store, tmp_path / f"store{number}")) for number in range(12)]
    done = subprocess.run(
        [sys.executable, "-c", RACE, bucket.url, *stores], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert sorted(codes) == [0] + [3] * 11, done.stderr
    upload = existing_run(bucket, "drawn").upload
    assert {path.split("/")[2] for path in paths(bucket)} == {upload, "run.json"}
    pull_run(bucket, "drawn", tmp_path / "pulled")
    assert contents(tmp_path / "pulled") == contents(pushed_store)


def test_a_server_that_fails_at_times_is_asked_again(pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path):
    store = own_store(pushed_store, tmp_path / "store")
    proxy.set_faults(*(Fault(method, status=503, code="SlowDown", times=2) for method in ("GET", "PUT")))
    push_run(faulty, store, "drawn")
    proxy.set_faults(Fault(path="/hot/", status=500, times=2), Fault(status=503, code="SlowDown", times=2))
    pull_run(faulty, "drawn", tmp_path)
    assert contents(tmp_path) == contents(pushed_store)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(path="/hot/", status=500), "could not read s3://"),
        (Fault(status=403, code="AccessDenied"), "no right to read s3://"),
        (Fault(path="list-type", status=403, code="AccessDenied"), "no right to list s3://"),
        (Fault("PUT", status=403, code="AccessDenied"), "no right to write s3://"),
        (Fault("POST", status=403, code="AccessDenied"), "no right to delete s3://"),
        (Fault("PUT", path="run.json", status=409, code="ConditionalRequestConflict"), "could not be created"),
    ],
)
def test_a_server_that_keeps_failing_ends_the_command_with_object_status_and_right(
    fault: Fault, words: str, pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path
):
    store = own_store(pushed_store, tmp_path / "store")
    proxy.set_faults(fault)

    def everything() -> None:
        push_run(faulty, store, "drawn")
        pull_run(faulty, "drawn", tmp_path)
        delete_published_run(faulty, "drawn")

    with pytest.raises(ObjectStorageError, match=words) as failure:
        everything()
    right = {"read": "GetObject", "write": "PutObject", "list": "ListBucket", "delete": "DeleteObject"}
    if fault.status == 403:
        action = words.split()[3]
        assert f"grant s3:{right[action]}" in (failure.value.fix or "")
        assert "403" in failure.value.message
    elif fault.status == 500:
        assert "500 Internal Server Error, InternalError, by the test" in failure.value.message
    assert failure.value.fix
    proxy.set_faults()
    if "delete" not in words:
        assert Store(tmp_path).names() == []
        if published_run(faulty, "drawn") is None:
            push_run(faulty, store, "drawn")  # the same command goes on
        pull_run(faulty, "drawn", tmp_path)
    assert contents(tmp_path) == contents(pushed_store)


def test_an_interrupted_push_sends_no_file_twice(pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path):
    store = own_store(pushed_store, tmp_path / "store")
    proxy.set_faults(Fault("PUT", path="index.duckdb", status=403, code="AccessDenied"))
    with pytest.raises(ObjectStorageError):
        push_run(faulty, store, "drawn")
    before = set(paths(faulty))
    assert before
    proxy.set_faults()
    push_run(faulty, store, "drawn")
    sent = [request.path for request in proxy.requests if request.method == "PUT"]
    assert not any(path.endswith(known) for path in sent for known in before)
    assert damaged_objects(faulty, "drawn") == []


def test_a_publisher_whose_reply_was_lost_has_won(pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path):
    """The server has created run.json; its repetition is refused with 412, by the publisher's own success."""
    store = own_store(pushed_store, tmp_path / "store")
    proxy.set_faults(Fault("PUT", path="run.json", status=500, times=1, lose_reply=True))
    push_run(faulty, store, "drawn")
    assert [request.path for request in proxy.requests if "run.json" in request.path and request.method == "PUT"][1:]
    assert damaged_objects(faulty, "drawn") == []


def test_a_conflict_of_two_writers_is_not_taken_for_a_winner(
    pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path
):
    store = own_store(pushed_store, tmp_path / "store")
    proxy.set_faults(Fault("PUT", path="run.json", status=409, code="ConditionalRequestConflict", times=2))
    push_run(faulty, store, "drawn")
    assert published_run(faulty, "drawn") is not None


def test_a_connection_that_is_cut_goes_on_where_it_was(
    pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path
):
    push_run(faulty, own_store(pushed_store, tmp_path / "store"), "drawn")
    proxy.set_faults(Fault(path="/runs/drawn/[0-9a-f]", cut_after=9_000, times=20))
    pull_run(faulty, "drawn", tmp_path)
    assert contents(tmp_path) == contents(pushed_store)
    size = sum(entry.size for entry in existing_run(faulty, "drawn").manifest.files)
    assert proxy.received("/drawn/") - len(contents(tmp_path)["run.json"]) < size + 20 * 5_000 + 5_000


def test_a_connection_that_brings_no_byte_ends_the_command(
    pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path
):
    push_run(faulty, own_store(pushed_store, tmp_path / "store"), "drawn")
    proxy.set_faults(Fault(path="index.duckdb", cut_after=0))
    with pytest.raises((BrokenTransferError, ObjectStorageError), match=r"index\.duckdb"):
        pull_run(faulty, "drawn", tmp_path)
    assert Store(tmp_path).names() == []


def test_a_slow_server_is_waited_for(pushed_store: Path, faulty: Bucket, proxy: Proxy, tmp_path: Path):
    push_run(faulty, own_store(pushed_store, tmp_path / "store"), "drawn")
    proxy.set_faults(Fault(path="index.duckdb", bytes_per_second=400_000, times=2))
    pull_run(faulty, "drawn", tmp_path)
    assert contents(tmp_path) == contents(pushed_store)


def test_a_flipped_bit_in_the_bucket_is_named_and_the_rest_is_kept(
    pushed_store: Path, bucket: Bucket, proxy: Proxy, tmp_path: Path
):
    push_run(bucket, own_store(pushed_store, tmp_path / "store"), "drawn")
    file = largest(bucket)
    content = bytearray((pushed_store / "runs" / "drawn" / file).read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "flipped").write_bytes(content)
    path = existing_run(bucket, "drawn").path(file)
    bucket.upload(path, tmp_path / "flipped")
    with pytest.raises(ObjectStorageError, match=f"{path}: content differs from its checksum"):
        pull_run(bucket, "drawn", tmp_path)
    assert Store(tmp_path).names() == []
    assert damaged_objects(bucket, "drawn") == [f"{file}: content differs from its checksum"]
    bucket.upload(path, pushed_store / "runs" / "drawn" / file)
    received = {item.name for item in tmp_path.glob("work/pull-*/verified/**/*") if item.is_file()}
    pull_run(Bucket(bucket.url, QUICK), "drawn", tmp_path)
    assert contents(tmp_path) == contents(pushed_store)
    requested = {request.path.rpartition("/")[2] for request in proxy.requests if request.range}
    assert not requested & received - {Path(file).name}


def test_a_run_that_is_deleted_while_it_is_pulled_is_not_found(
    pushed_store: Path, bucket: Bucket, faulty: Bucket, proxy: Proxy, tmp_path: Path
):
    push_run(bucket, own_store(pushed_store, tmp_path / "store"), "drawn")
    once = threading.Lock()

    def delete() -> None:
        if once.acquire(blocking=False):
            delete_published_run(bucket, "drawn")

    proxy.set_faults(Fault(path="index.duckdb", call=delete))
    with pytest.raises(NotFoundError, match="deleted or replaced while it was pulled"):
        pull_run(faulty, "drawn", tmp_path)
    assert Store(tmp_path).names() == []
    assert list((tmp_path / "work").iterdir()) == []


class _FillsTheDisk(NoProgress):
    def __init__(self, disk: Path) -> None:
        self.disk = disk

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        free = shutil.disk_usage(self.disk).free
        (self.disk / "filler").write_bytes(bytes(max(0, free - 64 * 1024)))


def test_a_full_disk_is_reported_with_numbers_and_the_pull_resumes(
    pushed_store: Path, bucket: Bucket, tmp_path: Path, proxy: Proxy
):
    push_run(bucket, own_store(pushed_store, tmp_path / "store"), "drawn")
    size = sum(entry.size for entry in existing_run(bucket, "drawn").manifest.files)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        with pytest.raises(DiskFullError, match=rf"needs {size:,} more bytes, and the disk of .* has [\d,]+"):
            pull_run(bucket, "drawn", disk)
        subprocess.run(["mount", "-o", f"remount,size={2 * size + 2**20}", str(disk)], check=True)
        with pytest.raises(DiskFullError, match="no space left"):  # another program fills it meanwhile
            pull_run(bucket, "drawn", disk, _FillsTheDisk(disk))
        assert Store(disk).names() == []
        (disk / "filler").unlink()
        pull_run(bucket, "drawn", disk)
        assert contents(disk) == contents(pushed_store)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    with pytest.raises(DiskFullError, match=f"has {size:,} bytes, more than the 1,000 of the cache"):
        pull_run(bucket, "drawn", tmp_path, max_bytes=1000)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["files"][0].update(path="../../escape"),
        lambda manifest: manifest["files"][0].update(path="run.json"),
        lambda manifest: manifest["files"].append(manifest["files"][0]),
        lambda manifest: manifest.update(run="other"),
        lambda manifest: manifest.update(positions=1),
    ],
)
def test_a_run_json_of_someone_else_is_checked(
    change: Callable[[dict], object], pushed_store: Path, bucket: Bucket, tmp_path: Path
):
    manifest = json.loads((pushed_store / "runs" / "drawn" / "run.json").read_bytes())
    change(manifest)
    content = json.dumps(manifest).encode()
    if manifest["positions"] != 1:  # signed by whoever wrote it
        with suppress(msgspec.ValidationError):
            content = publish_module._encode(msgspec.json.decode(content, type=RunManifest))
    bucket.create("runs/drawn/run.json", b'{"upload":"0123456789abcdef","manifest":' + content + b"}")
    with pytest.raises(StoreError):
        pull_run(bucket, "drawn", tmp_path)
    assert published_runs(bucket) == []
    assert not (tmp_path / "runs").exists()


def test_uploads_and_work_that_nobody_needs_are_found_after_a_day(pushed_store: Path, bucket: Bucket, tmp_path: Path):
    push_run(bucket, own_store(pushed_store, tmp_path / "store"), "drawn")
    bucket.create("runs/drawn/00000000000000aa/hot/rest.npy", b"12345")
    assert list(abandoned_uploads(bucket)) == []
    (abandoned,) = abandoned_uploads(bucket, datetime.now(UTC) + timedelta(days=2))
    assert abandoned == ("drawn", "00000000000000aa", 5)
    delete_upload(bucket, abandoned.run, abandoned.upload)
    bucket.create("work/drawn/0123-4567/shard.json", b"123")
    assert list(abandoned_work(bucket)) == []
    assert list(abandoned_work(bucket, datetime.now(UTC) + timedelta(days=2))) == [("drawn", 3)]
    delete_abandoned_work(bucket, "drawn")
    assert [path for path in paths(bucket) if not path.startswith("runs/")] == []
    assert damaged_objects(bucket, "drawn") == []


@pytest.mark.parametrize("url", ["s3://", "s3://Bucket", "s3://bucket/a/../b", "store"])
def test_a_url_that_names_no_bucket_is_refused(url: str):
    with pytest.raises(ConfigError, match="write s3://bucket"):
        Bucket(url)


def test_a_bucket_that_does_not_exist_is_named(s3_bucket: str, tmp_path: Path):
    bucket = Bucket("s3://no-such-bucket", QUICK)
    for request in (lambda: published_runs(bucket), lambda: pull_run(bucket, "drawn", tmp_path)):
        with pytest.raises(ObjectStorageError, match="no bucket 'no-such-bucket'"):
            request()


def test_a_server_that_is_not_there_is_an_error(s3_bucket: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ObjectStorageError, match="could not list") as failure:
        published_runs(Bucket(s3_bucket, QUICK))
    assert "AWS_ENDPOINT_URL" in (failure.value.fix or "")
