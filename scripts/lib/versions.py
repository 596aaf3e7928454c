"""The versions of Prefect: what a stack's server runs, and what the locks would have it run."""

import re

from scripts.lib.paths import ROOT
from scripts.lib.setup import Ready
from scripts.lib.stacks import PROJECT, Stack, resources
from scripts.lib.ui import Failure

LOCK = ROOT / "images" / "prefect" / "requirements.txt"
CONTRACT = "pulumi-python:dynamic:VersionContract"
"""Refuses an older version than the one that the state has for the database."""
ASK = "from importlib.metadata import version; print(version('prefect'))"


def locked() -> str:
    """Return the version that server and workers have after an `up`."""
    # settings.versions reads it, too, and the tests compare; this runs before there are packages to import that with.
    found = re.search(r"^prefect==(\S+)", LOCK.read_text(), re.MULTILINE)
    if not found:
        raise Failure(f"{LOCK} does not pin prefect; compile it anew with the command at the head of its .in file.")
    return found[1]


def server(stack: str) -> str:
    """Return the name of a stack's server, a container on its first host."""
    return f"{PROJECT}-{stack}-prefect-server"


def running(ready: Ready) -> str | None:
    """Return the version of the server that runs; None where none does."""
    try:
        return ready.engines[0].docker("exec", server(ready.stack), "python", "-c", ASK).strip()
    except Failure:
        return None


def forget(stack: Stack) -> None:
    """Let the next `up` agree on a version anew: the database is another one."""
    for contract in resources(stack.deployment(), CONTRACT):
        stack.pulumi("state", "delete", contract["urn"], "--force", "--yes")
