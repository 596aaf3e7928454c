"""The flow of scripts/restore."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from scripts.lib import policy, stacks
from scripts.lib.backup import BEFORE_RESTORE, Box, Snapshot
from scripts.lib.engine import Engine
from scripts.lib.setup import Ready, set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, confirm, say, step, terminal
from scripts.lib.up import update

STOPPED = ("prefect-worker-", "dask-worker-", "prefect-server")
"""What the names of those begin with that would write meanwhile; the server last, as the others report to it."""
STOP_SECONDS = 7200.0
START_SECONDS = 300.0


def restore(wanted: str | None, snapshot: str, *, exact: bool, yes: bool) -> int:
    """Bring a backup back; return the exit code.

    Raises:
        Failure: there is no such backup, the answer was no, or a step failed; then it says what the way back is.
    """
    if not yes and not terminal():
        raise Failure("It replaces the database and there is no terminal to ask at: add --yes.")
    ready = set_up(wanted, Consent(given=yes))
    stack = Stack(ready.stack, ready.env)
    if stack.name not in stacks.existing(ready.env):
        raise Failure(f"There is no stack {stack.name} to restore into; scripts/up makes it.")
    box = Box(stack.name)
    chosen = choose(box.snapshots(), snapshot)
    say(f"\n{chosen.line(datetime.now(UTC))}\n\nThe stack {stack.name} has now:")
    box.do("contents")
    lost = "objects that are not in the backup are removed" if exact else "objects that are not in the backup stay"
    say(
        "\nThe database is replaced by that of the backup, objects of the same names are overwritten, and "
        f"{lost}.\nServer and workers are stopped meanwhile; flow runs that are going on get lost."
    )
    if not yes:
        confirm("Go on?")
    with _stopped(ready, stack.name):
        say("\nwhat is there now is backed up first")
        before = box.save(stack, BEFORE_RESTORE)
        say(f"\nrestore {chosen.id}")
        with _way_back(stack.name, before):
            box.do("restore", chosen.id, *(["exact"] if exact else []))
    with _way_back(stack.name, before):
        # Blocks, deployments and pools are those of the backup now; they must be as the settings and keys of today.
        say(f"\npulumi up --refresh: stack {stack.name}")
        options, env = policy.prepare(ready.env)
        update(Stack(stack.name, env), "up", "--refresh", *options, yes=True)
    say(f"\n✓ restored {chosen.id}; the stack {stack.name} has now:")
    box.do("contents")
    say(f"What was there before: {_command(stack.name, before)}\nProve it: scripts/smoke --stack {stack.name}")
    return 0


def choose(snapshots: Sequence[Snapshot], wanted: str) -> Snapshot:
    """Return the snapshot that is meant; `latest` is none of those that a restore made.

    Raises:
        Failure: there is none.
    """
    found = [
        each
        for each in snapshots
        if (each.tag != BEFORE_RESTORE if wanted == "latest" else each.id == wanted[: len(each.id)])
    ]
    if not found:
        what = "backup yet" if wanted == "latest" else f"backup {wanted}; `scripts/backup --list` shows what there is"
        raise Failure(f"There is no {what}. Nothing was changed.")
    return found[-1]


@contextmanager
def _way_back(stack: str, before: Snapshot) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        raise Failure(
            f"{failure}\nThe restore is not done. Mend the cause and run it again; or go back to what was there:\n"
            f"  {_command(stack, before)}"
        ) from failure


def _command(stack: str, snapshot: Snapshot) -> str:
    return f"scripts/restore --stack {stack} --snapshot {snapshot.id}"


@contextmanager
def _stopped(ready: Ready, stack: str) -> Iterator[None]:
    """Stop what would write, and start it again whatever happens: the server first, and wait for it."""
    states = [(engine, sorted(engine.states(PROJECT, stack).items())) for engine in ready.engines]
    running = [
        (engine, name)
        for first in STOPPED
        for engine, there in states
        for name, status in there
        if name.startswith(f"{PROJECT}-{stack}-{first}") and status.startswith("Up")
    ]
    with step("stop workers and server"):
        for engine, name in running:
            engine.docker("stop", name, timeout=STOP_SECONDS)
    try:
        yield
    finally:
        with step("start server and workers"):
            for engine, name in reversed(running):
                engine.docker("start", name)
                if name.endswith("-prefect-server"):
                    _wait(engine, name)


def _wait(engine: Engine, name: str) -> None:
    end = time.monotonic() + START_SECONDS
    while engine.docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() != "healthy":
        if time.monotonic() > end:
            raise Failure(f"{name} does not answer after {START_SECONDS:.0f} s; see scripts/logs prefect-server.")
        time.sleep(1)
