"""The rooms and the arrows between them, read from the imports; and what a bare machine must be able to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tegakari"

BELOW = {
    "schemas": set(),
    "kernels": {"schemas"},
    "models": {"schemas", "kernels"},
    "store": {"schemas"},
    "indexer": {"schemas", "kernels", "models", "store"},
    "analyses": {"schemas", "kernels", "models", "store"},
    "service": {"schemas", "kernels", "models", "store", "analyses"},
    "client": {"schemas"},
    "demo": {"schemas", "kernels", "models", "store", "indexer", "analyses"},
    "cli": {"schemas", "kernels", "models", "store", "indexer", "analyses", "service", "demo"},
}


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        rooms |= {name.split(".")[1] for name in names if name.startswith("tegakari.")}
    return rooms


@pytest.mark.parametrize("room", BELOW)
def test_arrows_go_down_only(room: str):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for file in files:
        up = imported_rooms(file) - BELOW[room] - {room}
        assert not up, f"{file.relative_to(ROOT)} imports {sorted(up)}"


def test_every_room_is_known():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(BELOW)


BLOCKED = ("duckdb", "lancedb", "pyarrow", "litestar", "typer", "rich", "structlog", "sklearn", "numba", "accelerate")


def test_kernels_and_models_import_on_a_bare_gpu_machine():
    """torch, transformers, numpy, safetensors and msgspec are there; the rest of our dependencies is not."""
    modules = ["tegakari.kernels"] + [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (PACKAGE / "models").rglob("*.py")
        if file.name != "__init__.py"
    ]
    program = (
        "import sys, importlib\n"
        f"blocked = {BLOCKED!r}\n"
        "class Without:\n"
        "    def __init__(self, finder): self.finder = finder\n"
        "    def __getattr__(self, name): return getattr(self.finder, name)\n"
        "    def find_spec(self, name, *more):\n"
        "        return None if name.split('.')[0] in blocked else self.finder.find_spec(name, *more)\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
        f"for module in {modules!r}: importlib.import_module(module)\n"
        "import torch; from tegakari.kernels import Encoder, encode\n"
        "encoder = Encoder(torch.eye(3), torch.zeros(3), torch.zeros(3))\n"
        "assert encode(torch.eye(3), encoder, torch.tensor([0, 3])).pooled.max.tolist() == [[1.0, 1.0, 1.0]]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_store_does_not_load_torch():
    """The command line's questions and the service answer without a second of imports."""
    program = "import sys, tegakari.store.queries.runs, tegakari.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
