"""The rooms and the arrows between them, read from the imports; and what a bare machine must be able to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tegakari"

BELOW = {
    "version": set(),
    "schemas": set(),
    "extras": {"schemas"},
    "kernels": {"schemas"},
    "models": {"schemas", "kernels"},
    "store": {"version", "schemas"},
    "terms": {"schemas", "kernels", "store"},
    "indexer": {"schemas", "kernels", "models", "store", "terms"},
    "analyses": {"schemas", "kernels", "models", "store", "terms"},
    "service": {"version", "schemas", "kernels", "models", "store", "analyses"},
    "client": {"version", "schemas"},
    "access": {"schemas", "extras", "client", "store", "analyses"},
    "demo": {"schemas", "kernels", "models", "store", "indexer", "analyses"},
    "cli": {
        "version",
        "schemas",
        "extras",
        "kernels",
        "models",
        "store",
        "terms",
        "indexer",
        "analyses",
        "service",
        "client",
        "access",
        "demo",
    },
}
"""Room -> the rooms that its files may import."""

FORBIDDEN = [
    ("service.routes", "service.process"),
    ("service.http", "service.routes"),
    ("service.http", "service.engine"),
    ("service.http", "service.process"),
    ("service.http", "service.explorer"),
    ("service.routes", "service.explorer"),
    ("service.engine", "service.explorer"),
    ("service.explorer", "service.routes"),
    ("service.engine", "service.routes"),
    ("service.engine", "service.process"),
    ("service.observe", "service.routes"),
    ("store.disk", "store.blocks"),
    ("store.disk", "store.sql"),
    ("store.disk", "store.queries"),
    ("store.disk", "store.objects"),
    ("store.objects", "store.blocks"),
    ("store.objects", "store.sql"),
    ("store.objects", "store.queries"),
    ("store.blocks", "store.queries"),
    ("store.blocks", "store.sql"),
    ("store.sql", "store.queries"),
    ("kernels.types", "kernels"),
    ("kernels.cpu", "kernels.gpu"),
    ("kernels.gpu", "kernels.cpu"),
    ("models.sae_formats", "models.rerun"),
    ("models.rerun", "models.sae_formats"),
    ("indexer.corpus", "indexer.training"),
    ("indexer.training", "indexer.pipeline"),
    ("analyses.engine", "analyses.knockout"),
    ("analyses.engine", "analyses.circuit"),
    ("analyses.engine", "analyses.variants"),
    ("analyses.engine", "analyses.study"),
    ("analyses.knockout", "analyses.study"),
    ("analyses.circuit", "analyses.knockout"),
    ("analyses.circuit", "analyses.study"),
    ("analyses.variants", "analyses.knockout"),
    ("analyses.variants", "analyses.study"),
]
"""(a, b): no file of a imports b, the inside of a's own package apart."""

SCHEMA_LIBRARIES = {"msgspec"}
"""Third-party packages that schemas may import: they are part of the smallest install."""

VAGUE_NAMES = {"answers", "asking", "bodies", "connection", "connections", "elsewhere", "front", "helpers", "host"}
VAGUE_NAMES |= {"hot", "misc", "near", "passes", "pictures", "question", "utils", "work"}
"""File names that say what a file does to its reader rather than what is in it."""


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


@cache
def imported_modules(module: str) -> frozenset[str]:
    """Modules of the package that a file imports, wherever in it: at the top, in functions, for type checkers."""
    modules = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name in FILES}
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                modules.add(name if name in FILES else node.module)
    return frozenset(modules - {module})


def in_package(module: str, package: str) -> bool:
    return module == f"tegakari.{package}" or module.startswith(f"tegakari.{package}.")


@pytest.mark.parametrize("room", BELOW)
def test_imports_go_down_only(room: str):
    modules = [module for module in FILES if in_package(module, room)]
    assert modules
    for module in modules:
        rooms = {name.split(".")[1] for name in imported_modules(module) if "." in name}
        assert not rooms - BELOW[room] - {room}, f"{module} imports {sorted(rooms - BELOW[room] - {room})}"


