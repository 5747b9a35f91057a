"""An index whose workers send partials through a real S3 server: the tables are those of one process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.cli.app import app
from tegakari.indexer.bucket_index import index_into_bucket
from tegakari.indexer.executors import InProcess, WorkerSettings
from tegakari.indexer.executors.bucket_place import BucketPlace
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.pipeline import index
from tegakari.indexer.shard import Shard
from tegakari.schemas.errors import ConfigError, ObjectStorageError, RunExistsError, StoreError
from tegakari.store.objects import creation as creation_module
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.pull import pull_run
from tests.support.object_storage import Fault, Proxy
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index


class Sending:
    """An executor whose worker is in this process, and sends its partials as one on another node does."""

    def __init__(self, url: str, stop_after: int = 1000, saes: Path | None = None) -> None:
        self._url = url
        self._stop_after = stop_after
        self._saes = saes
        self.written: list[str] = []

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        place = BucketPlace.of(self._url, settings, models)
        finished = place.finished()
        yield from place.received([shard for shard in shards if shard.key in finished])
        if self._saes is not None:
            saes = msgspec.structs.replace(settings.config.saes, path=str(self._saes))
            settings = settings._replace(config=msgspec.structs.replace(settings.config, saes=saes))
        writer, _ = place.opened(settings, "10.0.0.7")

        def results() -> Iterator[Shard]:
            for shard in shards:
                if shard.key in finished:
                    continue
                if len(self.written) == self._stop_after:
                    raise KeyboardInterrupt
                writer.write(shard)
                self.written.append(shard.key)
                yield shard

        yield from place.received(results())

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        return InProcess().merge(merge, layers)


@pytest.fixture(scope="module")
def tables(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    store = tmp_path_factory.mktemp("one-process")
    index(with_index(small_case, store))
    return tables_of(store / "runs" / "small")


def paths(bucket: Bucket) -> list[str]:
    return [stored.path for stored in bucket.objects("")]


def test_another_machine_goes_on_and_publishes_the_tables_of_one_process(
    small_case: SmallCase, s3_bucket: str, tmp_path: Path, tables: dict[str, str]
):
    bucket = Bucket(s3_bucket)
    first, second = Sending(s3_bucket, stop_after=4), Sending(s3_bucket)
    with pytest.raises(KeyboardInterrupt):
        index_into_bucket(with_index(small_case, tmp_path / "first"), bucket, executor=first)
    assert len([path for path in paths(bucket) if path.endswith("shard.json") and path.count("/") == 3]) == 4
    config = with_index(small_case, tmp_path / "second")
    assert not index_into_bucket(config, bucket, executor=second).already_published
    assert (len(second.written), set(first.written) & set(second.written)) == (6, set())
    assert tables_of(tmp_path / "second" / "runs" / "small") == tables
    assert {path.split("/")[0] for path in paths(bucket)} == {"runs"}
    assert list((tmp_path / "second" / "work").iterdir()) == []
    pull_run(bucket, "small", tmp_path / "pulled")
    assert tables_of(tmp_path / "pulled" / "runs" / "small") == tables

    third = Sending(s3_bucket)
    elsewhere = with_index(small_case, tmp_path / "third")
    assert index_into_bucket(elsewhere, bucket, executor=third).already_published
    with pytest.raises(RunExistsError, match="'small' exists and has another"):
        index_into_bucket(with_index(small_case, tmp_path / "third", top_tokens=3), bucket, executor=third)
    assert third.written == []


def test_a_flipped_bit_takes_its_shard_back_and_the_server_may_fail_at_times(
    small_case: SmallCase, s3_endpoint: str, s3_bucket: str, tmp_path: Path, tables: dict[str, str], monkeypatch
):
    proxy = Proxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    monkeypatch.setattr(creation_module, "CREATION_SECONDS", 0.01)
    proxy.set_faults(
        Fault("PUT", status=503, code="SlowDown", times=3),
        Fault("PUT", path=r"/work/small/\w+-\w+/shard.json", status=409, code="ConditionalRequestConflict", times=2),
        Fault("PUT", path=r"/work/small/\w+-\w+/shard.json", status=500, lose_reply=True, times=2),
        Fault("GET", path=r"/work/small/\w+-\w+/[0-9a-f]{16}/", cut_after=3000, times=2),
        Fault("GET", status=500, times=3),
    )
    bucket = Bucket(s3_bucket)
    interrupted = Sending(s3_bucket, stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        index_into_bucket(with_index(small_case, tmp_path / "first"), bucket, executor=interrupted)
    damaged = next(path for path in paths(bucket) if interrupted.written[1] in path and path.count("/") > 3)
    content = bytearray(bucket.read(damaged, 10**8) or b"")
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    bucket.upload(damaged, tmp_path / "flipped")
    config = with_index(small_case, tmp_path / "second")
    with pytest.raises(ObjectStorageError, match=f"{interrupted.written[1]}.* differs from the checksum") as failure:
        index_into_bucket(config, bucket, executor=Sending(s3_bucket))
    assert "same command again" in (failure.value.fix or "")
    again = Sending(s3_bucket)
    index_into_bucket(config, bucket, executor=again)
    assert interrupted.written[1] in again.written
    assert tables_of(tmp_path / "second" / "runs" / "small") == tables
    proxy.close()


def test_a_node_without_rights_models_or_the_same_models_is_named(
    small_case: SmallCase, s3_endpoint: str, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    proxy = Proxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    proxy.set_faults(Fault("PUT", path="/work/small/[0-9a-f]{32}-", status=403, code="AccessDenied"))
    bucket = Bucket(s3_bucket)
    config = with_index(small_case, tmp_path / "store")
    with pytest.raises(ObjectStorageError, match="no right to write") as denied:
        index_into_bucket(config, bucket, executor=Sending(s3_bucket))
    assert "grant s3:PutObject" in (denied.value.fix or "")
    with pytest.raises(StoreError, match=r"node 10\.0\.0\.7: ") as failure:
        index_into_bucket(config, bucket, executor=Sending(s3_bucket, saes=tmp_path / "absent"))
    assert failure.value.field == "saes.path"
    other = tmp_path / "other"
    shutil.copytree(small_case.config.saes.path, other)
    changed = next(other.rglob("cfg.json"))
    changed.write_text(changed.read_text().replace("{", "{ ", 1))
    with pytest.raises(StoreError, match=rf"node 10\.0\.0\.7 has other files in {other}") as failure:
        index_into_bucket(config, bucket, executor=Sending(s3_bucket, saes=other))
    assert "copy the same files" in (failure.value.fix or "")
    assert [path for path in paths(bucket) if "/lease/" not in path] == []
    proxy.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--store", "s3://bucket", "--shards", "1/2"], "for a part of the work"),
        (["--store", "s3://bucket", "--only", "merge"], "for a part of the work"),
        (["--store", "store"], "'store' is no bucket"),
    ],
)
def test_a_store_that_is_no_bucket_or_does_not_fit_is_refused(options: list[str], words: str):
    with pytest.raises(ConfigError, match=words) as refusal:
        CliRunner().invoke(app, ["index", *options], catch_exceptions=False)
    assert refusal.value.field == "--store"
