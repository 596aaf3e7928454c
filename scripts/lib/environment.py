"""The environment that Pulumi runs in: search path, state backend, passphrase."""

import json
import os
import secrets
from pathlib import Path

from scripts.lib import tools
from scripts.lib.paths import VENV, pulumi_home, state


def own_backend() -> Path | None:
    """Return the state backend's directory, or None where the user chose: by variable or `pulumi login`."""
    if os.environ.get("PULUMI_BACKEND_URL") or _logged_in():
        return None
    return state() / "backend"


def own_passphrase() -> Path | None:
    """Return the file of the passphrase, or None where the user's own is in use."""
    if {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & os.environ.keys():
        return None
    return state() / "passphrase"


def pulumi_environment() -> dict[str, str]:
    """Return what Pulumi and the program need, over this process's own environment.

    The state backend's directory and the passphrase are made when missing.
    """
    path = [VENV / "bin", *tools.directories()]
    env = os.environ | {
        "PATH": os.pathsep.join([*(str(part) for part in path), os.environ.get("PATH", os.defpath)]),
        "VIRTUAL_ENV": str(VENV),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # A closed network may let the download of a plugin hang; set-up has installed what there is.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        # Each operation may open a connection to an ssh host, and sshd turns some away while ten sign in at once.
        "PULUMI_PARALLEL": os.environ.get("PULUMI_PARALLEL", "8"),
    }
    backend = own_backend()
    if backend:
        backend.mkdir(mode=0o700, exist_ok=True)
        env["PULUMI_BACKEND_URL"] = backend.as_uri()
    passphrase = own_passphrase()
    if passphrase:
        _make_passphrase(passphrase)
        env["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(passphrase)
    return env


def _logged_in() -> bool:
    try:
        credentials = json.loads((pulumi_home() / "credentials.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(credentials.get("current"))


def _make_passphrase(file: Path) -> None:
    if file.exists():
        return
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(32))
    try:
        # A link, not a rename: of two set-ups at once the first one's passphrase stays.
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
