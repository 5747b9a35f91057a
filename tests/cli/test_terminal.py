"""Every command that prints, on a terminal of 80 columns: no line is wider, no word and no number is split."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from tegakari.cli import output
from tegakari.cli.app import app
from tegakari.indexer.pipeline import index
from tegakari.schemas.config import SaesConfig
from tegakari.schemas.config.render import render_config
from tegakari.schemas.explanations import NewExplanation, explanation_id
from tegakari.schemas.notes import NoteChange
from tegakari.service.admission.keys import create_key
from tegakari.store import Store
from tegakari.store.disk.layout import CONTEXTS, MANIFEST, VECTORS
from tegakari.store.explanations import write_explanation
from tegakari.store.notes import write_note
from tests.support.small_case import SmallCase, with_index

COLUMNS = 80
TEXT = "軽トラで買い物\n味噌汁\tを飲みました"
DEVICE = "--device cpu"

ARGUMENTS = {
    "init": "--preset tiny --path new-{view}.toml",
    "corpus import": "-c tegakari.toml",
    "corpus show": "-c tegakari.toml",
    "finetune": f"-c tegakari.toml {DEVICE}",
    "sae train": f"-c tegakari.toml {DEVICE}",
    "index": "-c index.toml",
    "runs": "",
    "runs list": "",
    "runs show": "small",
    "runs verify": "small",
    "runs delete": "small --yes --store {copy}",
    "runs export": "small --to exported-{view} --format csv",
    "runs publish": "{copy}/runs/small --store published-{view}",
    "runs add-vectors": f"small --store {{bare}} {DEVICE}",
    "runs add-contexts": f"small --store {{old}} {DEVICE}",
    "runs gc": "--store {garbage}",
    "labels": "--run small",
    "features": "--run small --label 車/軽 -k 5",
    "feature": "--run small --feature 1:3 -k 5",
    "contexts": "--run small --feature 1:3 -k 5",
    "histogram": "--run small --feature 1:3",
    "effects": "--run small --label 車/軽 -k 5",
    "neighbours": "--run small --feature 1:3 -k 5",
    "specificity": "--run small --permutations 20",
    "documents": "--run small -k 5",
    "document": "--run small --document 車/軽-001",
    "search": "--run small 軽トラ -k 3",
    "sql": "SELECT*FROM/**/features/**/LIMIT/**/5",
    "notes list": "--run small-b 軽トラ -k 5",
    "notes write": "--run small --feature 1:3 --star --tag 車 --text 軽トラ --author {view}",
    "notes delete": "--run small --feature 1:4 --author {view}",
    "explanations list": "--run small-b 軽トラ -k 5",
    "explanations score": "--run small --label 車/軽 --per-label 2",
    "explanations write": "--run small --feature 1:3 軽トラの語 --author {view}",
    "explanations vote": "{explanation} up --run small --feature 1:4 --author {view}",
    "explanations delete": "{explanation} --run small --feature 1:4 --author {view}",
    "explanations import": "batch-0.jsonl --run small",
    "explain": "--run small --label 車/軽 --per-label 2 --dry-run",
    "classify": f"--run small --text {{text}} {DEVICE} -k 2",
    "encode": f"--run small --text {{text}} {DEVICE} -k 3 --pooling none",
    "attribution": f"--run small --text {{text}} {DEVICE} --candidates 5",
    "knockout": f"--run small --label 車/軽 --label 食品? --layer 1 -k 4 --draws 2 {DEVICE}",
    "knockout table": f"--run small --run small-b --layer 1 -k 4 --draws 2 {DEVICE}",
    "knockout curve": f"--run small --label 車/軽 -k 4 --draws 2 {DEVICE}",
    "knockout single": f"--run small --label 車/軽 --layer 1 -k 3 {DEVICE}",
    "knockout smallest": f"--run small --label 車/軽 --layer 1 --candidates 8 {DEVICE}",
    "circuit": f"--run small --pairs 12 --min-cosine -1 {DEVICE}",
    "variants": f"--run small --concepts concepts.json -k 3 --unrelated 10 {DEVICE}",
    "study": "--run small --run small-b --skip circuit --skip knockouts --skip variants --skip matching "
    "-o report-{view}.html",
    "compare": "--run small --run small-b",
    "classification": "--run small --run small-b",
    "sparsity": "--run small",
    "cues": "--run small",
    "analyses list": "--run small",
    "keys create": "--name {view} --keys keys.json",
    "keys list": "--keys keys.json",
    "keys revoke": "{key} --keys keys.json",
    "doctor": "",
    "config check": "-c tegakari.toml",
}
"""Command -> arguments for the small case."""

CONCEPTS = [
    {
        "concept": clue,
        "forms": [{"form": form, "sentence": f"{form}です。ありがとう"} for form in (clue, other)],
        "frame": "今日は{form}です。",
    }
    for clue, other in (("軽トラ", "質問"), ("味噌汁", "会議"), ("笑顔", "打ち合わせ"))
]
"""In the characters that the tokenizer of the small case knows."""

UNTESTED = {
    "serve": "prints its log",
    "mcp": "prints messages of a protocol",
    "demo": "runs the commands above",
    "runs push": "needs a bucket: test_bucket",
    "runs pull": "needs a bucket: test_bucket",
    "analyses show": "needs an id: test_stored_results",
    "analyses delete": "needs an id: test_stored_results",
}


def every_command(command: Any, path: str = "") -> list[str]:
    children = getattr(command, "commands", {})
    own = [path] if not children or getattr(command, "invoke_without_command", False) else []
    return own + [leaf for name, child in children.items() for leaf in every_command(child, f"{path} {name}".strip())]


COMMANDS = every_command(typer.main.get_command(app))


def test_no_command_is_forgotten():
    assert sorted(COMMANDS) == sorted([*ARGUMENTS, *UNTESTED])


@pytest.fixture(scope="module")
def workplace(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with configuration, corpus, models, and a store of two runs."""
    root = tmp_path_factory.mktemp("terminal")
    config = msgspec.structs.replace(
        with_index(small_case, root / "store"),
        classifier=msgspec.structs.replace(small_case.config.classifier, path=str(root / "tuned"), epochs=1),
        saes=SaesConfig(path=str(root / "trained"), d_sae=16, epochs=2, batch_size=32),
    )
    (root / "tegakari.toml").write_text(render_config(config))
    (root / "index.toml").write_text(render_config(with_index(small_case, root / "store")))
    (root / "concepts.json").write_text(json.dumps({"concepts": CONCEPTS}))
    for run in ("small", "small-b"):
        index(with_index(small_case, root / "store", run=run))
    for view in ("wide", "narrow", "json"):
        write_note(Store(root / "store").run("small"), 1, 4, view, NoteChange(text="to be deleted"))
        write_explanation(Store(root / "store").run("small"), 1, 4, view, NewExplanation(text="to be deleted"))
        long = NoteChange(
            text=f"軽トラ\n{'fires on the names of small trucks ' * 20}", tags=["車", "truck"], starred=True
        )
        write_note(Store(root / "store").run("small-b"), 1, 5, f"author {view}", long)
        sentence = NewExplanation(text=f"軽トラ and {'the names of small trucks ' * 20}")
        write_explanation(Store(root / "store").run("small-b"), 1, 5, f"author {view}", sentence)
    row = {"layer": "1-res", "index": "3", "description": "small trucks", "explanationModelName": "gpt-4o-mini"}
    (root / "batch-0.jsonl").write_text(json.dumps(row))
    return root


