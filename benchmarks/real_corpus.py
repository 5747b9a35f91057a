"""The whole path on a real labelled corpus, with a tiny Gemma 2 of its own, stage by stage: time, memory, results.

    make bench-real-corpus CORPUS=posts.jsonl.gz        (columns id, title, body, label, split)

Every stage is the command a user runs, in a process of its own; a stage that is finished is not run again. Labels with
a prefix ("source-name") are also scored by prefix.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from tegakari.schemas.config import ClassifierConfig, Config, CorpusConfig, IndexConfig, SaesConfig
from tegakari.schemas.render import render_config

out = Console()

VOCABULARY = 4000
PRETRAINING_STEPS = 200
MODEL = {"hidden_size": 128, "layers": 6, "heads": 4, "kv_heads": 2, "head_dim": 32, "intermediate": 384, "seed": 0}


def config_for(corpus: Path) -> Config:
    """The settings of the recipe: those of the `tiny` preset, one size larger."""
    return Config(
        corpus=CorpusConfig(
            source=str(corpus.resolve()), split_column="split", train_per_label=400, eval_per_label=400
        ),
        classifier=ClassifierConfig(
            base="base-model", max_length=128, learning_rate=1e-3, epochs=3, batch_size=32, checkpoint_steps=100
        ),
        saes=SaesConfig(d_sae=512, l1_coefficient=0.1, epochs=2, batch_size=1024, buffer_positions=262_144),
        index=IndexConfig(run="real"),
    )


def make_model(work: Path) -> None:
    """Train a tokenizer and a tiny Gemma 2 language model on the training documents alone."""
    from tegakari.demo.tiny import make_base_model, pretrain
    from tegakari.demo.tokenizer import train_tokenizer
    from tegakari.indexer.corpus import read_documents

    texts = [document.text for document in read_documents(work / "corpus", "train")]
    if not (work / "untrained").is_dir():
        make_base_model(work / "untrained", train_tokenizer(texts, VOCABULARY, alphabet=3000), **MODEL)
    pretrain(work / "untrained", work / "base-model", texts, steps=PRETRAINING_STEPS, max_length=128)


def run_stage(name: str, command: Sequence[str], work: Path, finished: Path) -> dict[str, Any]:
    """Run one stage unless it is finished; return its wall time in seconds and peak memory in bytes."""
    record = work / f"{name}.stage.json"
    if finished.exists() and record.is_file():
        return json.loads(record.read_text())
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=work, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stage {name} failed")
    found = {"seconds": round(time.perf_counter() - started, 1), "peak_memory_bytes": usage.ru_maxrss * 1024}
    record.write_text(json.dumps(found))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all stages, print the tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", default=os.environ.get("CORPUS"), help="labelled posts")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/real-corpus"))
    parser.add_argument("--model-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.model_only:
        make_model(options.work)
        return
    if options.corpus is None:
        parser.error("give the corpus, or set CORPUS")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    config = work / "tegakari.toml"
    config.write_text(render_config(config_for(Path(options.corpus))), encoding="utf-8")
    root = Path(__file__).parent.parent
    os.environ["PYTHONPATH"] = str(root)
    stages = {
        "corpus import": (["tegakari.cli", "corpus", "import"], work / "corpus"),
        "model": (["benchmarks.real_corpus", "--model-only", "--work", str(work)], work / "base-model"),
        "finetune": (["tegakari.cli", "finetune"], work / "classifier"),
        "sae train": (["tegakari.cli", "sae", "train"], work / "saes"),
        "index": (["tegakari.cli", "index"], work / "store" / "runs" / "real"),
    }
    costs = {name: run_stage(name, command, work, done) for name, (command, done) in stages.items()}
    report(work, costs)


def report(work: Path, costs: dict[str, dict[str, Any]]) -> None:
    """Print what came of it."""
    from tegakari.schemas.classifier import ClassifierReport
    from tegakari.store import Store, queries

    found = msgspec.json.decode((work / "classifier" / "report.json").read_bytes(), type=ClassifierReport)
    scores = Table("macro-F1", "classifier", "TF-IDF + SVC", title="Evaluation documents")
    scores.add_row("all labels", f"{found.classifier.macro_f1:.3f}", f"{found.baseline.macro_f1:.3f}")
    ours, theirs = found.classifier.macro_f1_by_prefix, found.baseline.macro_f1_by_prefix
    for prefix, value in ours.items():
        scores.add_row(f"{prefix}-*", f"{value:.3f}", f"{theirs[prefix]:.3f}")
    out.print(scores)
    run = Store(work / "store").run("real")
    layers = Table(
        "layer", "explained variance", "L0", "specific", "shared", "weak", title="SAEs and label specificity"
    )
    specificity = queries.specificity(run)
    for row in specificity:
        variance = "-" if row.explained_variance is None else f"{row.explained_variance:.3f}"
        layers.add_row(str(row.layer), variance, f"{row.l0:.1f}", str(row.specific), str(row.shared), str(row.weak))
    out.print(layers)
    times = Table("stage", "seconds", "peak MB", title="Cost")
    for name, cost in costs.items():
        times.add_row(name, f"{cost['seconds']:.0f}", f"{cost['peak_memory_bytes'] / 2**20:.0f}")
    out.print(times)
    figures = {
        "macro_f1": found.classifier.macro_f1,
        "baseline_macro_f1": found.baseline.macro_f1,
        "macro_f1_by_prefix": ours,
        "baseline_macro_f1_by_prefix": theirs,
        "layers": [msgspec.to_builtins(row) for row in specificity],
        "stages": costs,
    }
    out.file.write(json.dumps(figures, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
