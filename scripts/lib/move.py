"""The flow of scripts/move."""

from contextlib import suppress

from scripts.lib import halt, stacks
from scripts.lib.backup import MOVED, Box
from scripts.lib.down import down
from scripts.lib.restore import bring_back
from scripts.lib.setup import Ready, set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, confirm, must_be_asked, say
from scripts.lib.up import apply, outcome, prove

WORKERS = "**:Container::prefect-worker-*"
"""URNs of the containers that take up flow runs: not before those that they would take up elsewhere are stopped."""


def move(wanted: str | None, to: str, *, yes: bool) -> int:
    """Let a stack live on as another one; return the exit code.

    Raises:
        Failure: it can't be done, the answer was no, or a step failed; then the old stack runs as before.
    """
    must_be_asked("It stops a stack", yes=yes)
    ready = set_up(wanted, Consent(given=yes), images=False)
    source = Stack(ready.stack, ready.env)
    _refuse(source, to)
    box = Box(source.name)
    say(
        f"\n1. {to} is brought up without workers, while {source.name} goes on.\n"
        f"2. Workers and server of {source.name} are stopped; flow runs may end first, within drain_seconds.\n"
        f"3. A backup of {source.name} goes into the backups of {to}, and is restored there: it takes the place of the "
        f"database that {to} has, and of objects of the same names.\n"
        f"4. {to} gets its workers, and the smoke test.\n"
        f"5. {source.name} is taken down. Its data stays.\n"
        f"When one of these fails, {to} is stopped and {source.name} runs again."
    )
    if not yes:
        confirm("Go on?")
    removal = f"or remove what was made: scripts/down --purge --stack {to}"
    try:
        # With --refresh: what an earlier attempt has left there is stopped.
        there = apply(to, "--refresh", "--exclude", WORKERS, yes=True, policies=False)
        other = Box(to)
    except Failure as failure:
        raise Failure(
            f"{failure}\n{source.name} was not touched. Mend the cause and run this again; {removal}"
        ) from None
    stopped = halt.stop(ready)
    try:
        _bring_over(source, box, there, other)
    except BaseException as error:
        # Two that both have workers would run every schedule twice.
        with suppress(Failure):
            halt.stop(there)
        stopped.start()
        if not isinstance(error, Failure):
            raise
        raise Failure(
            f"{error}\n{source.name} runs again as before, and {to} is stopped. Mend the cause and run this again; "
            f"{removal}"
        ) from None
    say(f"\n{source.name} is taken down")
    down(source.name, purge=False, yes=True)
    outcome(there)
    say(
        f"\n✓ {source.name} lives on as {to}.\n"
        f"The way back, without what happens from now on: scripts/down --stack {to}, scripts/up --stack {source.name}\n"
        f"When you don't need that any more: scripts/down --purge --stack {source.name}"
    )
    return 0


def _refuse(source: Stack, to: str) -> None:
    """Refuse what can't work, before anything is done."""
    if source.name == to:
        raise Failure(
            f"{to} is the stack that is to be moved. Name another one: copy its settings to Pulumi.NAME.yaml."
        )
    if source.name not in stacks.existing(source.env):
        raise Failure(f"There is no stack {source.name} that could be moved.")
    stacks.choose(to, source.env)
    backup = stacks.configuration(to).get(f"{PROJECT}:backup")
    if not isinstance(backup, dict) or backup.get("mode") != "managed":
        raise Failure(
            f"{to} has no backups, and could not take over that of {source.name}. Set backup.mode: managed in "
            f"{stacks.tracked(to).name}, as docs/backup.md tells."
        )


def _bring_over(source: Stack, box: Box, there: Ready, other: Box) -> None:
    say(f"\nbackup of {source.name}")
    saved = box.save(source, MOVED)
    say(f"\n{saved.id} goes over to {there.stack}")
    bring_back(there, other, box.send(saved, other), exact=False)
    if prove(there):
        raise Failure(f"The smoke test of {there.stack} failed; what it said is above.")
