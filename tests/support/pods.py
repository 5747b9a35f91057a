"""A container of a pod as Kubernetes would run it, as far as one machine can: user, rights, read-only root, volumes.

The root file system is this machine's, read-only below an overlay in a mount namespace of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def pod_command(
    root: Path, pod: dict[str, Any], container: dict[str, Any], files: dict[str, Path], variables: dict[str, str]
) -> list[str]:
    """The command that runs a container of tegakari's images; it becomes the program, so that signals reach it.

    Args:
        root: an empty directory, where the root of the container is mounted.
        pod: its specification.
        container: of the pod.
        files: directory with the content of each volume that is no emptyDir, by the name of the volume.
        variables: of the environment, beside those of image and container.
    """
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        pytest.skip("needs root, unshare and setpriv")
    assert container["securityContext"]["readOnlyRootFilesystem"]
    user, group = pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = []
    for mount in container["volumeMounts"]:
        target = f"{root}/root{mount['mountPath']}"
        mounts.append(f"mkdir -p {target}")
        if "emptyDir" in volumes[mount["name"]]:
            mounts.append(f"mount -t tmpfs -o mode=2777,gid={group} tmpfs {target}")
        else:
            mounts.append(f"mount --bind {files[mount['name']]} {target}")
            mounts.append(f"mount -o remount,bind,ro {target}" if mount.get("readOnly") else "true")
    environment = {
        "HOME": "/home/tegakari",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "NUMBA_CACHE_DIR": "/tmp/numba",
        "OMP_NUM_THREADS": "1",
        **{variable["name"]: variable["value"] for variable in container.get("env", ())},
        **variables,
    }
    assignments = [f"{name}={value}" for name, value in environment.items()]
    program = [sys.executable, "-c", "from tegakari.cli import main; main()", *container["args"]]
    rights = ["--reuid", str(user), "--regid", str(group), "--groups", str(group), "--no-new-privs"]
    rights += ["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]
    lines = [
        "set -e",
        f"mount -t tmpfs tmpfs {root}",
        f"mkdir {root}/upper {root}/work {root}/root",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={root}/upper,workdir={root}/work {root}/root",
        f"chmod 755 {root}/root/root",  # where this machine may have its Python
        f"mount --bind /dev {root}/root/dev",
        f"mount --bind /proc {root}/root/proc",
        *mounts,
        f"mount -o remount,ro {root}/root",
        f"cd {root}/root",
        shlex.join(["exec", "chroot", ".", "setpriv", *rights, "env", "-i", *assignments, *program]),
    ]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]
