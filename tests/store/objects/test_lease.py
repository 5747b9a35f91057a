"""A lease on a directory of a bucket: one holder, refusal while it lives, succession after it died."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.schemas.errors import StoreError
from tegakari.store.objects import lease as lease_module
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.lease import held_lease


@pytest.fixture
def bucket(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.8)
    monkeypatch.setattr(lease_module, "RENEWAL_SECONDS", 0.1)
    monkeypatch.setattr(lease_module, "WATCH_SECONDS", 0.05)
    return Bucket(s3_bucket)


def machines(tmp_path: Path, count: int) -> list[Path]:
    places = [tmp_path / f"machine{number}" for number in range(count)]
    for place in places:
        place.mkdir()
    return places


def leases(bucket: Bucket) -> list[str]:
    return [stored.path for stored in bucket.objects("work/run")]


def test_a_living_holder_is_named_and_its_end_frees_the_lease(bucket: Bucket, tmp_path: Path):
    first, second = machines(tmp_path, 2)
    with (
        held_lease(bucket, "work/run", first),
        pytest.raises(StoreError, match=r"another command works in s3://.*/work/run: process \d+ of "),
        held_lease(bucket, "work/run", second),
    ):
        pass
    assert leases(bucket) == []
    with pytest.raises(KeyError), held_lease(bucket, "work/run", second):
        raise KeyError
    assert leases(bucket) == []


def test_a_dead_holder_is_replaced_and_learns_it_if_it_was_asleep(bucket: Bucket, tmp_path: Path, monkeypatch):
    first, second = machines(tmp_path, 2)
    asleep = lease_module._acquired(bucket, "work/run", first)  # nothing renews it
    asleep.check()
    again = lease_module._acquired(bucket, "work/run", first)  # the same command, repeated
    assert again.path == asleep.path
    started = time.monotonic()
    with held_lease(bucket, "work/run", second) as lease:
        assert time.monotonic() - started >= 0.8
        assert lease.path != asleep.path
        lease.renew()
        with pytest.raises(StoreError, match="another command has taken over"):
            asleep.renew()
        with pytest.raises(StoreError, match="another command works in"):
            lease_module._acquired(bucket, "work/run", first)


RACE = """
import os, sys, time
from pathlib import Path
from tegakari.schemas.errors import StoreError
from tegakari.store.objects import lease
from tegakari.store.objects.bucket import Bucket
lease.LEASE_SECONDS, lease.WATCH_SECONDS = 0.3, 0.05
children = []
for work in sys.argv[2:]:
    if not (child := os.fork()):
        try:
            lease._acquired(Bucket(sys.argv[1]), "work/run", Path(work))
        except StoreError:
            os._exit(3)
        os._exit(0)
    children.append(child)
print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_of_eight_successors_of_a_dead_holder_one_wins(bucket: Bucket, tmp_path: Path):
    dead, *others = machines(tmp_path, 9)
    lease_module._acquired(bucket, "work/run", dead)
    done = subprocess.run(
        [sys.executable, "-c", RACE, bucket.url, *map(str, others)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1].split() == ["0"] + ["3"] * 7, done.stderr
    assert leases(bucket) == ["work/run/lease/2.json"]
