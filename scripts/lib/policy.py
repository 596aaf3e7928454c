"""The policy pack beside Pulumi: its own packages, and a way to start it with either language host."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from scripts.lib import tools
from scripts.lib.paths import LOCAL, ROOT, VENV
from scripts.lib.process import run
from scripts.lib.setup import INSTALL_SECONDS, index
from scripts.lib.ui import step
from toolchain.artefacts import artefact

PACK = ROOT / "policy"
PACK_VENV = PACK / ".venv"
PACK_PYTHON = PACK_VENV / "bin" / "python"
STAMP = PACK_VENV / ".lock"
"""Hash of the lock that the virtual environment was made from."""
RUNTIME = "prefect-environment"
"""A runtime without a language host: Pulumi then runs `pulumi-analyzer-policy-<runtime>`."""


def prepare(env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Make what the pack needs, and return the arguments and the environment that make Pulumi run it.

    The language host of a mirror-only network is older than the CLI and can't start a pack. The CLI can, through a
    program of ours, and there it does so.
    """
    make_venv()
    if artefact("language-python").path / "bin" not in tools.directories():
        return ["--policy-pack", str(PACK)], dict(env)
    place = LOCAL / "policy"
    starter = place / "bin" / f"pulumi-analyzer-policy-{RUNTIME}"
    starter.parent.mkdir(parents=True, exist_ok=True)
    head = (PACK / "PulumiPolicy.yaml").read_text().partition("runtime:")[0]
    (place / "PulumiPolicy.yaml").write_text(f"{head}runtime: {RUNTIME}\n")
    # Unbuffered: Pulumi waits for the port that it prints.
    starter.write_text(f'#!/bin/sh\nexec "{PACK_PYTHON}" -u "{PACK}" "$@"\n')
    starter.chmod(0o755)
    path = os.pathsep.join([env.get("PATH", os.defpath), str(starter.parent)])
    return ["--policy-pack", str(place)], {**env, "PATH": path}


def make_venv() -> None:
    """Install the pack's locked packages, unless they are there."""
    lock = PACK / "requirements.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == digest:
        return
    python, uv = VENV / "bin" / "python", VENV / "bin" / "uv"
    with step("packages of the policy pack"):
        run([uv, "venv", "--quiet", "--clear", "--python", python, PACK_VENV], timeout=120)
        sync: list[str | Path] = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", PACK_PYTHON, lock]
        run(sync, timeout=INSTALL_SECONDS, env=os.environ | index(python))
        STAMP.write_text(digest)
