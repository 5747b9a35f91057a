"""The corpus on disk: readable by other tools, replaced as a whole or not at all, and checked when it is read."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.indexer.corpus import import_corpus, read_documents, read_manifest
from tegakari.indexer.corpus.files import NEW_DOCUMENTS_FILE, NEW_MANIFEST_FILE
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import DOCUMENTS_FILE, MANIFEST_FILE, CorpusManifest
from tegakari.schemas.errors import CorpusError, DiskFullError
from tests.support.corpus_sources import import_file, import_rows, posts, write_jsonl
from tests.support.recorded_progress import RecordedProgress


@pytest.fixture
def corpus(tmp_path) -> Path:
    import_rows(tmp_path, posts())
    return tmp_path / "corpus"


@pytest.fixture
def newer(tmp_path) -> Path:
    """Another corpus, of three labels."""
    (tmp_path / "newer").mkdir()
    import_rows(tmp_path / "newer", posts(("a", "b", "c")))
    return tmp_path / "newer" / "corpus"


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def test_documents_are_plain_parquet_sorted_by_id(corpus):
    table = pq.read_table(corpus / DOCUMENTS_FILE)
    assert table.column_names == ["id", "label", "split", "text"]
    ids = table["id"].to_pylist()
    assert ids == sorted(ids) == [document.id for document in read_documents(corpus)]
    assert pq.ParquetFile(corpus / DOCUMENTS_FILE).metadata.row_group(0).column(3).compression == "ZSTD"
    with duckdb.connect() as database:
        database.execute(
            "select split, count(*) from read_parquet(?) group by 1 order by 1", [str(corpus / DOCUMENTS_FILE)]
        )
        assert database.fetchall() == [("eval", 4), ("train", 4)]


def test_more_documents_than_one_row_group(tmp_path):
    manifest = import_rows(tmp_path, posts("abcdefgh", per_label=400))
    assert pq.ParquetFile(tmp_path / "corpus" / DOCUMENTS_FILE).metadata.num_row_groups == 3
    ids = [document.id for document in read_documents(tmp_path / "corpus")]
    assert len(ids) == manifest.documents == 2560
    assert ids == sorted(ids)


def test_the_manifest_is_what_the_import_returned(tmp_path):
    manifest = import_rows(tmp_path, posts())
    assert read_manifest(tmp_path / "corpus") == manifest
    assert msgspec.convert(json.loads((tmp_path / "corpus" / MANIFEST_FILE).read_bytes()), CorpusManifest) == manifest
    assert manifest.source == "posts.jsonl"
    assert manifest.source_sha256 == hashlib.sha256((tmp_path / "posts.jsonl").read_bytes()).hexdigest()
    assert (manifest.train, manifest.eval, manifest.labels) == (4, 4, ["cars", "food"])


def test_the_content_hash_is_the_documented_one(corpus):
    digest = hashlib.sha256()
    for row in pq.read_table(corpus / DOCUMENTS_FILE).to_pylist():
        for key in ("id", "label", "split", "text"):
            value = row[key].encode()
            digest.update(len(value).to_bytes(8, "big") + value)
    assert read_manifest(corpus).content_sha256 == digest.hexdigest()


def test_progress_counts_the_rows(tmp_path):
    source = write_jsonl(tmp_path / "posts.jsonl", posts("abcde", per_label=500))
    progress = RecordedProgress()
    import_corpus(CorpusConfig(source=str(source), path=str(tmp_path / "corpus")), progress)
    assert progress.ends == {"reading rows": (2500, None)}


def test_documents_of_one_split(corpus):
    train, evaluation, both = (read_documents(corpus, split) for split in ("train", "eval", "all"))
    assert {document.split for document in train} == {"train"}
    assert sorted(train + evaluation) == both


def test_other_files_in_the_directory_are_not_changed(corpus, tmp_path):
    (corpus / "notes.txt").write_text("notes", encoding="utf-8")
    import_rows(tmp_path, posts("ab"))
    assert names(corpus) == [MANIFEST_FILE, DOCUMENTS_FILE, "notes.txt"]


def test_a_directory_without_a_corpus(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        for read in (read_manifest, read_documents):
            with pytest.raises(CorpusError, match="no corpus at") as caught:
                read(path)
            assert "tegakari corpus import" in (caught.value.fix or "")


def test_missing_documents(corpus):
    (corpus / DOCUMENTS_FILE).unlink()
    with pytest.raises(CorpusError, match="is missing"):
        read_documents(corpus)


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", "cut", "flip"])
def test_damaged_documents(corpus, damage):
    file = corpus / DOCUMENTS_FILE
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 255
    file.write_bytes({"cut": whole[:-20], "flip": bytes(flipped)}.get(damage, damage))
    with pytest.raises(CorpusError, match=r"cannot read|do not belong together"):
        read_documents(corpus)


@pytest.mark.parametrize("column", ["id", "label", "split", "text"])
def test_changed_documents(corpus, column):
    file = corpus / DOCUMENTS_FILE
    table = pq.read_table(file)
    values = table[column].to_pylist()
    values[3] = "train" if values[3] == "eval" else "eval" if values[3] == "train" else values[3] + "."
    field = table.schema.field(column)
    changed = table.set_column(table.column_names.index(column), field, pa.array(values, field.type))
    pq.write_table(changed, file)
    with pytest.raises(CorpusError, match="do not belong together"):
        read_documents(corpus)


def test_documents_out_of_order_or_of_another_shape(corpus):
    file = corpus / DOCUMENTS_FILE
    table = pq.read_table(file)
    for other in (table.sort_by([("id", "descending")]), table.slice(1), table.drop_columns(["split"])):
        pq.write_table(other, file)
        with pytest.raises(CorpusError, match=r"do not belong together|its columns are id, label, text"):
            read_documents(corpus)
    pq.write_table(table, file)
    assert len(read_documents(corpus)) == 8


@pytest.mark.parametrize("change", [{"labels": ["food", "cars"]}, {"content_sha256": "0" * 64}])
def test_a_changed_manifest(corpus, change):
    file = corpus / MANIFEST_FILE
    file.write_text(json.dumps(json.loads(file.read_bytes()) | change), encoding="utf-8")
    with pytest.raises(CorpusError, match="do not belong together"):
        read_documents(corpus)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff"])
def test_a_damaged_manifest(corpus, content):
    (corpus / MANIFEST_FILE).write_bytes(content)
    for read in (read_manifest, read_documents):
        with pytest.raises(CorpusError, match=r"corpus\.json is damaged"):
            read(corpus)


def test_a_failed_import_does_not_change_the_existing_corpus(corpus, tmp_path):
    before = read_manifest(corpus)
    files = {file.name: file.read_bytes() for file in corpus.iterdir()}
    source = write_jsonl(tmp_path / "bad.jsonl", [{"id": "x"}])
    with pytest.raises(CorpusError):
        import_file(source)
    assert {file.name: file.read_bytes() for file in corpus.iterdir()} == files
    assert read_manifest(corpus) == before


def test_an_import_killed_while_it_writes_does_not_change_the_existing_corpus(corpus, newer, tmp_path):
    before = read_manifest(corpus)
    new_documents = (newer / DOCUMENTS_FILE).read_bytes()
    for documents, manifest in (
        (new_documents[:100], None),
        (new_documents, b"{"),
        (new_documents, (newer / MANIFEST_FILE).read_bytes()),
    ):
        (corpus / NEW_DOCUMENTS_FILE).write_bytes(documents)
        if manifest is not None:
            (corpus / NEW_MANIFEST_FILE).write_bytes(manifest)
        assert read_manifest(corpus) == before
        assert len(read_documents(corpus)) == before.documents
    import_rows(tmp_path, posts("ab"))
    assert names(corpus) == [MANIFEST_FILE, DOCUMENTS_FILE]


def test_an_import_killed_between_its_two_renames_is_complete(corpus, newer, tmp_path, monkeypatch):
    shutil.copy(newer / DOCUMENTS_FILE, corpus / DOCUMENTS_FILE)
    shutil.copy(newer / MANIFEST_FILE, corpus / NEW_MANIFEST_FILE)
    assert read_manifest(corpus) == read_manifest(newer)
    assert read_documents(corpus) == read_documents(newer)

    # The older manifest does not come back if the next import fails while it writes.
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tegakari.indexer.corpus.files._write_parquet", fail)
    with pytest.raises(CorpusError, match=r"cannot write to .* Input/output error"):
        import_rows(tmp_path, posts("ab"))
    assert names(corpus) == [MANIFEST_FILE, DOCUMENTS_FILE]
    assert read_documents(corpus) == read_documents(newer)


def test_two_imports_into_one_directory(corpus, tmp_path):
    before = read_manifest(corpus)
    descriptor = os.open(corpus, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match="another import is writing"):
            import_rows(tmp_path, posts("ab"))
    finally:
        os.close(descriptor)
    assert read_manifest(corpus) == before
    import_rows(tmp_path, posts("ab"))


def test_a_directory_that_cannot_be_created(tmp_path):
    (tmp_path / "corpus").touch()
    with pytest.raises(CorpusError, match="cannot write to") as caught:
        import_rows(tmp_path, posts())
    assert caught.value.field == "corpus.path"


FULL_DISK = """
import sys
from pathlib import Path
from tegakari.indexer.corpus import import_corpus, read_documents
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.errors import DiskFullError
small, large, path = sys.argv[1:]
import_corpus(CorpusConfig(source=small, path=path, split_column="split"))
before = read_documents(Path(path))
try:
    import_corpus(CorpusConfig(source=large, path=path, split_column="split"))
