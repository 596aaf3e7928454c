"""Where things are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
LOCAL = ROOT / ".local"
"""Untracked files of this clone."""


def state() -> Path:
    """Return the directory of state backend, passphrase and logs, for this user alone; made when missing.

    prefect-environment/ in $XDG_STATE_HOME (default ~/.local/state).
    """
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    directory = base / "prefect-environment"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def pulumi_home() -> Path:
    """Return Pulumi's own directory: $PULUMI_HOME (default ~/.pulumi)."""
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
