"""The whole pipeline on a real labelled corpus with two tiny Gemma 2 models: time, memory and results of each stage.

    make bench-real-corpus CORPUS=posts.jsonl.gz        (columns id, title, body, label, split)

Every stage is a command of tegakari in a process of its own; a finished stage is not run again. Labels with a prefix
("source-name") are also scored by prefix. The two models differ like those of the study: `more` is `base` with more
pretraining.
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
from tegakari.schemas.config.render import render_config

out = Console()

VOCABULARY = 4000
MODELS = {"base": "untrained", "more": "base/language-model"}
"""Language model -> the model that its training starts from."""
PRETRAINING_STEPS = 200
"""Optimizer steps per language model."""
MODEL = {"hidden_size": 128, "layers": 6, "heads": 4, "kv_heads": 2, "head_dim": 32, "intermediate": 384, "seed": 0}


def config_for(corpus: Path, model: str) -> Config:
    """Configuration of a run: that of the `tiny` preset, one size larger."""
    return Config(
        corpus=CorpusConfig(
            source=str(corpus.resolve()), split_column="split", train_per_label=400, eval_per_label=400
        ),
        classifier=ClassifierConfig(
            base=f"{model}/language-model",
            path=f"{model}/classifier",
            max_length=128,
            learning_rate=1e-3,
            epochs=3,
            batch_size=32,
            checkpoint_steps=100,
        ),
        saes=SaesConfig(
            path=f"{model}/saes",
            d_sae=512,
            architecture="relu",
            l1_coefficient=1.13,
            learning_rate=3e-3,
            epochs=2,
            batch_size=1024,
            buffer_positions=262_144,
        ),
        index=IndexConfig(run=f"real-{model}", pooling="head"),
    )


def make_model(work: Path, model: str) -> None:
    """Train a tiny Gemma 2 language model, and before the first one a tokenizer, on the training documents alone."""
    from tegakari.demo.tiny import make_base_model, pretrain
    from tegakari.demo.tokenizer import train_tokenizer
    from tegakari.indexer.corpus import read_documents

    texts = [document.text for document in read_documents(work / "corpus", "train")]
    if not (work / "untrained").is_dir():
        make_base_model(work / "untrained", train_tokenizer(texts, VOCABULARY, alphabet=3000), **MODEL)
    target = work / model / "language-model"
    target.parent.mkdir(exist_ok=True)
    pretrain(work / MODELS[model], target, texts, steps=PRETRAINING_STEPS, max_length=128, seed=len(model))


def run_stage(name: str, command: Sequence[str], work: Path, finished: Path) -> dict[str, Any]:
    """Run one stage unless it is finished; return its wall time in seconds and peak memory in bytes."""
    record = work / f"{name.replace(' ', '-')}.stage.json"
    if finished.exists() and record.is_file():
        return json.loads(record.read_text())
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=work, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stage {name} failed")
    cost = {"seconds": round(time.perf_counter() - started, 1), "peak_memory_bytes": usage.ru_maxrss * 1024}
    record.write_text(json.dumps(cost))
    return cost


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all stages, print the tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?", default=os.environ.get("CORPUS"), help="labelled posts")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/real-corpus"))
    parser.add_argument("--model-only", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.model_only:
        make_model(options.work, options.model_only)
        return
    if options.corpus is None:
        parser.error("give the corpus, or set CORPUS")
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
    costs = {}
    for model in MODELS:
        config = work / f"{model}.toml"
        config.write_text(render_config(config_for(Path(options.corpus), model)), encoding="utf-8")
        cli, option = "tegakari.cli", ("--config", config.name)
        stages = {
            "corpus import": ([cli, "corpus", "import", *option], work / "corpus"),
            f"{model} model": (
                ["benchmarks.real_corpus", "--model-only", model, "--work", str(work)],
                work / model / "language-model",
            ),
            f"{model} finetune": ([cli, "finetune", *option], work / model / "classifier"),
            f"{model} sae train": ([cli, "sae", "train", *option], work / model / "saes"),
            f"{model} index": ([cli, "index", *option], work / "store" / "runs" / f"real-{model}"),
        }
        costs |= {name: run_stage(name, command, work, done) for name, (command, done) in stages.items()}
    report(work, costs)


def report(work: Path, costs: dict[str, dict[str, Any]]) -> None:
    """Print the costs and results."""
    figures: dict[str, Any] = {"stages": costs}
    for model in MODELS:
        figures[model] = report_model(work, model)
    times = Table("stage", "seconds", "peak MB", title="Cost")
    for name, cost in costs.items():
        times.add_row(name, f"{cost['seconds']:.0f}", f"{cost['peak_memory_bytes'] / 2**20:.0f}")
    out.print(times)
    out.file.write(json.dumps(figures, ensure_ascii=False) + "\n")


def report_model(work: Path, model: str) -> dict[str, Any]:
    """Print and return the results of one model."""
    from tegakari.schemas.classifier import ClassifierReport
    from tegakari.store import Store, queries

    evaluation = msgspec.json.decode((work / model / "classifier" / "report.json").read_bytes(), type=ClassifierReport)
    scores = Table("macro-F1", f"classifier {model}", "TF-IDF + SVC", title="Evaluation documents")
    scores.add_row("all labels", f"{evaluation.classifier.macro_f1:.3f}", f"{evaluation.baseline.macro_f1:.3f}")
    by_prefix, baseline_by_prefix = evaluation.classifier.macro_f1_by_prefix, evaluation.baseline.macro_f1_by_prefix
    for prefix, value in by_prefix.items():
        scores.add_row(f"{prefix}-*", f"{value:.3f}", f"{baseline_by_prefix[prefix]:.3f}")
    out.print(scores)
    layers = Table(
        "layer", "explained variance", "L0", "specific", "shared", "weak", title=f"SAEs and label specificity, {model}"
    )
    specificity = queries.specificity(Store(work / "store").run(f"real-{model}"))
    for row in specificity:
        variance = "-" if row.explained_variance is None else f"{row.explained_variance:.3f}"
        layers.add_row(str(row.layer), variance, f"{row.l0:.1f}", str(row.specific), str(row.shared), str(row.weak))
    out.print(layers)
    return {
        "macro_f1": evaluation.classifier.macro_f1,
        "baseline_macro_f1": evaluation.baseline.macro_f1,
        "macro_f1_by_prefix": by_prefix,
        "baseline_macro_f1_by_prefix": baseline_by_prefix,
        "layers": [msgspec.to_builtins(row) for row in specificity],
    }


if __name__ == "__main__":
    main()
