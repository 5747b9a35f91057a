"""Pulls and pushes that are killed at random moments: whole runs only, and no received byte is requested again."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.store import Store
from tegakari.store.disk.publish import damaged_files
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.published_runs import delete_published_run, existing_run, published_run
from tegakari.store.objects.pull import pull_run
from tegakari.store.objects.push import push_run
from tegakari.store.objects.verify import damaged_objects
from tests.support.object_storage import Fault, Proxy, make_plain_run
from tests.support.soak_length import only_in_a_soak

pytestmark = only_in_a_soak

ROUNDS, KILLS = 5, 6

TRANSFER = """
import sys
from pathlib import Path
from tegakari.store.objects import bucket, pull
from tegakari.store.objects.push import push_run
bucket.CHUNK, pull.PART = 2_000, 20_000
print("ready", flush=True)
where = bucket.Bucket(sys.argv[2])
if sys.argv[1] == "pull":
    pull.pull_run(where, "drawn", Path(sys.argv[3]))
else:
    push_run(where, Path(sys.argv[3]), "drawn")
"""


def killed_after(seconds: float, action: str, bucket: Bucket, store: Path) -> None:
    """Begin a transfer, and kill it unless it has ended by then."""
    command = [sys.executable, "-c", TRANSFER, action, bucket.url, str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()


def test_killed_transfers_go_on_where_they_were(s3_endpoint: str, s3_bucket: str, tmp_path: Path, monkeypatch):
    proxy = Proxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    bucket = Bucket(s3_bucket)
    origin = tmp_path / "origin"
    make_plain_run(origin, "drawn")
    size = sum(entry.size for entry in Store(origin).run("drawn").manifest.files)
    generator = random.Random(0)
    unfinished = 0
    for number in range(ROUNDS):
        for _ in range(KILLS):
            killed_after(generator.uniform(0, 0.15), "push", bucket, origin)
            if published_run(bucket, "drawn") is not None:
                break
        if published_run(bucket, "drawn") is None:
            push_run(bucket, origin, "drawn")
        assert damaged_objects(bucket, "drawn") == []
        target = tmp_path / f"target{number}"
        upload = existing_run(bucket, "drawn").upload
        proxy.set_faults(Fault(path=upload, bytes_per_second=50_000))
        for _ in range(KILLS):
            killed_after(generator.uniform(0, 0.4), "pull", bucket, target)
            if Store(target).names():
                break
            unfinished += 1
        proxy.faults.clear()
        if Store(target).names() == []:
            pull_run(bucket, "drawn", target)
        assert damaged_files(target, "drawn") == []
        # What was on its way when a process was killed comes again: a chunk and the buffers of 8 connections.
        assert proxy.received(upload) < size + (KILLS + 1) * 8 * 40_000
        delete_published_run(bucket, "drawn")
    proxy.close()
    assert unfinished >= ROUNDS
