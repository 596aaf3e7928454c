"""The flow of scripts/upgrade."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from scripts.lib import halt, policy, recovery, stacks, versions
from scripts.lib.backup import BEFORE_UPGRADE, Box, Snapshot
from scripts.lib.engine import Engine
from scripts.lib.setup import Ready, set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, confirm, must_be_asked, say, step
from scripts.lib.up import IMAGE, outcome, prove, update

IMAGES = f"**{IMAGE}::**"
"""URNs of the images."""
MIGRATION_SECONDS = 6 * 3600
"""How long the database may take; within it, Prefect's own limit for one statement, which is 10 s."""
DATABASE = "PREFECT_SERVER_DATABASE_"


def upgrade(wanted: str | None, *, backup: bool, yes: bool) -> int:
    """Bring a stack to the version of Prefect that the locks have; return the exit code.

    Raises:
        Failure: it can't be done, the answer was no, or a step failed; says what runs then and what the way back is.
    """
    must_be_asked("It stops workers and server", yes=yes)
    ready = set_up(wanted, Consent(given=yes))
    stack = Stack(ready.stack, ready.env)
    now, then = versions.running(ready), versions.locked()
    if now is None:
        raise Failure(f"No server of {stack.name} runs that could be upgraded; see scripts/status.")
    if now == then:
        say(f"\n{stack.name} runs Prefect {then}, as the lock has it; nothing to do.")
        return 0
    if _numbers(now) > _numbers(then):
        raise Failure(
            f"{stack.name} runs Prefect {now}, and the lock has {then}, which can't read that database. Nothing was "
            f"done. Go back to a backup of that time: scripts/backup --list, scripts/restore --snapshot ID"
        )
    box = _box(stack.name) if backup else None
    say(
        f"\nPrefect {now} becomes {then}:\n"
        "1. Images are built, while all goes on.\n"
        "2. Workers and server are stopped; flow runs may end first, within drain_seconds.\n"
        f"3. {'A backup is made' if box else 'No backup is made'}, and the database is migrated.\n"
        "4. `pulumi up` brings server and workers of the new version, and greetings proves them."
    )
    if not yes:
        confirm("Go on?")
    recovery.recover(stack, ready.engines)
    say(f"\npulumi up: images of {stack.name}")
    update(stack, "up", "--target", IMAGES, yes=True)
    before = _migrated(ready, stack, box)
    with _way_back(stack.name, now, then, before):
        say(f"\npulumi up: stack {stack.name}")
        options, env = policy.prepare(ready.env)
        # Images of the former version stay until the next scripts/up: the way back is short.
        update(Stack(stack.name, env), "up", *options, yes=True)
        if prove(ready):
            raise Failure(f"The smoke test of {stack.name} failed; what it said is above.")
    outcome(ready)
    say(f"\n✓ {stack.name} runs Prefect {then}.{_back(stack.name, now, before)}")
    return 0


def _box(stack: str) -> Box:
    try:
        return Box(stack)
    except Failure as failure:
        raise Failure(
            f"{failure}\nWithout a backup there is no way back to the former version; --without-backup goes on without."
        ) from None


def _migrated(ready: Ready, stack: Stack, box: Box | None) -> Snapshot | None:
    """Stop what writes, back up and migrate; return the backup. Where that fails, all is as it was."""
    migration = Migration(ready.engines[0], stack)
    stopped = halt.stop(ready)
    before = None
    try:
        if box:
            before = box.save(stack, BEFORE_UPGRADE)
        migration.run()
    except BaseException:
        if box and before:
            # Each migration is a transaction of its own: some may be done.
            box.do("restore", before.id)
        stopped.start()
        raise
    return before


class Migration:
    """Prefect's migrations of the database, in a container of the new image that does no more.

    A server does them as it starts, too, with 10 s for each statement and nobody to see how they end.
    """

    def __init__(self, engine: Engine, stack: Stack) -> None:
        self._engine = engine
        self._name = f"{PROJECT}-{stack.name}-prefect-migration"
        [server] = json.loads(engine.docker("inspect", versions.server(stack.name)))
        self._env = [line for line in server["Config"]["Env"] if line.startswith(DATABASE)]
        networks = sorted(server["NetworkSettings"]["Networks"])
        self._network = next((name for name in networks if name.endswith("-database-network")), networks[0])
        [self._image] = [
            image["outputs"]["name"]
            for image in stacks.resources(stack.deployment(), IMAGE)
            if image["urn"].endswith("::prefect")
        ]

    def run(self) -> None:
        """Migrate.

        Raises:
            Failure: it did not work, or took too long.
        """
        env = [*self._env, f"{DATABASE}TIMEOUT={MIGRATION_SECONDS}"]
        words = [
            *("run", "--name", self._name, "--network", self._network),
            # The password is in it.
            *("--env-file", "/dev/stdin"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--log-driver", "none"),
            *(self._image, "prefect", "server", "database", "upgrade", "--yes"),
        ]
        try:
            with step("migrate the database"):
                self._engine.docker(*words, given="\n".join(env), timeout=MIGRATION_SECONDS)
        finally:
            # Also one that goes on while nobody waits for it any more; there may be none.
            with suppress(Failure):
                self._engine.remove("container", [self._name])


@contextmanager
def _way_back(stack: str, now: str, then: str, before: Snapshot | None) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        raise Failure(
            f"{failure}\nThe database is that of Prefect {then} now. Mend the cause and run scripts/up --stack {stack}."
            f"{_back(stack, now, before)}"
        ) from failure


def _back(stack: str, now: str, before: Snapshot | None) -> str:
    if before is None:
        return ""
    return (
        f"\nThe way back: check out the version of this project that has Prefect {now}, and run\n"
        f"  scripts/restore --stack {stack} --snapshot {before.id}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    # As the version contract orders them, which this machine's own Python can't import.
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
