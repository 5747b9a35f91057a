"""`tegakari index`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tegakari.cli.bucket_runs import open_bucket
from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from tegakari.cli.output import print_json, print_text, progress
from tegakari.extras import extras_named, needs_extra
from tegakari.schemas.config import load_config
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.run import IndexedPart, RunManifest

if TYPE_CHECKING:
    from tegakari.indexer.executors import Executor
    from tegakari.store.objects.bucket import Bucket

WAIT_SECONDS = 300.0

WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        "-w",
        min=1,
        max=4096,
        help="Processes, or actors of --ray; for shards, each loads the models. Same tables for any number.",
    ),
]
ShardsOption = Annotated[
    str | None,
    typer.Option("--shards", metavar="I/N", help="Index part I of N of the shards and stop before the merge."),
]
OnlyOption = Annotated[
    Literal["shards", "merge"] | None,
    typer.Option("--only", help="Index the shards and stop, or merge the shards of earlier commands."),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS|auto", help="Workers are actors of this Ray cluster; auto: of this node's."),
]
GpusOption = Annotated[
    float | None,
    typer.Option("--gpus-per-worker", min=0, max=8, help="GPUs that Ray gives each worker; default: 0."),
]
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait-seconds",
        min=1,
        max=86400,
        help=f"End if no worker of --ray is ready for so long; default: {WAIT_SECONDS:g}.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="BUCKET",
        help="Publish the run in this bucket (s3://bucket/prefix) as well. Workers of --ray then send their shards "
        "there, and need no disk in common with this command.",
    ),
]


@needs_extra("index")
def index(
    config: ConfigOption = DEFAULT_CONFIG,
    workers: WorkersOption = 1,
    shards: ShardsOption = None,
    only: OnlyOption = None,
    ray: RayOption = None,
    gpus_per_worker: GpusOption = None,
    wait_seconds: WaitOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Index the corpus and publish a run. An interrupted index resumes with the next shard.

    Example: [bold]tegakari index --workers 2[/]
    """
    from tegakari.indexer import pipeline
    from tegakari.indexer.parts import WHOLE, Part

    part = Part.parse(shards) if shards is not None else WHOLE
    if shards is not None and only == "merge":
        raise ConfigError("merge has no parts", field="--only", fix="leave --shards or --only out")
    if store is not None and (shards is not None or only is not None):
        raise ConfigError(f"{store}, but for a part of the work", field="--store", fix="leave out --shards and --only")
    bucket = open_bucket(store) if store is not None else None
    executor = _executor(workers, ray, gpus_per_worker, wait_seconds, bucket)
    settings = load_config(config)
    with progress() as bars:
        if shards is not None or only == "shards":
            _print_part(pipeline.index_part(settings, bars, part=part, executor=executor), json)
            return
        if only == "merge":
            result = pipeline.merge(settings, bars, executor=executor)
        elif bucket is not None:
            from tegakari.indexer.bucket_index import index_into_bucket

            result = index_into_bucket(settings, bucket, bars, executor=executor)
        else:
            result = pipeline.index(settings, bars, executor=executor)
    _print_run(result.manifest, result.already_published, json)


def _executor(
    workers: int,
    address: str | None,
    gpus_per_worker: float | None,
    wait_seconds: float | None,
    bucket: Bucket | None,
) -> Executor:
    from tegakari.indexer.executors import Processes

    if address is None:
        for option, value in (("--gpus-per-worker", gpus_per_worker), ("--wait-seconds", wait_seconds)):
            if value is not None:
                raise ConfigError(f"{value:g}, but without --ray", field=option, fix="add --ray, or leave it out")
        if workers > 64:
            raise ConfigError(f"{workers} processes", field="--workers", fix="use 64 at most, or add --ray")
        return Processes(workers)
    with extras_named("ray"):
        import_module("ray")
    from tegakari.indexer.executors.ray_actors import RayActors

    wait_seconds = WAIT_SECONDS if wait_seconds is None else wait_seconds
    return RayActors(
        address,
        workers,
        gpus_per_worker=gpus_per_worker or 0,
        wait_seconds=wait_seconds,
        bucket=None if bucket is None else bucket.url,
    )


def _print_part(part: IndexedPart, json: bool) -> None:
    if json:
        print_json(part)
    elif part.published:
        print_text(f"run {part.run} was published already, from the same inputs")
    else:
        rest = "tegakari index --only merge publishes the run" if not part.missing else f"{part.missing:,} are missing"
        print_text(f"run {part.run}, part {part.part}: {part.shards:,} shards are indexed; of all shards, {rest}")


def _print_run(manifest: RunManifest, already_published: bool, json: bool) -> None:
    if json:
        print_json(manifest)
        return
    state = "was published already, from the same inputs" if already_published else "published"
    print_text(
        f"run {manifest.run} {state}: {manifest.corpus.documents:,} documents, {manifest.positions:,} positions, "
        f"{len(manifest.saes.layers)} layers, macro-F1 {manifest.scores.macro_f1:.3f}"
    )
    for drop in manifest.skipped:
        print_text(f"  left out: {drop.count:,} documents, {drop.reason} (such as {', '.join(drop.examples)})")
    for doubt in manifest.saes.doubts:
        print_text(f"  doubtful SAEs: {doubt}")
