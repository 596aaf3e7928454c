"""The flow of scripts/restore."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from scripts.lib import halt, policy, stacks, versions
from scripts.lib.backup import BEFORE_RESTORE, RECOVERED, SIDE, Box, Epoch, Snapshot, told
from scripts.lib.setup import Ready, set_up
from scripts.lib.stacks import Stack
from scripts.lib.ui import Consent, Failure, confirm, must_be_asked, say
from scripts.lib.up import update


def restore(wanted: str | None, snapshot: str, *, at: datetime | None = None, exact: bool, yes: bool) -> int:
    """Bring a backup back, or with `at` the database of that moment; return the exit code.

    Raises:
        Failure: there is no such backup, the answer was no, or a step failed; then it says what the way back is.
    """
    must_be_asked("It replaces the database", yes=yes)
    ready = set_up(wanted, Consent(given=yes))
    stack = Stack(ready.stack, ready.env)
    if stack.name not in stacks.existing(ready.env):
        raise Failure(f"There is no stack {stack.name} to restore into; scripts/up makes it.")
    box = Box(stack.name)
    snapshots = box.snapshots()
    if at:
        epoch, objects = choose_epoch(box, at), objects_at(snapshots, at)
        those = f"the objects of {objects.line(datetime.now(UTC))}" if objects else "no objects: no backup is older"
        say(f"\nthe database as it was at {at:%Y-%m-%d %H:%M:%S} UTC, and {those}")
    else:
        chosen = choose(snapshots, snapshot)
        say(f"\n{chosen.line(datetime.now(UTC))}")
    say(f"\nThe stack {stack.name} has now:")
    box.do("contents")
    lost = "objects that are not in the backup are removed" if exact else "objects that are not in the backup stay"
    say(
        "\nThe database is replaced by that of the backup, objects of the same names are overwritten, and "
        f"{lost}.\nServer and workers are stopped meanwhile; flow runs that are going on get lost."
    )
    if not yes:
        confirm("Go on?")
    if at:
        # Nothing has stopped yet: what fails here has changed nothing.
        chosen = box.recover(epoch, at, objects)
    before = bring_back(ready, box, chosen, exact=exact)
    say(f"\n✓ restored {chosen.id}; the stack {stack.name} has now:")
    box.do("contents")
    say(f"What was there before: {_command(stack.name, before)}\nProve it: scripts/smoke --stack {stack.name}")
    return 0


def bring_back(ready: Ready, box: Box, chosen: Snapshot, *, exact: bool) -> Snapshot:
    """Put a backup in the place of what a stack has; return the backup of that.

    Raises:
        Failure: a step failed; says what the way back is.
    """
    stack = Stack(ready.stack, ready.env)
    options, env = policy.prepare(ready.env)
    applied = Stack(stack.name, env)
    known = versions.running(ready) == versions.locked()
    with halt.halted(ready):
        say("\nwhat is there now is backed up first")
        before = box.save(stack, BEFORE_RESTORE)
        say(f"\nrestore {chosen.id}")
        with _way_back(stack.name, before):
            box.do("restore", chosen.id, *(["exact"] if exact else []))
            if not known:
                # Started as it is, a server of a newer version would make the database that version's again.
                versions.forget(stack)
                say(f"\npulumi up: stack {stack.name}")
                update(applied, "up", *options, yes=True)
    with _way_back(stack.name, before):
        # Blocks, deployments and pools are those of the backup now; they must be as the settings and keys of today.
        say(f"\npulumi up --refresh: stack {stack.name}")
        update(applied, "up", "--refresh", *options, yes=True)
    return before


def choose(snapshots: Sequence[Snapshot], wanted: str) -> Snapshot:
    """Return the snapshot that is meant; `latest` is none of those that a restore made.

    Raises:
        Failure: there is none.
    """
    found = [
        each
        for each in snapshots
        if (each.tag not in SIDE if wanted == "latest" else each.id == wanted[: len(each.id)])
    ]
    if not found:
        what = "backup yet" if wanted == "latest" else f"backup {wanted}; `scripts/backup --list` shows what there is"
        raise Failure(f"There is no {what}. Nothing was changed.")
    return found[-1]


def choose_epoch(box: Box, moment: datetime) -> Epoch:
    """Return what the database of a moment is recovered from.

    Raises:
        Failure: that moment can't be had; says which can.
    """
    found = box.epochs()
    if found and moment > found[-1].last and moment <= datetime.now(UTC):
        # What the next minute would bring.
        box.do("archive")
        found = box.epochs()
    if not found:
        raise Failure(
            "No moment is kept, only backups: `scripts/backup --list` shows them. Nothing was changed.\n"
            "Set backup.point_in_time: true and run scripts/up to have them from then on."
        )
    for epoch in reversed(found):
        if epoch.holds(moment):
            return epoch
    raise Failure(
        f"The database can't be had as it was at {moment:%Y-%m-%d %H:%M:%S} UTC. Nothing was changed.\n"
        f"  Give a moment from {told(found)}; `scripts/backup --list` shows that, too."
    )


def objects_at(snapshots: Sequence[Snapshot], moment: datetime) -> Snapshot | None:
    """Return the last backup of the bucket before a moment, if any."""
    return next((each for each in reversed(snapshots) if each.tag != RECOVERED and each.time <= moment), None)


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
