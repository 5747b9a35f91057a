"""`tegakari demo`: the whole pipeline on a small generated corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli import features, finetune, index, sae, serve, specificity
from tegakari.cli.corpus import import_
from tegakari.cli.output import err, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import load_config


@needs_extra("all")
def demo(
    directory: Annotated[Path, typer.Argument(help="Directory to work in.")] = Path("demo-work"),
    port: Annotated[int, typer.Option(help="Port of the API.", envvar="TEGAKARI_PORT")] = 8765,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of corpus, models and training.")] = 0,
    serve_: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the API at the end.")] = True,
) -> None:
    """Make a corpus and two tiny Gemma 2 models, fine-tune, train SAEs, index and serve. An interrupted demo resumes.

    Example: [bold]tegakari demo demo-work --no-serve[/]
    """
    from tegakari.demo.workspace import SHOWN_LABEL, make_demo

    with progress() as bars:
        configs = make_demo(directory, seed, progress=bars)
    import_(configs[0])
    for path in configs:
        err.rule(path.stem)
        finetune.finetune(path)
        sae.train(path)
        index.index(path)
    for path in configs:
        settings = load_config(path).index
        specificity.specificity(settings.run, store=settings.store)
        features.features(settings.run, SHOWN_LABEL, variety="specific", k=8, store=settings.store)
    if serve_:
        last = load_config(configs[0])
        serve.serve(configs[0], store=last.index.store, host=last.service.host, port=port)
