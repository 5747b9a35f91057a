"""SAE training on several devices of this machine beside one: speed and exchanged bytes.

    python -m benchmarks.training_devices [--devices 2] [--rounds 3] [--documents 400] [--device cpu]

A round trains the same SAEs on one device and on several, in turn, and compares the files. `devices_speedup` is the
median of the ratios of `positions_per_second`, which has forward passes and steps, and neither the start of the
processes nor the measurement of the SAEs. One thread per process, so that the sums are the same. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from msgspec.structs import replace

from benchmarks.case import SMALL, make_case
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.training.saes import train_saes_on_devices
from tegakari.models.loading import resolve_dtype
from tegakari.schemas.config import Config
from tegakari.schemas.saes import SaesReport

SHAPE = SMALL._replace(layers=8, d_model=256, head_dim=64, intermediate=1024, d_sae=1024)


def make_training(work: Path, documents: int) -> Config:
    """Classifier and corpus of a training, and its settings."""
    config = make_case(work / f"training-devices-{documents}", SHAPE, documents)
    corpus = replace(
        config.corpus,
        path=f"{config.corpus.path}-training",
        split_column="",
        train_per_label=documents,
        eval_per_label=1,
    )
    if not Path(corpus.path).exists():
        import_corpus(corpus)
    saes = replace(config.saes, epochs=2, buffer_positions=8192)
    return replace(config, corpus=corpus, saes=saes, index=replace(config.index, batch_tokens=2048))


def trained(config: Config, path: Path, devices: int, device: str) -> tuple[SaesReport, list[bytes]]:
    """Report and weights of a new training."""
    config = replace(config, saes=replace(config.saes, path=str(path)))
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(path.with_name(f"{path.name}.work"), ignore_errors=True)
    report = train_saes_on_devices(config, devices=devices, device=device)
    weights = [file.read_bytes() for file in sorted(path.glob("*/sae_weights.safetensors"))]
    shutil.rmtree(path)
    return report, weights


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the rounds and one JSON object."""
    parser = argparse.ArgumentParser(description="SAE training on several devices.")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and SAEs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    work = options.work.resolve()
    config = make_training(work, options.documents)
    position_bytes = SHAPE.layers * SHAPE.d_model * resolve_dtype("auto", torch.device(options.device)).itemsize
    rates: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        one, weights = trained(config, work / "training-devices-saes", 1, options.device)
        several, same = trained(config, work / "training-devices-saes", options.devices, options.device)
        assert same == weights, "the SAEs differ"
        assert one.positions_per_second is not None
        assert several.positions_per_second is not None
        rates.append((one.positions_per_second, several.positions_per_second))
        print(f"positions per second: {rates[-1][0]:.0f} on one device, {rates[-1][1]:.0f} on {options.devices}")
    result = {
        "devices_speedup": statistics.median(several / one for one, several in rates),
        "devices": options.devices,
        "positions_per_second_one": statistics.median(rate for rate, _ in rates),
        "positions_per_second": statistics.median(rate for _, rate in rates),
        "sent_bytes_per_position": position_bytes * (options.devices - 1) / options.devices,
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