def invoke(command: str, view: str, columns: int | None, workplace: Path, *options: str) -> Result:
    """A command in the workplace, on a terminal of so many columns; None: in a pipe."""
    names = {"view": view, "text": TEXT.replace(" ", ""), "copy": f"copy-{view}", "garbage": "garbage", "key": ""}
    names["explanation"] = explanation_id(1, 4, "person", view, "to be deleted")
    if "{copy}" in ARGUMENTS[command]:
        shutil.copytree(workplace / "store", workplace / names["copy"], dirs_exist_ok=True)
    if "{bare}" in ARGUMENTS[command]:
        names["bare"] = f"bare-{view}"
        shutil.copytree(workplace / "store", workplace / names["bare"], ignore=lambda *_: [VECTORS], dirs_exist_ok=True)
    if "{old}" in ARGUMENTS[command]:
        names["old"] = f"old-{view}"
        shutil.copytree(workplace / "store", workplace / names["old"], ignore=lambda *_: [CONTEXTS], dirs_exist_ok=True)
        manifest = workplace / names["old"] / "runs" / "small" / MANIFEST
        manifest.write_text(manifest.read_text().replace('"format": 4', '"format": 3'))
    if "{garbage}" in ARGUMENTS[command]:
        (workplace / "garbage" / "work" / "abandoned-index-of-a-run-with-a-long-name-0123456789abcdef").mkdir(
            parents=True, exist_ok=True
        )
    if "{key}" in ARGUMENTS[command]:
        names["key"] = create_key(workplace / "keys.json", view, "read")[1].id
    arguments = [part.format(**names) for part in ARGUMENTS[command].split()]
    arguments = [part.replace("/**/", " ") if command == "sql" else part for part in arguments]
    before = Path.cwd()
    os.chdir(workplace)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEGAKARI_STORE", "store")
            patch.delenv("TEGAKARI_RUN", raising=False)
            patch.setattr(output.out, "_force_terminal", columns is not None)
            patch.setattr(output.out, "_width", columns)
            return CliRunner().invoke(app, [*command.split(), *arguments, *options], catch_exceptions=False)
    finally:
        os.chdir(before)


