"""Schemas import msgspec and the standard library only."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
import tegakari.schemas
for module in pkgutil.walk_packages(tegakari.schemas.__path__, "tegakari.schemas."):
    importlib.import_module(module.name)
packages = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(*sorted(name for name in packages if not name.startswith("_")))
"""


def test_schemas_import_msgspec_only():
    process = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert set(process.stdout.split()) <= {"msgspec", "tegakari", "typing_extensions"}  # msgspec imports the last
