"""Images of the project's own recipes, for servers that tests start beside a stack."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.environment import docker
from toolchain.artefacts import NAMES, artefact, built

RECIPES: Final = Path(__file__).parents[2] / "images"


def image(name: str) -> str:
    """Return an image of images/<name>, with the artefact of that name where there is one; made once for its recipe."""
    base = _made("base", "rootfs")
    on = image("postgres") if name == "backup" else base
    return _made(name, name if name in NAMES else None, f"BASE={on}")


def _made(name: str, artefact_name: str | None, *arguments: str) -> str:
    binary = artefact(artefact_name) if artefact_name else None
    if binary and not built(binary):
        pytest.fail(
            f"{binary.path} is missing: run `scripts/toolchain {artefact_name}` (about {binary.minutes} minutes)"
        )
    files = sorted(path for path in (RECIPES / name).iterdir() if path.is_file())
    digest = hashlib.sha256("\0".join([binary.key if binary else "", *arguments]).encode())
    for file in files:
        digest.update(file.read_bytes())
    repository = f"prefect-environment-tests/{name}"
    reference = f"{repository}:{digest.hexdigest()[:12]}"
    if not docker("image", "ls", "--quiet", reference):
        with tempfile.TemporaryDirectory() as context:
            for file in [*files, *([binary.path] if binary else [])]:
                shutil.copy2(file, context)
            # What settings make; on this network Debian's root has the authorities already.
            Path(context, "ca-bundle.crt").touch()
            given = [word for argument in arguments for word in ("--build-arg", argument)]
            docker("build", "--quiet", "--tag", reference, *given, context)
        for superseded in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository).split():
            if superseded != reference:
                docker("image", "rm", superseded, ok=False)  # One that a container uses stays.
    return reference
