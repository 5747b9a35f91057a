"""Machines in network namespaces: each has its own address, /tmp/ray and /dev/shm, and directories below /srv.

They are joined by a bridge in yet another namespace: nothing listens outside, and a machine dies or loses its network
without any other process. Needs root, `ip` and Ray; `make soak` says so where they are missing.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PORT = 6379
START_SECONDS = 180.0


def missing() -> str:
    """Why there are no nodes; empty: there can be."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed: pip install 'tegakari[ray]'"
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))):
        return "network namespaces need root, ip and unshare"
    if subprocess.run(["ip", "netns", "list"], check=False, capture_output=True).returncode:
        return "network namespaces are not permitted"
    return ""


needs_nodes = pytest.mark.skipif(bool(missing()), reason=missing() or "there are nodes")


class Nodes:
    """Machines, numbered from 0, with the addresses from 10.77.0.1; the head of a Ray cluster is node 0."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.places: dict[int, dict[str, Path]] = {}
        """number -> name below /srv -> directory that this machine has there"""
        self.prefix = f"tgk{secrets.token_hex(2)}"
        self.address = f"10.77.0.1:{PORT}"
        self.environment = os.environ | {
            "HOME": str(directory),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(path for path in sys.path if path)]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # 15 by default: on a busy machine workers would not get to load their models
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def add_machine(self, number: int, places: dict[str, Path] | None = None) -> None:
        """Make the namespace of a machine, with directories below /srv, by name."""
        name, port = f"{self.prefix}{number}", f"{self.prefix}p{number}"
        _ip("netns", "add", name)
        self.places[number] = places or {}
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.switch)
        _ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", self.switch, "link", "set", port, "master", "br0")
        _ip("-n", self.switch, "link", "set", port, "up")

    def start_ray(self, number: int, cpus: int) -> None:
        """Start Ray on a machine."""
        role = (
            ["--head", f"--port={PORT}", "--include-dashboard=false"] if number == 0 else [f"--address={self.address}"]
        )
        ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
        ray += [
            *role,
            f"--node-ip-address=10.77.0.{number + 1}",
            f"--num-cpus={cpus}",
            "--object-store-memory=100000000",
        ]
        self.start(number, ray)

    @property
    def switch(self) -> str:
        """Namespace of the bridge."""
        return f"{self.prefix}sw"

    def start(self, number: int, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process on a machine; its output goes to a file of its own."""
        private = self.directory / f"node-{number}"
        private.mkdir(exist_ok=True)
        Path("/tmp/ray").mkdir(exist_ok=True)  # a point to mount on
        mounts = ["mount --make-rprivate /", f"mount --bind {shlex.quote(str(private))} /tmp/ray"]
        mounts += ["mount -t tmpfs -o size=512m tmpfs /dev/shm", "mount -t tmpfs tmpfs /srv"]
        for name, directory in self.places[number].items():
            mounts += [f"mkdir /srv/{name}", f"mount --bind {shlex.quote(str(directory))} /srv/{name}"]
        script = " && ".join([*mounts, 'exec "$@"'])
        log = (self.directory / f"node-{number}-{len(list(self.directory.glob('*.log')))}.log").open("wb")
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{self.prefix}{number}", "unshare", "-m", "bash", "-c", script, "node", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=ROOT,
        )
        self._started.append(process)
        return process

    def wait_for(self, nodes: int) -> None:
        """Wait until the cluster has so many nodes."""
        program = (
            "import ray, sys, time\n"
            f"ray.init({self.address!r}, logging_level='ERROR', log_to_driver=False)\n"
            f"while sum(node['Alive'] for node in ray.nodes()) < {nodes}: time.sleep(0.5)\n"
        )
        end = time.monotonic() + START_SECONDS
        while True:
            process = self.start(0, [sys.executable, "-c", program])
            try:
                if process.wait(max(1.0, end - time.monotonic())) == 0:
                    return
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert time.monotonic() < end, f"the cluster did not start; see {self.directory}"
            time.sleep(1)

    def kill(self, number: int) -> None:
        """End every process of a node at once, as a power cut does."""
        for line in _ip("netns", "pids", f"{self.prefix}{number}").split():
            try:
                os.kill(int(line), signal.SIGKILL)
            except ProcessLookupError:
                continue

    def plug(self, number: int, *, connected: bool) -> None:
        """Pull the network cable of a node, or put it back."""
        _ip("-n", self.switch, "link", "set", f"{self.prefix}p{number}", "up" if connected else "down")


@contextmanager
def machines(directory: Path) -> Iterator[Nodes]:
    """A network without machines; those that the block adds end with it.

    Args:
        directory: for the machines' files and output.
    """
    directory.mkdir(parents=True, exist_ok=True)
    nodes = Nodes(directory)
    try:
        _ip("netns", "add", nodes.switch)
        _ip("-n", nodes.switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", nodes.switch, "link", "set", "br0", "up")
        yield nodes
    finally:
        for number in nodes.places:
            nodes.kill(number)
            _ip("netns", "del", f"{nodes.prefix}{number}")
        for process in nodes._started:
            process.wait()
        _ip("netns", "del", nodes.switch)


@contextmanager
def ray_nodes(directory: Path, count: int, cpus: int = 1) -> Iterator[Nodes]:
    """A running cluster of `count` nodes with `cpus` CPUs each; the head has none, so that workers are elsewhere.

    Args:
        directory: as of `machines`.
        count: of nodes; 1: the head alone, with the CPUs.
        cpus: of each node.
    """
    with machines(directory) as nodes:
        nodes.add_machine(0)
        nodes.start_ray(0, cpus if count == 1 else 0)
        nodes.wait_for(1)
        for number in range(1, count):
            nodes.add_machine(number)
            nodes.start_ray(number, cpus)
        nodes.wait_for(count)
        yield nodes


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
