"""What a killed `pulumi up` leaves behind and how it goes away: lock, orphaned processes, pending creates."""

import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.lib.engine import Engine
from scripts.lib.process import alive
from scripts.lib.stacks import PROJECT, Stack, backend_directory, resources
from scripts.lib.ui import Failure, say

MARK = "PREFECT_ENVIRONMENT_UP"
"""Environment variable that every process of an `up` inherits: <stack>@<pid of scripts/up> <backend>."""
CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
ORPHAN_SECONDS = 3.0
"""How long an orphan has to end by itself before it is killed."""
KINDS = {CONTAINER: "container", NETWORK: "network"}
"""What may be removed when it is not in state. Never volumes: those hold data."""


@dataclass(frozen=True)
class Lock:
    """A stack's lock in a state backend on disk."""

    pid: int
    host: str
    user: str
    since: str

    def stale(self) -> bool:
        """Say whether its holder is known to be dead: a process of this host that is no more."""
        return self.host == socket.gethostname() and not alive(self.pid)

    def text(self) -> str:
        """Describe holder and age."""
        return f"{self.user}@{self.host}, process {self.pid}, {age(self.since)}"


def age(since: str, now: datetime | None = None) -> str:
    """Say how long ago an RFC 3339 time was, in minutes."""
    # Pulumi writes nanoseconds, more digits than datetime reads.
    then = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", since))
    minutes = int(((now or datetime.now(UTC)) - then).total_seconds() // 60)
    return f"{minutes} min ago"


def mark(stack: str, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variable by which the processes of this `up` can be told from all others."""
    return {MARK: f"{stack}@{os.getpid()} {env.get('PULUMI_BACKEND_URL', '')}"}


def recover(stack: Stack, engines: Iterable[Engine]) -> list[str]:
    """Undo what a dead `up` of this stack left, saying so.

    Returns:
        Containers that the state knows and no engine has: only an `up --refresh` brings them back.

    Raises:
        Failure: the stack is locked by a process that lives or can't be seen from here.
    """
    _unlock(stack)
    _end_orphans(stack)
    # Before the state is read: of what an up on another machine makes meanwhile, nothing is listed that is not
    # recorded or pending in the state.
    there = [(engine, kind, _names(engine, kind, stack)) for engine in engines for kind in KINDS.values()]
    state = stack.deployment()
    pending = (state.get("deployment") or {}).pop("pending_operations", None)
    if pending:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(state, file)
            file.flush()
            stack.pulumi("stack", "import", "--file", file.name)  # Refused while another up holds the lock.
        say(f"✓ {len(pending)} operations of an interrupted run dropped from the state; they are done anew")
    # Not only when some were pending: what the host made while the connection broke counts as failed.
    recorded = {resource["id"] for token in KINDS for resource in resources(state, token) if resource.get("id")}
    for engine, kind, names in there:
        for identity, name in names.items():
            # By name, too: a container that somebody made from an image of the stack has the image's labels.
            if identity not in recorded and name.startswith(f"{PROJECT}-{stack.name}-"):
                engine.remove(kind, [identity])
                say(f"✓ {kind} {name} removed: an interrupted run made it, and the state does not know it")
    found = {identity for *_, names in there for identity in names}
    containers = [each for each in resources(state, CONTAINER) if each.get("id")]
    return [each["outputs"]["name"] for each in containers if each["id"] not in found]


def locks(directory: Path, stack: str) -> list[Lock]:
    """Return the locks on a stack in a state backend's directory."""
    found = []
    for file in (directory / "locks").glob(f"*/{PROJECT}/{stack}/*.json"):
        try:
            content = json.loads(file.read_text())
            found.append(Lock(content["pid"], content["hostname"], content["username"], content["timestamp"]))
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # released, or being written, at this moment
    return found


def _unlock(stack: Stack) -> None:
    directory = backend_directory(stack.env)
    held = locks(directory, stack.name) if directory else []
    if not held:
        return
    for lock in held:
        if not lock.stale():
            raise Failure(
                f"The stack {stack.name} is being changed by {lock.text()}.\n"
                "  Wait for it to end. If you know that it is dead, on another machine or in a container:\n"
                f"  scripts/pulumi cancel --yes --stack {stack.name}, then run this again."
            )
    stack.pulumi("cancel", "--yes")
    say(f"✓ lock of a dead process taken away ({', '.join(lock.text() for lock in held)})")


def _end_orphans(stack: Stack) -> None:
    """End the language host and providers of dead runs on this stack; by their mark, so no one else's."""
    backend = stack.env.get("PULUMI_BACKEND_URL", "")
    orphans = []
    for pid, value in _marked():
        owner = re.fullmatch(rf"{re.escape(stack.name)}@(\d+) {re.escape(backend)}", value)
        if owner and not alive(int(owner.group(1))):
            orphans.append(pid)
    for pid in orphans:
        _end(pid)
        say(f"✓ process {pid} of a dead run ended")


def _end(pid: int) -> None:
    """End a process, and wait until it can create nothing more."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + ORPHAN_SECONDS
        while alive(pid) and time.monotonic() < end:
            time.sleep(0.05)


def _marked() -> Iterator[tuple[int, str]]:
    """Yield pid and mark of each process that has one; none on systems without /proc."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environ.read_bytes().split(b"\0")
        except OSError:
            continue  # ended, or another user's
        for variable in variables:
            name, _, value = variable.partition(b"=")
            if name == MARK.encode():
                yield int(environ.parent.name), value.decode(errors="replace")


def _names(engine: Engine, kind: str, stack: Stack) -> dict[str, str]:
    try:
        return engine.names(kind, PROJECT, stack.name)
    except Failure:
        if engine.prepared:
            return {}  # There may be no engine yet, and so nothing of ours.
        raise
