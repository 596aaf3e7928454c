"""The flow of scripts/backup, and what scripts/restore needs of it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from scripts.lib import stacks
from scripts.lib.engine import Engine
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Failure, say

BEFORE_RESTORE = "before-restore"
"""Tag of what was there before a restore."""
BEFORE_UPGRADE = "before-upgrade"
"""Tag of what was there before an upgrade."""
MOVED = "moved"
"""Tag of what goes from one stack to another, in both."""
RECOVERED = "recovered"
"""Tag of a database as it was at a moment, with the objects of the backup before."""
SIDE = frozenset({BEFORE_RESTORE, RECOVERED})
"""Tags of what restores make: none of them is the last backup."""
LIST_SECONDS = 300.0


@dataclass(frozen=True)
class Snapshot:
    """A backup: all of the stack at one time."""

    id: str
    time: datetime
    tag: str
    """`scheduled`, `manual`, BEFORE_RESTORE, BEFORE_UPGRADE, MOVED or RECOVERED."""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Snapshot":
        """Read what restic says of one (https://restic.readthedocs.io/en/stable/075_scripting.html)."""
        return cls(entry["short_id"], _time(entry), ",".join(entry.get("tags") or []))

    def line(self, now: datetime) -> str:
        """Return it as a line: its id, time, age and tag."""
        return f"{self.id}  {self.time:%Y-%m-%d %H:%M} UTC  {ago(now - self.time):>8} ago  {self.tag}"


@dataclass(frozen=True)
class Epoch:
    """A copy of Postgres' files, and the write-ahead log after it: the way to any moment between two."""

    base: str
    """Snapshot of the files."""
    log: str
    """Snapshot of the log."""
    first: datetime
    last: datetime

    def holds(self, moment: datetime) -> bool:
        """Say whether the database can be had as it was then."""
        return self.first <= moment <= self.last


def epochs(entries: Iterable[dict[str, Any]]) -> list[Epoch]:
    """Read what restic says of bases and logs; oldest first. A base without a log is none, nor is a log alone."""
    bases: dict[str, dict[str, Any]] = {}
    logs: dict[str, dict[str, Any]] = {}
    for entry in sorted(entries, key=_time):
        # `base` or `wal`, the epoch, and Postgres' version; see images/backup/point-in-time.
        kind, name = entry["tags"][:2]
        {"base": bases, "wal": logs}[kind][name] = entry
    return [
        Epoch(base["short_id"], logs[name]["short_id"], _time(base), _time(logs[name]))
        for name, base in bases.items()
        if name in logs
    ]


def spans(found: Sequence[Epoch]) -> list[tuple[datetime, datetime]]:
    """Return from when to when a database can be had as it was; more than one where there are gaps."""
    joined: list[tuple[datetime, datetime]] = []
    for epoch in found:
        if joined and epoch.first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], epoch.last)
        else:
            joined.append((epoch.first, epoch.last))
    return joined


def told(found: Sequence[Epoch]) -> str:
    """Say from when to when, for people."""
    return " and ".join(f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC" for first, last in spans(found))


def _time(entry: dict[str, Any]) -> datetime:
    # Nanoseconds, which Python does not take.
    return datetime.fromisoformat(entry["time"][:19]).replace(tzinfo=UTC)


def ago(age: timedelta) -> str:
    """Return an age in its largest whole unit, such as `5 h`."""
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("days", 2 * 86400), ("h", 7200), ("min", 120)):
        if seconds >= length:
            return f"{seconds // (86400 if unit == 'days' else length // 2)} {unit}"
    return f"{seconds} s"


class Box:
    """A stack's backup container."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self._engine: Engine = stacks.settings(stack).engines[0]
        self._name = f"{PROJECT}-{stack}-backup"
        if not self._engine.states(PROJECT, stack).get(self._name, "").startswith("Up"):
            raise Failure(
                f"The stack {stack} has no container {self._name} that runs. Set backup.mode: managed in "
                f"{stacks.tracked(stack).name}, as docs/backup.md tells, and run scripts/up."
            )

    def do(self, *words: str) -> None:
        """Let it do something before the user's eyes.

        Raises:
            Failure: it did not end well.
        """
        with self._engine.follow("exec", self._name, "backup", *words, shown=True) as process:
            code = process.wait()
        if code:
            raise Failure(f"It ended with {code}; what it said is above.")

    def snapshots(self) -> list[Snapshot]:
        """Return this stack's backups, oldest first."""
        listed = json.loads(self._engine.docker("exec", self._name, "backup", "snapshots", timeout=LIST_SECONDS))
        return sorted(map(Snapshot.of, listed or []), key=lambda snapshot: snapshot.time)

    def epochs(self) -> list[Epoch]:
        """Return what there is to recover a moment from, oldest first."""
        return epochs(
            json.loads(self._engine.docker("exec", self._name, "backup", "epochs", timeout=LIST_SECONDS)) or []
        )

    def recover(self, epoch: Epoch, moment: datetime, objects: Snapshot | None) -> Snapshot:
        """Make a backup of the database as it was at a moment, and of the objects of another backup."""
        self.do("recover", epoch.base, epoch.log, moment.isoformat(sep=" "), *([objects.id] if objects else []))
        return self.snapshots()[-1]

    def save(self, stack: Stack, tag: str) -> Snapshot:
        """Back up, together with the stack's state (its secrets stay encrypted) and settings."""
        for name, content in (
            ("state.json", stack.pulumi("stack", "export")),
            (stacks.tracked(stack.name).name, stacks.config_file(stack.name).read_text()),
        ):
            self._engine.docker("exec", "--interactive", self._name, "backup", "keep", name, given=content)
        self.do("now", tag)
        return self.snapshots()[-1]

    def send(self, snapshot: Snapshot, other: "Box") -> Snapshot:
        """Make a backup of this stack one of another stack, whose container puts it into its own repository."""
        here = ["exec", self._name, "backup", "export", snapshot.id]
        self._engine.hand_over(here, other._engine, ["exec", "--interactive", other._name, "backup", "import", MOVED])
        return other.snapshots()[-1]


def back_up(wanted: str | None) -> int:
    """Back up now; return the exit code."""
    stack = stacks.found(wanted)
    saved = Box(stack.name).save(stack, "manual")
    say(f"\n✓ snapshot {saved.id} of {stack.name}")
    say("Its password opens it, and nothing else does; keep a copy where this stack is not:")
    say(f"  scripts/pulumi stack --stack {stack.name} output backup_password --show-secrets")
    return 0


def show(wanted: str | None) -> int:
    """List the backups; return the exit code."""
    stack = stacks.found(wanted)
    now = datetime.now(UTC)
    box = Box(stack.name)
    snapshots = box.snapshots()
    for snapshot in snapshots:
        say(snapshot.line(now))
    last = f"the last is {ago(now - snapshots[-1].time)} old" if snapshots else "there is none"
    say(f"{len(snapshots)} backups of {stack.name}: {last}")
    backup = stacks.configuration(stack.name).get(f"{PROJECT}:backup")
    # The container of an older version knows nothing of them.
    kept = isinstance(backup, dict) and backup.get("point_in_time")
    if kept and (found := box.epochs()):
        say(f"the database as it was at any moment from {told(found)}")
    return 0


def check(wanted: str | None) -> int:
    """Read all backups and see whether they are whole; return the exit code."""
    stack = stacks.found(wanted)
    Box(stack.name).do("check")
    return 0
