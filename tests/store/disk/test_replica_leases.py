"""Leases and claims of servers: who lives, by locks and by times; one of several servers gets a job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tegakari.schemas.jobs import JobProgress
from tegakari.store.disk import replica_leases
from tegakari.store.disk.job_claims import JobClaims
from tegakari.store.disk.layout import jobs_directory, replicas_directory
from tegakari.store.disk.replica_leases import Message, ReplicaLease, all_progress, job_progress

PROGRESS = JobProgress(id="a", state="running", done=3, total=9)


def taken(store: Path) -> ReplicaLease:
    lease = ReplicaLease(store)
    lease.take()
    return lease


def test_a_server_tells_the_others_its_progress_and_leaves_nothing(tmp_path: Path):
    one, two = taken(tmp_path), taken(tmp_path)
    assert (one.lives(two.replica), two.lives(one.replica)) == (True, True)
    one.renew({"a": PROGRESS})
    assert job_progress(tmp_path, one.replica, "a") == PROGRESS
    assert job_progress(tmp_path, two.replica, "a") is None
    assert all_progress(tmp_path) == {"a": PROGRESS}
    assert {replica: record.jobs for replica, record in two.others().items()} == {one.replica: {"a": PROGRESS}}
    one.release()
    assert not two.lives(one.replica)
    two.release()
    assert not jobs_directory(tmp_path).exists()


def test_messages_arrive_once(tmp_path: Path):
    one, two = taken(tmp_path), taken(tmp_path)
    one.send(two.replica, Message("cancel", "a"))
    one.send(two.replica, Message("take", "b", b"{}"))
    assert sorted(two.receive()) == [Message("cancel", "a"), Message("take", "b", b"{}")]
    assert two.receive() == one.receive() == []
    two.release()
    with pytest.raises(OSError, match="No such file"):
        one.send(two.replica, Message("cancel", "a"))
    one.release()


def test_a_killed_process_is_dead_at_once(tmp_path: Path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom tegakari.store.disk.replica_leases import ReplicaLease\n"
        "lease = ReplicaLease(Path(sys.argv[1]))\nlease.take()\nprint(lease.replica, flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        replica = process.stdout.readline().strip()
        lease = taken(tmp_path)
        assert lease.lives(replica)
        process.send_signal(signal.SIGSTOP)
        assert lease.lives(replica)  # it can go on
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not lease.lives(replica)
        assert (replicas_directory(tmp_path) / replica).is_dir()
        lease.bury_dead()
        assert [entry.name for entry in replicas_directory(tmp_path).iterdir()] == [lease.replica]
        lease.release()


def test_servers_of_other_machines_are_judged_by_times_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(replica_leases, "LEASE_SECONDS", 0.6)
    kernels = iter(["one", "two", "three"])
    monkeypatch.setattr(replica_leases, "_locks_of", lambda device: next(kernels))
    one, two, three = taken(tmp_path), taken(tmp_path), taken(tmp_path)
    past = time.time() - 1000
    record = replicas_directory(tmp_path) / two.replica / replica_leases.RECORD
    os.utime(record, (past, past))
    assert one.lives(two.replica)  # for all that this server knows, nobody could write until now
    for _ in range(8):
        time.sleep(0.1)
        one.renew({})
        three.renew({})
    assert not one.lives(two.replica)
    assert one.lives(three.replica)
    time.sleep(0.7)  # a stall of this server, perhaps of the disk for all: the others have time again
    one.renew({})
    assert one.lives(two.replica)
    assert one.lives(three.replica)
    for _ in range(8):
        time.sleep(0.1)
        one.renew({})
    assert not one.lives(three.replica)


def test_a_server_that_was_taken_for_dead_notices(tmp_path: Path):
    one, two = taken(tmp_path), taken(tmp_path)
    one.forget()  # its lock is gone, as if it were killed
    two.bury_dead()
    with pytest.raises(FileNotFoundError):
        one.renew({})
    before = one.replica
    one.take()
    assert one.replica != before
    assert two.lives(one.replica)


def test_one_of_several_servers_gets_a_job(tmp_path: Path):
    claims = JobClaims(tmp_path)
    replicas = [f"server{number}" for number in range(8)]
    with ThreadPoolExecutor(len(replicas)) as pool:
        for number in range(25):
            job = f"job{number}"
            won = list(pool.map(lambda replica, job=job: claims.take(job, replica), replicas))
            assert won.count(True) == 1
            owner = replicas[won.index(True)]
            assert claims.owner(job) == owner
            heirs = [f"heir{number}" for number in range(8)]
            inherited = list(pool.map(lambda heir, job=job, owner=owner: claims.pass_on(job, owner, heir), heirs))
            assert inherited.count(True) == 1
            assert claims.owners() == {job: heirs[inherited.index(True)]}
            claims.release(job, owner)  # which has it no more
            assert claims.owner(job) is not None
            claims.release(job, heirs[inherited.index(True)])
            assert claims.owner(job) is None
    assert not jobs_directory(tmp_path).exists()
