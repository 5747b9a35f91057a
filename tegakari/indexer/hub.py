"""Models of the Hugging Face hub: the chosen files of one revision, downloaded into the hub's cache or found there.

The library `huggingface_hub` decides where the cache is (`HF_HOME`), which hub is asked (`HF_ENDPOINT`) and whether any
is (`HF_HUB_OFFLINE`).
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, ResolvedRevision, constants, get_cached_repo_tree
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from tegakari.models.hub_cache import error_of
from tegakari.schemas.errors import ConfigError, TegakariError
from tegakari.store.disk.durable import translate_disk_full

SCHEME = "hf://"
_REFERENCE = re.compile(r"^hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<directory>.+?))?/?$")

CLASSIFIER_FILES = re.compile(r"^[^/]+\.(json|safetensors|model|txt|jinja)$")
"""Files of a classifier and its tokenizer: of the repository's root, where weights are safetensors alone."""

Choice = Callable[[Sequence[str], Path], Collection[str]]
"""Chooses files of a directory: from their paths relative to it, and the directory that it will be on this machine."""


class HubReference(NamedTuple):
    """A directory of a repository, `hf://OWNER/NAME[@REVISION][/DIRECTORY]`."""

    repository: str
    revision: str = constants.DEFAULT_REVISION
    """branch, tag or commit"""
    directory: str = ""


def hub_reference(path: str, field: str) -> HubReference:
    """Parse a path of a configuration that begins with `hf://`.

    Raises:
        ConfigError: it has another form.
    """
    match = _REFERENCE.match(path)
    if match is None:
        raise ConfigError(
            f"{path!r} names no repository",
            field=field,
            fix="write hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME@REVISION/DIRECTORY",
        )
    return HubReference(
        match["repository"], match["revision"] or constants.DEFAULT_REVISION, (match["directory"] or "").strip("/")
    )


def download(reference: HubReference, choose: Choice, field: str) -> Path:
    """The directory of a reference in the hub's cache, with the chosen files; those in the cache are not downloaded.

    A hub that cannot be reached is not needed if all chosen files are in the cache.

    Args:
        reference: the directory.
        choose: gets the files below the directory, and returns those that are wanted.
        field: configuration key that named it.

    Raises:
        ModelError, SaeError: by the field: no such repository, revision or directory; access is not granted; files are
            missing from the cache and the hub cannot be reached; or a file has another size than the hub says.
        DiskFullError: no space for the download.
    """
    api = HfApi(endpoint=constants.ENDPOINT)
    repository, prefix = reference.repository, f"{reference.directory}/" if reference.directory else ""
    try:
        with translate_disk_full(Path(constants.HF_HUB_CACHE), field=field):
            revision = api.resolve_revision(repository, revision=reference.revision)
            sizes = _listing(api, repository, revision)
            below = [path.removeprefix(prefix) for path in sizes if path.startswith(prefix)]
            chosen = _chosen(choose, below, _cached(repository, revision), reference, field)
            patterns = [glob.escape(path) for path in chosen]
            root = Path(api.snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except TegakariError:
        raise
    except Exception as error:  # noqa: BLE001 - the client passes on exceptions of its HTTP and transfer libraries
        raise _translated(error, reference, field) from None
    for path in chosen:
        if (size := (root / path).stat().st_size) != sizes[path]:
            raise error_of(field)(
                f"{root / path} has {size:,} bytes, the hub's file has {sizes[path]:,}",
                field=field,
                fix=f"delete {(root / path).resolve()} and download it again",
            )
    return root / reference.directory


def _chosen(choose: Choice, files: Sequence[str], snapshot: Path, reference: HubReference, field: str) -> list[str]:
    """Paths of the chosen files in the repository."""
    prefix = f"{reference.directory}/" if reference.directory else ""
    chosen = [prefix + path for path in choose(files, snapshot / reference.directory)]
    if not chosen:
        raise error_of(field)(
            f"{reference.repository} has no files of a model in {reference.directory or 'its root'!r}",
            field=field,
            fix="name the directory of the files in the repository",
        )
    return chosen


def _cached(repository: str, revision: ResolvedRevision) -> Path:
    name = f"models--{repository.replace('/', '--')}"
    return Path(constants.HF_HUB_CACHE) / name / "snapshots" / revision.resolved


def _listing(api: HfApi, repository: str, revision: ResolvedRevision) -> dict[str, int]:
    """Sizes of all files of a revision by path, from the cache or from the hub."""
    try:
        entries = get_cached_repo_tree(repository, revision=revision, cache_dir=constants.HF_HUB_CACHE)
    except CachedRepoTreeNotFoundError:
        entries = api.list_repo_tree(repository, recursive=True, revision=revision.resolved)
    return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}


def _translated(error: Exception, reference: HubReference, field: str) -> TegakariError:
    repository = reference.repository
    offline = (
        "the hub's cache lacks its list of files or one of the chosen files, and HF_HUB_OFFLINE forbids a download"
        if constants.HF_HUB_OFFLINE
        else ""
    )
    match error:
        case GatedRepoError():
            message = f"the licence of {repository} must be accepted before the hub allows the download"
            fix = "accept it on the repository's page and log in with `hf auth login`"
        case RepositoryNotFoundError():
            message = f"the hub has no repository {repository}, or does not show it to you"
            fix = "correct its name, or log in with `hf auth login`"
        case RevisionNotFoundError():
            message = f"{repository} has no revision {reference.revision!r}"
            fix = "name a branch, a tag or the hash of a commit"
        case _:
            first_line = str(error).strip().partition("\n")[0]
            message = f"{repository} cannot be downloaded: {offline or first_line}"
            fix = "try again with a connection, or name a directory that has the files, such as a snapshot of the cache"
    return error_of(field)(message, field=field, fix=fix)
