"""A hub on this machine: an HTTP server that speaks the protocol of the Hugging Face hub as its client library uses it.

It serves one revision of each repository. Large files are stored as Git LFS files are: their ETag is their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

LARGE = 2_000
"""Bytes from which a file is an LFS file."""


@dataclass
class Hub:
    """Repositories of a hub, and the requests that it was sent."""

    url: str
    repositories: dict[str, Path]
    """directory of the files of each repository, by owner and name"""
    requests: list[str] = field(default_factory=list)
    """method and path of each request"""
    gated: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    """files whose content is not that of their hash, on the way to the client"""

    def downloads(self) -> set[str]:
        """Paths of the files whose content was sent."""
        matches = (re.match(r"GET /[^/]+/[^/]+/resolve/[^/]+/(.+)", request) for request in self.requests)
        return {match[1] for match in matches if match}

    def revision(self, repository: str) -> str:
        """Hash of the only commit."""
        names = [f"{path}:{path.stat().st_size}" for path in _files(self.repositories[repository])]
        return hashlib.sha1("\n".join([repository, *map(str, names)]).encode()).hexdigest()


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def etag_of(file: Path) -> str:
    content = file.read_bytes()
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(root: Path, file: Path) -> dict[str, object]:
    size, name = file.stat().st_size, file.relative_to(root).as_posix()
    entry: dict[str, object] = {"type": "file", "path": name, "size": size, "oid": etag_of(file)}
    if size >= LARGE:
        entry["lfs"] = {"oid": etag_of(file), "size": size, "pointerSize": 130}
        entry["oid"] = hashlib.sha1(b"pointer").hexdigest()
    return entry


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        api = re.match(r"^/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        resolve = re.match(r"^/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$", path)
        repository = (api or resolve or ["", ""])[1]
        if repository not in self.hub.repositories:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if repository in self.hub.gated and not (api and api[2] != "tree"):
            return self.send(403, b"", {"X-Error-Code": "GatedRepo"})
        root, sha = self.hub.repositories[repository], self.hub.revision(repository)
        revision = (api[3] if api else resolve and resolve[2]) or "main"
        if revision not in ("main", sha):
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if resolve:
            return self.send_file(root / resolve[3], sha)
        if api and api[2] == "tree":
            return self.send_json([_entry(root, file) for file in _files(root)])
        siblings = [{"rfilename": entry["path"]} for entry in (_entry(root, file) for file in _files(root))]
        return self.send_json({"id": repository, "sha": sha, "siblings": siblings, "private": False, "tags": []})

    def send_file(self, file: Path, sha: str) -> None:
        if not file.is_file():
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        content, etag = file.read_bytes(), etag_of(file)
        if file.name in self.hub.wrong:
            content = content[:-1] + bytes([content[-1] ^ 1])
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if len(content) >= LARGE:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        return self.send(200, content, headers)

    def send_json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serve_hub(repositories: dict[str, Path]) -> Iterator[Hub]:
    """Serve repositories on a port of this machine until the block ends."""
    hub = Hub("", repositories)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
