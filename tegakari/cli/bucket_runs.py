"""`tegakari runs push` and `pull`, and what the other commands of `tegakari runs` do with a bucket."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tegakari.cli.options import JsonOption, StoreDirectoryOption, is_bucket, store_directory
from tegakari.cli.output import page_of, print_json, print_table, print_text, progress
from tegakari.extras import extras_named, needs_extra
from tegakari.schemas.api import RunSummary
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.run import RunManifest

if TYPE_CHECKING:
    from tegakari.store.objects.bucket import Bucket


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What a command did with a run."""

    run: str
    state: str


def print_state(sentence: str, state: RunState, json: bool) -> None:
    """What a command did, as a sentence or as JSON."""
    if json:
        print_json(state)
    else:
        print_text(sentence)


def open_bucket(url: str, option: str = "--store") -> Bucket:
    """A bucket that an option names.

    Raises:
        ConfigError: the value names no bucket.
        MissingExtraError: `tegakari[s3]` is not installed.
    """
    if not is_bucket(url):
        raise ConfigError(f"{url!r} is no bucket", field=option, fix="write s3://bucket or s3://bucket/prefix")
    with extras_named("s3"):
        from tegakari.store.objects.bucket import Bucket

    return Bucket(url)


def bucket_summaries(url: str) -> list[RunSummary]:
    """The runs of a bucket by name, from their manifests alone."""
    bucket = open_bucket(url)
    from tegakari.store.objects.published_runs import published_runs

    return [msgspec.convert(run.manifest, RunSummary, from_attributes=True) for run in published_runs(bucket)]


@needs_extra("s3")
def push(
    run: Annotated[str, typer.Argument(help="Name of a published run.")],
    to: Annotated[str, typer.Argument(help="Bucket, with or without a prefix: s3://bucket/prefix.", metavar="BUCKET")],
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Publish a copy of a run in a bucket. Interrupted, the same command goes on where it was.

    Example: [bold]tegakari runs push demo-jpn s3://our-bucket/tegakari[/]
    """
    from tegakari.store.objects.push import push_run

    bucket = open_bucket(to, "BUCKET")
    with progress() as bars:
        push_run(bucket, store_directory(store), run, bars)
    print_state(f"run {run} published in {bucket.url}", RunState(run=run, state="published"), json)


@needs_extra("s3")
def pull(
    run: Annotated[str, typer.Argument(help="Name of a run of the bucket.")],
    origin: Annotated[str, typer.Option("--from", help="Bucket, with or without a prefix: s3://bucket/prefix.")],
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Publish a copy of a run of a bucket in a store, after comparing every file with its checksum.

    Interrupted, the same command goes on where it was; nothing is received twice.

    Example: [bold]tegakari runs pull demo-jpn --from s3://our-bucket/tegakari --store store[/]
    """
    from tegakari.store.objects.pull import pull_run

    bucket = open_bucket(origin, "--from")
    with progress() as bars:
        pull_run(bucket, run, store_directory(store), bars)
    print_state(f"run {run} pulled from {bucket.url}", RunState(run=run, state="pulled"), json)


def confirm_deletion(manifest: RunManifest, store: str) -> None:
    """Ask whether a run may be deleted.

    Raises:
        ConfigError: nobody can be asked.
        Abort: it may not.
    """
    if not sys.stdin.isatty():
        raise ConfigError(f"run {manifest.run} would be deleted for good", field="--yes", fix="give --yes")
    typer.confirm(
        f"Delete run {manifest.run} of {store} ({manifest.corpus.documents:,} documents, "
        f"created {manifest.created[:10]})?",
        abort=True,
        err=True,
    )


def delete_bucket_run(url: str, run: str, *, yes: bool) -> None:
    """Delete a run of a bucket, asking first."""
    bucket = open_bucket(url)
    from tegakari.store.objects.published_runs import delete_published_run, existing_run

    if not yes:
        confirm_deletion(existing_run(bucket, run).manifest, bucket.url)
    delete_published_run(bucket, run)


def collect_bucket(url: str, *, delete: bool, json: bool) -> None:
    """List or delete the uploads of a bucket that no run needs, and unfinished work."""
    bucket = open_bucket(url)
    from tegakari.store.disk.layout import WORK
    from tegakari.store.objects.published_runs import (
        abandoned_uploads,
        abandoned_work,
        delete_abandoned_work,
        delete_upload,
        upload_directory,
    )

    uploads, work = list(abandoned_uploads(bucket)), list(abandoned_work(bucket))
    if delete:
        for upload in uploads:
            delete_upload(bucket, upload.run, upload.upload)
        for unfinished in work:
            delete_abandoned_work(bucket, unfinished.run)
    reason = "upload without a run, unchanged for a day"
    rows = [(upload_directory(upload.run, upload.upload), reason, upload.size) for upload in uploads]
    reason = "unfinished work, unchanged for a day"
    rows += [(f"{WORK}/{unfinished.run}", reason, unfinished.size) for unfinished in work]
    if json:
        print_json(
            page_of([{"path": f"{bucket.url}/{path}", "reason": why, "bytes": size} for path, why, size in rows])
        )
    elif rows:
        print_table("Removed" if delete else "Removable with --delete", ("path", "why", "bytes"), rows)
    else:
        print_text(f"no garbage in {bucket.url}")