_EAST_ASIAN = re.compile(r"([\u3000-\u30ff\u3400-\u9fff\uff00-\uffef])")
_NUMBER = re.compile(r"[\d.,]*\d")


def words(text: str) -> list[str]:
    """Words without the punctuation around them; between Chinese or Japanese characters a line may end."""
    return [word.strip(".,;:()⟦⟧") for word in _EAST_ASIAN.sub(r" \1 ", text).split()]


def without_notes(text: str) -> str:
    """The output without the notes about what is left out, which the whole output lacks."""
    return re.sub(r"^… .*\n(?:  .*\n)*", "", text, flags=re.MULTILINE)


def check_legible(narrow: str, wide: str, columns: int) -> None:
    """No line is too long, and each word of the narrow output stands in the wide one, whole or ending in … ."""
    for line in narrow.splitlines():
        assert cell_len(line) <= columns or " " not in line.strip(), f"{cell_len(line)} cells: {line}"
    whole = set(words(wide))
    for word in words(without_notes(narrow)):
        if word.startswith("─") or word in whole:
            continue
        assert "…" in word, f"{word!r} is a part of a word: {narrow}"
        for beginning, end in [tuple(word.rsplit("…", 1))]:
            full = [other for other in whole if other.startswith(beginning) and other.endswith(end)]
            assert full or not (beginning and end), word
            if beginning and (number := _NUMBER.search(beginning[-1:])):
                cut = [other[len(beginning) :][:1] for other in full]
                assert not cut or any(not _NUMBER.match(rest) for rest in cut), f"{number} of {word} is cut"


@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_command_is_legible(command: str, workplace: Path):
    wide = invoke(command, "wide", None, workplace)
    narrow = invoke(command, "narrow", COLUMNS, workplace)
    assert (wide.exit_code, narrow.exit_code) == (0, 0), wide.output + narrow.output
    assert wide.stdout.strip()
    names = re.compile(r"narrow|wide|\b[0-9a-f]{8}\b|\btgk_[\w-]+")  # of files and keys
    check_legible(names.sub("", narrow.stdout), names.sub("", wide.stdout), COLUMNS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_json_is_an_object(command: str, workplace: Path):
    result = invoke(command, "json", COLUMNS, workplace, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    if "items" in document:
        assert isinstance(document["items"], list)
        assert "next" in document
