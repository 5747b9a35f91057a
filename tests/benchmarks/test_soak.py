"""The soak in seconds: every load is answered, and what the processes use is measured and drawn."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks import process_watch, soak
from tegakari.indexer.pipeline import index
from tests.support.factories import make_run
from tests.support.small_case import SmallCase, with_index


def test_all_loads_for_seconds(small_case: SmallCase, tmp_path: Path):
    index(with_index(small_case, tmp_path / "store", pooling="max"))
    sources = []
    for seed in (0, 1):
        make_run(tmp_path / f"churn-{seed}", soak.CHURN, seed=seed, layers=1, d_sae=8, documents_per_label=2)
        sources.append(tmp_path / f"churn-{seed}" / "runs" / soak.CHURN)
    curves = tmp_path / "curves.png"
    figures = soak.soak(tmp_path / "store", "small", sources, seconds=4, workers=1, curves=curves)
    assert figures["alive"]
    assert figures["failures"] == 0, figures
    statuses = figures["statuses"]
    assert isinstance(statuses, dict)
    assert statuses.keys() == soak.LOADS.keys()
    assert statuses["reads"][200] > 0
    assert statuses["health"].keys() == {200}
    assert curves.read_bytes().startswith(b"\x89PNG")
    assert float(str(figures["resident_max"])) > 100


def test_a_process_and_its_descendants_are_measured():
    program = (
        "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); x = bytearray(50_000_000); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        try:
            end = time.monotonic() + 30
            while time.monotonic() < end:
                sample = process_watch.sample(process.pid, 1.0)
                if sample.anonymous > 50_000_000 and sample.processes == 2:
                    break
                time.sleep(0.1)
            assert sample.processes == 2
            assert 50_000_000 < sample.anonymous < 90_000_000
            assert sample.descriptors >= 6
            assert sample.threads >= 2
            assert len(list(process_watch.descendants(process.pid))) == 2
        finally:
            for pid in reversed(list(process_watch.descendants(process.pid))):
                subprocess.run(["kill", "-9", str(pid)], check=False)


def test_medians_are_of_their_span():
    samples = [process_watch.Sample(seconds, seconds * 10, 0, 0, 0, 0, 0, 0) for seconds in range(10)]
    assert process_watch.median_between(samples, "resident", 2, 4) == 30
