"""A server of the files of a directory as objects of S3, for reading: ranges by sendfile, without Python's copies.

    python -m benchmarks.s3_files DIRECTORY

prints its address. Moto passes every byte through Python several times, so that its own speed is what a pull would
measure.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Handler(BaseHTTPRequestHandler):
    """GET of objects, whole or in ranges; names are paths below the directory, the bucket first."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 14
    root: Path

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        """Send an object."""
        file = self.root / unquote(urlsplit(self.path).path).lstrip("/")
        if not file.is_file():
            content = b"<Error><Code>NoSuchKey</Code></Error>"
            self.send_response(404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first, last = (int(match[1]), min(int(match[2]), size - 1)) if match else (0, size - 1)
            self.send_response(206 if match else 200)
            self.send_header("Content-Length", str(last - first + 1))
            self.send_header("ETag", f'"{size}"')
            self.send_header("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))
            if match:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            self.wfile.flush()
            while first <= last:
                first += os.sendfile(self.connection.fileno(), stream.fileno(), first, last - first + 1)


class Server(ThreadingHTTPServer):
    """One thread per connection."""

    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        """Bind without a look-up of the host's name."""
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        super().server_bind()


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