except DiskFullError as error:
    assert error.field == "corpus.path", error.field
    assert read_documents(Path(path)) == before
    assert sorted(file.name for file in Path(path).iterdir()) == ["corpus.json", "documents.parquet"]
    print("refused")
"""


def test_a_full_disk_does_not_change_the_existing_corpus(tmp_path):
    small = write_jsonl(tmp_path / "small.jsonl", posts())
    noise = [row | {"body": os.urandom(3000).hex()} for row in posts("ab", per_label=200)]
    large = write_jsonl(tmp_path / "large.jsonl", noise)
    mount = tmp_path / "mount"
    mount.mkdir()
    in_small_disk = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=256k tmpfs "$0" && exec "$@"']
    try:
        subprocess.run([*in_small_disk, str(mount), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    arguments = [sys.executable, "-c", FULL_DISK, str(small), str(large), str(mount / "corpus")]
    done = subprocess.run([*in_small_disk, str(mount), *arguments], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_a_write_to_a_full_device_is_a_full_disk(corpus, tmp_path, monkeypatch):
    """The same without a mounted disk: a link to /dev/full in place of the new documents."""
    before = read_documents(corpus)
    monkeypatch.setattr("tegakari.indexer.corpus.files._finish_interrupted_import", lambda _: None)
    (corpus / NEW_DOCUMENTS_FILE).symlink_to("/dev/full")
    with pytest.raises(DiskFullError) as caught:
        import_rows(tmp_path, posts("ab"))
    assert caught.value.field == "corpus.path"
    assert read_documents(corpus) == before
    assert names(corpus) == [MANIFEST_FILE, DOCUMENTS_FILE]
