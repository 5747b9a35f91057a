"""Query a store in several threads, and compare every result with the one expected of that run.

    python -m tests.support.soak_reading STORE EXPECTED.json SECONDS THREADS

Prints the number of results per fingerprint and the tracebacks of failed threads, as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from pathlib import Path

import msgspec

from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, Store, queries


def query_results(run: Run) -> dict[str, object]:
    """Results of queries that read blocks, tables, or both; as built-in types, as JSON has them."""
    results = {
        "labels": queries.labels(run),
        "features": [queries.label_features(run, label, limit=5) for label in run.labels],
        "feature": queries.feature(run, 1, 2, tokens=5),
        "documents": queries.feature_documents(run, 0, 3),
        "specificity": queries.specificity(run),
    }
    return msgspec.to_builtins(results)


def read(store: Store, names: list[str], expected: dict[str, object], until: float, fingerprints: list[str]) -> None:
    turn = 0
    while time.monotonic() < until:
        turn += 1
        try:
            run = store.run(names[turn % len(names)])
            results = query_results(run)
        except NotFoundError:  # it is deleted at this moment
            time.sleep(0.001)
            continue
        if results != expected[run.manifest.fingerprint]:
            raise AssertionError(f"mixed results of {run.name}")
        fingerprints.append(run.manifest.fingerprint)


def main(directory: str, expected_file: str, seconds: str, threads: str) -> None:
    expected = json.loads(Path(expected_file).read_text())
    store, until, fingerprints, failures = Store(directory), time.monotonic() + float(seconds), [], []

    def work(names: list[str]) -> None:
        try:
            read(store, names, expected, until, fingerprints)
        except BaseException:  # noqa: BLE001 - any exception is a failure of the test
            failures.append(traceback.format_exc())

    readers = [
        threading.Thread(target=work, args=(["one", "two"][:: 1 if at % 2 else -1],)) for at in range(int(threads))
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    counts = {fingerprint: fingerprints.count(fingerprint) for fingerprint in expected}
    sys.stdout.write(json.dumps({"counts": counts, "failures": failures}))


if __name__ == "__main__":
    main(*sys.argv[1:])
