"""An S3 server with a bucket on an address, for other machines of a test; by wish behind a proxy that has faults.

    python -m tests.support.s3_machine HOST PORT BUCKET [--faulty]

With `--faulty`, every few seconds some requests get 503, 500 or 409, lose their reply, are cut or are slow.
"""

from __future__ import annotations

import argparse
import time

from tests.support.object_storage import Fault, Proxy, make_bucket, s3_server

PARTIAL = r"/work/[\w.-]+/\w+-\w+"
FAULTS = (
    Fault("PUT", path=f"{PARTIAL}/shard.json", status=409, code="ConditionalRequestConflict", times=1),
    Fault("PUT", path=f"{PARTIAL}/shard.json", status=500, lose_reply=True, times=1),
    Fault("PUT", status=503, code="SlowDown", times=2),
    Fault("GET", path=f"{PARTIAL}/[0-9a-f]{{16}}", cut_after=2_000, times=1),
    Fault("GET", path=f"{PARTIAL}/[0-9a-f]{{16}}", bytes_per_second=50_000, times=1),
    Fault("GET", status=500, times=2),
)
SECONDS = 4.0
"""Time after which the faults come again."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("bucket")
    parser.add_argument("--faulty", action="store_true")
    options = parser.parse_args()
    with s3_server() as server:
        make_bucket(server, options.bucket)
        proxy = Proxy(server, options.host, options.port)
        while True:
            proxy.set_faults(*(FAULTS if options.faulty else ()))
            time.sleep(SECONDS)


if __name__ == "__main__":
    main()
