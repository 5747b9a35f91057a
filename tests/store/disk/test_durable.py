"""Staged directories appear whole or not at all; buried ones go with one rename and leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tegakari.schemas.errors import DiskFullError
from tegakari.store.disk.durable import (
    bury,
    is_grave,
    staged_directory,
    translate_disk_full,
    write_atomically,
)


def names(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def test_a_staged_directory_appears_under_its_name_after_the_block(tmp_path: Path):
    target = tmp_path / "parent" / "target"
    with staged_directory(target) as staged:
        (staged / "file").write_text("content")
        assert not target.exists()
    assert names(tmp_path) == ["parent", "parent/target", "parent/target/file"]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> None:
        with staged_directory(tmp_path / "target") as staged:
            (staged / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


def test_a_target_that_exists_is_not_replaced(tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "first").touch()
    with pytest.raises(FileExistsError, match="target"), staged_directory(target) as staged:
        (staged / "second").touch()
    assert names(tmp_path) == ["target", "target/first"]


def test_a_killed_process_leaves_no_target_and_the_next_one_starts_empty(tmp_path: Path):
    target = tmp_path / "target"
    program = f"""
        import os, signal
        from pathlib import Path
        from tegakari.store.disk.durable import staged_directory
        with staged_directory(Path({str(target)!r})) as staged:
            (staged / "half").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert process.returncode == -9
    assert names(tmp_path) == [".target.part", ".target.part/half"]
    with staged_directory(target) as staged:
        assert names(staged) == []
    assert names(tmp_path) == ["target"]


def test_a_buried_directory_is_removed_with_its_files(tmp_path: Path):
    directory = tmp_path / "directory"
    (directory / "inner").mkdir(parents=True)
    (directory / "inner" / "file").touch()
    bury(directory, tmp_path / "graveyard")
    assert names(tmp_path) == ["graveyard"]
    with pytest.raises(FileNotFoundError):
        bury(directory)


def test_the_rest_of_a_killed_deletion_is_a_grave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = tmp_path / "directory"
    directory.mkdir()
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: os._exit(9))
    child = os.fork()
    if child == 0:
        bury(directory)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (grave,) = tmp_path.iterdir()
    assert is_grave(grave)
    assert not is_grave(Path("deleted-x"))  # a run may have this name
    assert not is_grave(directory)


def test_threads_that_write_one_file_leave_one_of_their_contents(tmp_path: Path):
    file, start = tmp_path / "file", threading.Barrier(8)
    contents = [bytes([number]) * 10_000 for number in range(8)]

    def write(content: bytes) -> None:
        start.wait()
        write_atomically(file, content)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert file.read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_a_write_that_fails_keeps_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "file"
    write_atomically(file, b"former")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(DiskFullError, match="no space left") as caught, translate_disk_full(tmp_path, field="store"):
        write_atomically(file, b"new")
    assert caught.value.field == "store"
    assert file.read_bytes() == b"former"
    assert names(tmp_path) == ["file"]