def test_every_room_is_known():
    rooms = {module.split(".")[1] for module in FILES if "." in module}
    assert rooms == set(BELOW)


@pytest.mark.parametrize(("importer", "imported"), FORBIDDEN, ids=lambda package: package)
def test_sub_packages_keep_their_order(importer: str, imported: str):
    modules = [module for module in FILES if in_package(module, importer)]
    assert modules, f"no package {importer}"
    for module in modules:
        wrong = {
            name for name in imported_modules(module) if in_package(name, imported) and not in_package(name, importer)
        }
        assert not wrong, f"{module} imports {sorted(wrong)}"


def circles() -> list[list[str]]:
    """Groups of files that import each other in a circle (Tarjan's strongly connected components of two or more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for imported in imported_modules(module):
            if imported not in index:
                visit(imported)
                low[module] = min(low[module], low[imported])
            elif imported in stack:
                low[module] = min(low[module], index[imported])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in FILES:
        if module not in index:
            visit(module)
    return groups


def test_no_files_import_each_other_in_a_circle():
    assert circles() == []


def test_schemas_import_msgspec_and_the_standard_library_alone():
    for module, file in FILES.items():
        if in_package(module, "schemas"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                packages = {name.partition(".")[0] for name in names} - {"tegakari"} - set(sys.stdlib_module_names)
                assert packages <= SCHEMA_LIBRARIES, f"{module} imports {sorted(packages)}"


def test_file_names_are_distinct_where_they_can_be_confused():
    """No file is named like its package, like a file of an enclosing package, or differs from a neighbour by an s."""
    for module in FILES:
        *packages, name = module.split(".")
        assert name not in VAGUE_NAMES, module
        for depth in range(1, len(packages)):
            outer = ".".join(packages[:depth])
            if name in packages[1:] or (f"{outer}.{name}" in FILES and depth > 1):
                raise AssertionError(f"{module} is named like its package or like {outer}.{name}")
        neighbour = ".".join([*packages, f"{name}s"])
        assert neighbour not in FILES or packages[-1:] == ["cli"], f"{module} beside {neighbour}"  # commands


def test_no_test_imports_another_test():
    """What several tests need is in tests/support; conftest files and test files are imported by pytest alone."""
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                assert (node.module or "").startswith("tests.support"), (
                    f"{file.relative_to(ROOT)} imports {node.module}"
                )


BLOCKED = ("duckdb", "lancedb", "pyarrow", "litestar", "typer", "rich", "structlog", "sklearn", "numba", "accelerate")


def test_kernels_and_models_import_on_a_bare_gpu_machine():
    """torch, transformers, numpy, safetensors and msgspec are there; the rest of our dependencies is not."""
    modules = ["tegakari.kernels", *(module for module in FILES if in_package(module, "models"))]
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
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert completed.returncode == 0, completed.stderr[-2000:]


@pytest.mark.parametrize(
    ("imports", "absent"),
    [
        ("tegakari", ("msgspec", "httpx")),
        ("tegakari.client", ("torch", "numpy", "duckdb", "pyarrow", "pandas")),
        ("tegakari.cli.app", ("torch", "numpy", "duckdb", "pyarrow", "litestar", "structlog", "httpx")),
        ("tegakari.store.queries", ("torch", "lancedb", "pandas")),
        ("tegakari.service.app", ("torch", "mcp", "pydantic")),
        ("tegakari.access.local", ("torch", "duckdb", "pyarrow")),
    ],
)
def test_imports_stay_light(imports: str, absent: tuple[str, ...]):
    program = f"import sys, {imports}; sys.exit(' '.join(set({absent!r}) & set(sys.modules)) or 0)"
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert completed.returncode == 0, completed.stderr
