"""`tegakari finetune`."""

from __future__ import annotations

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, DeviceOption, JsonOption
from tegakari.cli.output import print_json, print_table, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import load_config


@needs_extra("index")
def finetune(config: ConfigOption = DEFAULT_CONFIG, device: DeviceOption = "auto", json: JsonOption = False) -> None:
    """Fine-tune the classifier and score it beside TF-IDF + linear SVC. An interrupted run resumes.

    Example: [bold]tegakari finetune --config tegakari.toml[/]
    """
    from tegakari.indexer.training.classifier import finetune as run

    with progress() as bars:
        report = run(load_config(config), device=device, progress=bars)
    if json:
        print_json(report)
        return
    print_table(
        "Evaluation documents",
        ("model", "macro-F1", "accuracy"),
        [
            ("classifier", report.classifier.macro_f1, report.classifier.accuracy),
            ("TF-IDF + SVC", report.baseline.macro_f1, report.baseline.accuracy),
        ],
    )
    worst = sorted(report.classifier.labels, key=lambda score: score.recall)[:10]
    print_table(
        "Labels of lowest recall",
        ("label", "recall", "precision", "F1", "documents"),
        [(score.label, score.recall, score.precision, score.f1, score.support) for score in worst],
    )
