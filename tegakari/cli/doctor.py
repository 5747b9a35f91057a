"""`tegakari doctor`: what is installed, the device, and the store in use."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tegakari.cli.checks import Check, directory_check, print_checks
from tegakari.cli.options import DEFAULT_CONFIG, JsonOption, StoreOption, is_address, store_name
from tegakari.extras import EXTRA_OF
from tegakari.schemas.config import load_config
from tegakari.schemas.errors import TegakariError
from tegakari.version import __version__

MIN_FREE_BYTES = 4 * 10**9
"""Free disk space below which there is a note: the demo needs as much."""


def doctor(store: StoreOption = None, json: JsonOption = False) -> None:
    """Check versions, extras, the GPU, and the store in use with its runs, models and disk.

    Exit code 1 if there is a problem. Nothing is changed.

    Example: [bold]tegakari doctor --store store[/]
    """
    checks = [
        Check(what="tegakari", state="ok", value=f"{__version__}, {Path(__file__).parents[1]}"),
        Check(what="Python", state="ok", value=f"{platform.python_version()}, {platform.platform()}"),
        Check(what="processor", state="ok", value=f"{os.cpu_count()} cores, {_memory()}"),
        *_extras(),
        *_device(),
        *_configuration(),
        *_store(store),
    ]
    print_checks("Doctor", checks, json=json)


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "memory unknown"
    return f"{size / 2**30:.1f} GiB of memory"


def _extras() -> Iterator[Check]:
    """Per extra: the versions of its packages, or those that are missing."""
    from importlib.metadata import packages_distributions

    distributions = packages_distributions()
    for extra in dict.fromkeys(EXTRA_OF.values()):
        packages = [package for package, owner in EXTRA_OF.items() if owner == extra]
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            fix = f"pip install 'tegakari[{extra}]', if you need it"
            yield Check(what=f"extra {extra}", state="note", value=f"without {', '.join(missing)}", fix=fix)
        else:
            names = [distributions.get(package, [package])[0] for package in packages]
            yield Check(what=f"extra {extra}", state="ok", value=", ".join(map(_named_version, names)))


def _named_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to import: 50 ms

    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} of unknown version"


def _device() -> Iterator[Check]:
    """GPU and Triton, as torch sees them."""
    if find_spec("torch") is None:
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check(what="torch", state="problem", value=f"cannot be imported: {error}", fix="install torch again")
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            value = f"{gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, CUDA {torch.version.cuda}"
            yield Check(what=f"GPU cuda:{number}", state="ok", value=value)
    else:
        built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}" if torch.version.cuda else "none"
        yield Check(what="GPU", state="note", value=built, fix="without one, models run on the CPU")
    if find_spec("triton") is None:
        yield Check(what="Triton", state="note", value="not installed", fix="it is used on a GPU alone")
    else:
        yield Check(what="Triton", state="ok", value=_named_version("triton"))


def _configuration() -> Iterator[Check]:
    if not DEFAULT_CONFIG.is_file():
        fix = "`tegakari init` writes one; commands that query a store need none"
        yield Check(what="configuration", state="note", value=f"no {DEFAULT_CONFIG} here", fix=fix)
        return
    try:
        load_config(DEFAULT_CONFIG)
    except TegakariError as error:
        yield Check(what="configuration", state="problem", value=f"{error.field}: {error.message}", fix=error.fix)
    else:
        yield Check(what="configuration", state="ok", value=str(DEFAULT_CONFIG.absolute()))


def _store(store: str | None) -> Iterator[Check]:
    try:
        name = store_name(store)
    except TegakariError:  # the configuration says so
        return
    if is_address(name):
        yield _service(name)
        return
    directory = Path(name).absolute()
    yield directory_check("store", directory, made_by="tegakari index")
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    value = f"{free / 10**9:.1f} GB free"
    short = free < MIN_FREE_BYTES
    fix = "`tegakari runs gc` lists what can go" if short else None
    yield Check(what="disk", state="note" if short else "ok", value=value, fix=fix)
    if (
        directory.is_dir()
        and find_spec("msgspec")
        and not [name for name in ("numpy", "pyarrow") if not find_spec(name)]
    ):
        yield from _runs(directory)


def _service(address: str) -> Check:
    from tegakari.client import Client

    try:
        with Client(address, timeout=10, retries=0) as client:
            runs = client.runs().all()
    except TegakariError as error:
        return Check(what="service", state="problem", value=f"{address}: {error.message}", fix=error.fix)
    return Check(what="service", state="ok", value=f"{address}, {len(runs)} runs")


def _runs(directory: Path) -> Iterator[Check]:
    """The runs of a store, and whether their models are where they were."""
    from tegakari.store.disk.layout import run_directory
    from tegakari.store.disk.publish import published_names, read_manifest

    names = published_names(directory)
    if not names:
        fix = "`tegakari index` publishes one; --store names another store"
        yield Check(what="runs", state="note", value=f"none in {directory}", fix=fix)
    for name in names:
        try:
            manifest = read_manifest(run_directory(directory, name))
        except (TegakariError, OSError) as error:
            yield Check(what=f"run {name}", state="problem", value=str(error), fix=f"`tegakari runs verify {name}`")
            continue
        locations = {"classifier": manifest.locations.classifier, "SAEs": manifest.locations.saes}
        missing = [f"{what} {path}" for what, path in locations.items() if not Path(path).is_dir()]
        if missing:
            fix = "queries work; classify, encode and knockouts need the models"
            yield Check(what=f"run {name}", state="note", value=f"not here: {', '.join(missing)}", fix=fix)
        else:
            value = f"{manifest.corpus.documents:,} documents, models in place"
            yield Check(what=f"run {name}", state="ok", value=value)
