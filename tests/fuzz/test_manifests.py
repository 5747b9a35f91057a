"""Drawn run.json, analysis.json, result.json and others: one of tegakari's own errors, or a reader that works."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tegakari.indexer.corpus.files import read_manifest as read_corpus_manifest
from tegakari.indexer.index_models import _start_seeds
from tegakari.models.sae_formats.registry import load_sae
from tegakari.schemas.analysis import ANALYSIS_FORMAT
from tegakari.schemas.errors import SaeError, TegakariError
from tegakari.service.admission.keys import KeyRing, create_key, read_keys
from tegakari.store import Store
from tegakari.store.disk.garbage import find_garbage
from tegakari.store.disk.publish import adopt_run, damaged_files
from tegakari.store.results import stored_analyses
from tegakari.store.sql.query import run_query
from tests.support.asgi import AsgiClient, asgi_client
from tests.support.factories import LABELS, make_run
from tests.support.fuzzing import NESTED, changed, changed_bytes, drawn
from tests.support.published_saes import PUBLISHED
from tests.support.sae_layouts import LAYOUTS
from tests.support.service import RUN, segment

LABEL = segment(LABELS[0])
DOCUMENT = segment(f"{LABELS[0]}-000")

ROUTES = (
    "",
    "/labels",
    f"/labels/{LABEL}/features?limit=50",
    "/features?order=cohens_d",
    "/layers/1/features/2?tokens=10",
    "/layers/1/features/2/histogram",
    f"/documents/{DOCUMENT}?features=20",
    "/specificity",
    "/classification",
    "/sparsity",
    "/circuit",
    "/variants",
    "/cues",
)


def sealed(manifest: Any) -> bytes:
    """A run.json whose checksum is that of its content, as far as it has one."""
    if isinstance(manifest, dict) and "checksum" in manifest:
        unsigned = json.dumps({**manifest, "checksum": ""}, ensure_ascii=False, separators=(",", ":"))
        manifest = {**manifest, "checksum": hashlib.sha256(unsigned.encode("utf-8", "replace")).hexdigest()}
    return json.dumps(manifest).encode()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, AsgiClient]]:
    """A store of one run that tests may damage, and a service over it."""
    store = tmp_path_factory.mktemp("damaged")
    make_run(store, RUN, layers=2, d_sae=12, documents_per_label=2)
    with asgi_client(store) as client:
        yield store, client


def read_everything(store: Path, client: AsgiClient) -> None:
    """Fail if a reader of the store fails in another way than with one of its own errors."""
    for route in ("/v1/runs", "/readyz", *(f"/v1/runs/{RUN}{route}" for route in ROUTES)):
        response = client.request("GET", route.encode())
        assert b"internal-error" not in response.body, (route, response.body)
        assert response.status in (200, 304, 400, 404, 500)
    for read in (
        lambda: Store(store).runs(),
        lambda: damaged_files(store, RUN),
        lambda: find_garbage(store),
        lambda: list(stored_analyses(store)),
    ):
        with suppress(TegakariError):
            read()


def test_a_drawn_run_json_is_an_error_or_a_run(service: tuple[Path, AsgiClient]):
    store, client = service
    file = store / "runs" / RUN / "run.json"
    honest = file.read_bytes()

    @drawn(60)
    @given(st.one_of(changed(json.loads(honest)).map(sealed), changed_bytes(honest)))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        read_everything(store, client)

    try:
        check()
    finally:
        file.write_bytes(honest)
    read_everything(store, client)
    assert client.request("GET", f"/v1/runs/{RUN}".encode()).status == 200


@pytest.mark.parametrize("front", [b"", b'{"format": 3, "x": ', b'{"format": ', b'{"runs": ', b'{"settings": '])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_deeply_nested_file_is_damaged(service: tuple[Path, AsgiClient], front: bytes, opening: bytes):
    store, client = service
    run_json = store / "runs" / RUN / "run.json"
    honest = run_json.read_bytes()
    analysis = store / "analyses" / "knockout" / ("0" * 32) / "analysis.json"
    analysis.parent.mkdir(parents=True, exist_ok=True)
    job = store / "jobs" / f"{'0' * 32}.json"
    job.parent.mkdir(exist_ok=True)
    try:
        for file in (run_json, analysis, job):
            file.write_bytes(front + opening * 20_000)
        read_everything(store, client)
        assert client.request("GET", b"/v1/knockouts/" + b"0" * 32).status in (404, 500)
    finally:
        run_json.write_bytes(honest)
        analysis.unlink()
        analysis.parent.rmdir()
        job.unlink()


def test_a_drawn_adopted_run_is_refused_or_whole(service: tuple[Path, AsgiClient], tmp_path: Path):
    store, _ = service
    file = store / "runs" / RUN / "run.json"
    honest = file.read_bytes()

    @drawn(40)
    @given(changed(json.loads(honest)).map(sealed))
    def check(content: bytes) -> None:
        file.write_bytes(content)
        try:
            manifest = adopt_run(tmp_path / "target", store / "runs" / RUN)
        except TegakariError:
            assert not list((tmp_path / "target").glob("runs/*/run.json"))
            return
        adopted = tmp_path / "target" / "runs" / manifest.run
        assert adopted.parent == tmp_path / "target" / "runs"
        for path in sorted(adopted.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        adopted.rmdir()

    try:
        check()
    finally:
        file.write_bytes(honest)


ANALYSIS = {
    "format": ANALYSIS_FORMAT,
    "kind": "circuit",
    "key": "0" * 32,
    "runs": [{"run": RUN, "fingerprint": ""}],
    "settings": {"label": "a", "layer": 0},
    "created": "2026-11-27T00:00:00+00:00",
    "versions": {"tegakari": "0"},
    "seconds": 1.5,
    "files": [{"path": "result.json", "size": 2, "sha256": "0" * 64}],
}


def test_a_drawn_analysis_is_left_out_or_shown(service: tuple[Path, AsgiClient]):
    store, client = service
    fingerprint = Store(store).run(RUN).manifest.fingerprint
    honest = {**ANALYSIS, "runs": [{"run": RUN, "fingerprint": fingerprint}]}
    directory = store / "analyses" / "circuit" / ("0" * 32)
    directory.mkdir(parents=True)
    result = b'{"run": "x", "layer": 1, "pairs": [], "components": []}'

    @drawn(50)
    @given(
        st.one_of(
            changed(honest).map(lambda value: json.dumps(value).encode()), changed_bytes(json.dumps(honest).encode())
        ),
        st.one_of(changed(json.loads(result)).map(lambda value: json.dumps(value).encode()), changed_bytes(result)),
    )
    def check(manifest: bytes, stored_result: bytes) -> None:
        (directory / "analysis.json").write_bytes(manifest)
        (directory / "result.json").write_bytes(stored_result)
        read_everything(store, client)

    try:
        check()
        (directory / "result.json").write_bytes(result)
        (directory / "analysis.json").write_bytes(json.dumps(honest).encode())
        assert run_query(store, [RUN], "FROM analyses").read_all().num_rows == 1
        settings_of = json.dumps(honest["settings"]).encode()
        for settings in (b'"\xff"', b'"\\ud800"', b"1e999", b"9" * 5000, b"[" * 900 + b"]" * 900, b'{"a": NaN}'):
            (directory / "analysis.json").write_bytes(json.dumps(honest).encode().replace(settings_of, settings))
            read_everything(store, client)
            run_query(store, [RUN], "SELECT count(settings), min(result) FROM analyses").read_all()
    finally:
        (directory / "analysis.json").unlink()
        (directory / "result.json").unlink()
        directory.rmdir()


def test_a_drawn_file_of_keys_is_an_error_or_keys(tmp_path: Path):
    file = tmp_path / "keys.json"
    key, _ = create_key(file, "reader", "read", days=3)
    honest = file.read_bytes()

    @drawn(150)
    @given(
        st.one_of(
            changed(json.loads(honest)).map(lambda value: json.dumps(value).encode()),
            changed_bytes(honest),
            NESTED.map(lambda text: b'{"keys": ' + text.encode()),
        )
    )
    def check(content: bytes) -> None:
        file.write_bytes(content)
        try:
            read_keys(file)
            ring = KeyRing(file)
            assert ring.required
            record = ring.check(f"Bearer {key}", "")
        except TegakariError:
            return
        assert record.scope in ("read", "compute", "admin")
        assert record.sha256 == hashlib.sha256(key.encode()).hexdigest()

    check()


READERS: dict[str, tuple[str, dict[str, Any], Callable[[Path], object]]] = {
    "corpus": (
        "corpus.json",
        {
            **dict.fromkeys(("source", "source_sha256", "content_sha256"), "x"),
            **dict.fromkeys(("rows", "documents", "train", "eval", "seed"), 4),
            "labels": ["a", "b"],
            "dropped": [{"reason": "empty", "count": 1}],
            "changed": [],
        },
        read_corpus_manifest,
    ),
    "training of SAEs": (
        "training.json",
        {
            "recipe": {
                **dict.fromkeys(("classifier_sha256", "corpus_sha256"), "x"),
                **{"dtype": "float32", "layers": [0], "architecture": "relu"},
                **dict.fromkeys(("max_length", "d_sae", "k", "batch_size", "epochs", "buffer_positions", "seed"), 4),
                **dict.fromkeys(("l1_coefficient", "target_l0", "learning_rate"), 0.5),
                **dict.fromkeys(("l1_warmup", "learning_rate_decay"), 0.1),
            }
        },
        lambda directory: _start_seeds(directory, {}),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_drawn_manifest_is_an_error_or_one(tmp_path: Path, name: str):
    file_name, honest, read = READERS[name]
    file = tmp_path / file_name

    @drawn(80)
    @given(
        st.one_of(
            changed(honest).map(lambda value: json.dumps(value).encode()),
            changed_bytes(json.dumps(honest).encode()),
            NESTED.map(lambda text: b'{"x": ' + text.encode()),
        )
    )
    def check(content: bytes) -> None:
        file.write_bytes(content)
        try:
            read(tmp_path)
        except TegakariError:
            return

    check()


@pytest.mark.parametrize("name", LAYOUTS | PUBLISHED)
def test_a_drawn_configuration_of_an_sae_is_an_error_or_an_sae(tmp_path: Path, name: str):
    (LAYOUTS | PUBLISHED)[name].write(tmp_path)
    files = sorted(tmp_path.rglob("*.json"))
    if not files:
        pytest.skip("the layout has no configuration")
    directory = files[0].parent

    @drawn(25)
    @given(data=st.data(), file=st.sampled_from(files))
    def check(data: st.DataObject, file: Path) -> None:
        honest = file.read_bytes()
        content = st.one_of(
            changed(json.loads(honest)).map(lambda value: json.dumps(value).encode()),
            changed_bytes(honest),
            NESTED.map(lambda text: b'{"x": ' + text.encode()),
        )
        try:
            file.write_bytes(data.draw(content))
            load_sae(directory)
        except SaeError:
            pass
        finally:
            file.write_bytes(honest)

    check()
