"""Pinned requirements of the images, with hashes, and their bills of materials: `python -m tools.lock`.

uv resolves the extras of the image within `constraints.txt` and lists the hashes of all files of each version;
CycloneDX's generator makes the bills of materials (SBOM) from that. Needs the extra `supply` and a package index.
`tests/packaging/test_lock.py` compares the files with `pyproject.toml`, `constraints.txt` and the installed packages,
offline.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tools.generated import ROOT, main

EXTRAS = ("serve", "study", "s3", "mcp")
"""Extras of both images."""

RAY_EXTRAS = ("kuberay",)
"""Further extras of the image for indexing on a Ray cluster."""

PYTHON = "3.12"
"""Python of the image."""

REQUIREMENTS = ROOT / "deploy" / "requirements.txt"
TORCH_REQUIREMENTS = ROOT / "deploy" / "torch.txt"
BILL = ROOT / "deploy" / "sbom.cdx.json"
RAY_REQUIREMENTS = ROOT / "deploy" / "ray.txt"
RAY_BILL = ROOT / "deploy" / "ray.cdx.json"

OF_TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*")
"""Packages that a build for a CPU replaces or does without."""

_HEADER = """\
# {subject}: exact versions and the hashes of their files. Written by `python -m tools.lock`.
"""


def contents() -> dict[Path, str]:
    """Path -> content of the five files."""
    entries = _entries(_resolved(EXTRAS))
    # The versions of what both images have stay those of the first.
    both = [entry.split()[0] for name, entry in entries.items() if not name.startswith("#")]
    of_ray = {
        name: entry for name, entry in _entries(_resolved((*EXTRAS, *RAY_EXTRAS), both)).items() if name not in entries
    }
    of_torch = {name: entry for name, entry in entries.items() if OF_TORCH.fullmatch(name)}
    others = {name: entry for name, entry in entries.items() if name not in of_torch}
    requirements = _HEADER.format(subject="What the image installs beside torch") + "".join(others.values())
    torch = _HEADER.format(subject="torch with CUDA, and what it needs on a GPU") + "".join(of_torch.values())
    ray = _HEADER.format(subject="What the image for Ray installs beside that") + "".join(of_ray.values())
    return {
        REQUIREMENTS: requirements,
        TORCH_REQUIREMENTS: torch,
        BILL: _bill("".join(entries.values())),
        RAY_REQUIREMENTS: ray,
        RAY_BILL: _bill("".join(of_ray.values())),
    }


def _resolved(extras: Sequence[str], pinned: Sequence[str] = ()) -> str:
    """Requirements of the extras and of the build, as uv writes them, within further pinned versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # torch with CUDA needs one version of triton; constraints.txt has that of the tests beside torch without CUDA.
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = [line for line in lines if not line.startswith("triton==")]
    with tempfile.TemporaryDirectory() as directory:
        build, limits = Path(directory) / "build.in", Path(directory) / "constraints.txt"
        build.write_text("\n".join(project["build-system"]["requires"]), encoding="utf-8")
        limits.write_text("\n".join([*constraints, *pinned]), encoding="utf-8")
        options = ["--generate-hashes", "--universal", "--no-annotate", "--no-header", "--quiet"]
        names = [option for extra in extras for option in ("--extra", extra)]
        command = ["uv", "pip", "compile", "pyproject.toml", str(build), *names, *options]
        return _output(*command, "--python-version", PYTHON, "--constraints", str(limits))


def _entries(text: str) -> dict[str, str]:
    """Requirement with its hashes, by name."""
    entries = re.findall(r"^\S.*(?:\n[ ]+.*)*\n?", text, re.MULTILINE)
    return {entry.partition("==")[0]: entry.rstrip("\n") + "\n" for entry in entries}


def _bill(requirements: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "requirements.txt"
        file.write_text(requirements, encoding="utf-8")
        options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON"]
        bill = json.loads(_output("cyclonedx-py", "requirements", str(file), *options))
    references = {}
    for component in bill["components"]:
        references[component["bom-ref"]] = component["purl"]  # instead of a number of a line
        component.pop("description", None)
    for part in (*bill["components"], *bill["metadata"]["tools"]["components"]):
        # The hashes are in the requirements; where the files are is a matter of the index that is configured.
        part.pop("externalReferences", None)
    text = json.dumps(bill, indent=1, ensure_ascii=False)
    return re.sub(r'"(requirements-L\d+)"', lambda match: json.dumps(references[match[1]]), text) + "\n"


def _output(program: str, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / program), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


if __name__ == "__main__":
    main(contents, "python -m tools.lock")
