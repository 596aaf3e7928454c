"""Point in time: a real Postgres, the container that keeps what happens in it, and its way back to any moment."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.postgres import ARCHIVER
from providers.postgres.role import RoleProvider
from scripts.lib.backup import Epoch, epochs, spans
from tests.e2e.environment import docker, eventually
from tests.integration.harness import Engine, fresh_process
from tests.integration.images import image
from tests.integration.test_postgres_role import ADMIN, answers, made, program

__all__ = ["fresh_process"]

# One after the other goes on with what the former has left.
pytestmark = pytest.mark.xdist_group("point-in-time")

HELD = "/var/lib/backup"
SLOT = "prefect_environment_backup"


@dataclass(frozen=True)
class Kept:
    """A Postgres, and the backup container beside it."""

    name: str
    password: str
    network: str
    directory: Path
    """For secrets and the like."""

    @property
    def postgres(self) -> str:
        return f"{self.name}-postgres"

    def begin(self, **settings: str) -> None:
        """Start the container anew, on the volumes that there are."""
        docker("rm", "--force", self.name, ok=False)
        env = {
            "BACKUP_SCHEDULE": "00:00",
            "BACKUP_TARGET": "/target",
            "RESTIC_REPOSITORY": "/target",
            **{f"KEEP_{what}": "7" for what in ("DAILY", "WEEKLY", "MONTHLY")},
            "PGHOST": self.postgres,
            "PGPORT": "5432",
            "PGDATABASE": ADMIN,
            "PGUSER": ADMIN,
            "ARCHIVER": ARCHIVER,
            **settings,
        }
        words = [word for key, value in env.items() if value for word in ("--env", f"{key}={value}")]
        volumes = [
            word for path in (HELD, "/target") for word in ("--volume", f"{self.name}{path.replace('/', '-')}:{path}")
        ]
        rights = ["--cap-drop", "ALL", "--cap-add", "SETGID", "--cap-add", "SETUID", "--memory", "512m"]
        options = ["--name", self.name, "--hostname", self.name, "--network", self.network, *words, *volumes, *rights]
        docker("create", *options, "--security-opt", "no-new-privileges", image("backup"))
        for file in ("password", "database-password", "archiver-password"):
            (self.directory / file).write_text(self.password)
            docker("cp", str(self.directory / file), f"{self.name}:/root/backup-{file}")
        docker("start", self.name)

    def do(self, *words: str) -> str:
        return docker("exec", self.name, "backup", *words)

    def epochs(self) -> list[Epoch]:
        return epochs(json.loads(self.do("epochs")) or [])

    def archive(self) -> list[Epoch]:
        """What there is once all that happened until now is kept."""
        self.do("archive")
        return self.epochs()

    def at(self, moment: datetime, objects: str = "") -> str:
        """Bring the database back as it was; the snapshot that it came from, with the objects of another."""
        [*_, epoch] = [each for each in self.archive() if each.holds(moment)]
        said = self.do("recover", epoch.base, epoch.log, moment.isoformat(sep=" "), *filter(None, [objects]))
        [snapshot] = [line.split()[1] for line in said.splitlines() if line.endswith(" saved")]
        self.do("restore", snapshot)
        return snapshot

    def sql(self, statement: str) -> str:
        return docker("exec", self.postgres, "psql", "-XAtqw", "-U", ADMIN, "-c", statement)

    def runs(self) -> str:
        return self.sql("SELECT string_agg(name, ' ') FROM runs")

    def write(self, name: str) -> datetime:
        """Add a run; a moment at which it was the last one."""
        self.sql(f"INSERT INTO runs VALUES ('{name}')")  # noqa: S608  (the tests' own)
        time.sleep(1)
        moment = datetime.now(UTC)
        time.sleep(1)
        return moment.replace(microsecond=0)

    def away(self) -> None:
        """The container has gone, and Postgres knows it."""
        docker("kill", self.name)
        eventually(lambda: self.sql("SELECT bool_or(active) FROM pg_replication_slots") == "f", 90)


@pytest.fixture(scope="module", name="kept")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    name = f"prefect-environment-tests-{secrets.token_hex(4)}"
    kept = Kept(name, secrets.token_hex(12), f"{name}-network", tmp_path_factory.mktemp("secrets"))
    docker("network", "create", kept.network)
    try:
        docker("rename", made("--network", kept.network, "--hostname", kept.postgres), kept.postgres)
        docker("start", kept.postgres)
        answers(kept.postgres)
        kept.begin()
        for role in ({}, {"role": ARCHIVER, "replicates": True}):
            Engine(RoleProvider()).up(program(kept.postgres, kept.password, **role))
        kept.sql("CREATE TABLE runs (name text)")
        eventually(lambda: docker("exec", kept.name, "ls", HELD).count("epoch"), 60)
        yield kept
    finally:
        docker("rm", "--force", "--volumes", kept.name, kept.postgres, ok=False)
        docker("volume", "rm", "--force", f"{name}-var-lib-backup", f"{name}-target", ok=False)
        docker("network", "rm", kept.network, ok=False)


def test_the_database_comes_back_as_it_was_between_two_changes(kept: Kept) -> None:
    between = kept.write("first")
    kept.write("second")
    kept.sql("DELETE FROM runs WHERE name = 'first'")
    last = kept.write("third")
    kept.at(between)
    assert kept.runs() == "first"
    # That is a change as well, and can be taken back.
    kept.at(last)
    assert kept.runs() == "second third"
    assert {"scratch", "restored"}.isdisjoint(docker("exec", kept.name, "ls", HELD).split())


def test_what_happens_while_it_is_away_and_before_postgres_crashes_is_kept(kept: Kept) -> None:
    [before] = kept.archive()
    kept.away()
    kept.sql("SELECT pg_switch_wal()")
    meanwhile = kept.write("meanwhile")
    docker("kill", kept.postgres)
    docker("start", kept.postgres)
    answers(kept.postgres)
    kept.write("later")
    docker("start", kept.name)
    [after] = kept.archive()
    assert after.base == before.base
    kept.at(meanwhile)
    assert kept.runs() == "second third meanwhile"


def test_a_backup_begins_an_epoch_without_a_gap(kept: Kept) -> None:
    first = kept.write("in the first epoch")
    kept.sql("SELECT pg_switch_wal()")
    objects = f"{HELD}/tree/objects"
    docker("exec", kept.name, "sh", "-c", f"mkdir {objects} && echo blue >{objects}/sky")
    said = kept.do("now", "scheduled")
    [backup] = [line.split()[1] for line in said.splitlines() if line.endswith(" saved")]
    docker("exec", kept.name, "rm", f"{objects}/sky")
    kept.write("in the second epoch")
    found = kept.archive()
    assert [len(found), len(spans(found))] == [2, 1]
    [segment] = docker("exec", kept.name, "ls", f"{HELD}/wal").split()[:1]
    assert int(segment[-8:].split(".")[0], 16) > 3
    recovered = kept.at(first, backup)
    assert kept.runs().endswith("in the first epoch")
    restic = ["exec", "--env", "RESTIC_PASSWORD_FILE=/root/backup-password", kept.name, "restic", "--no-lock"]
    assert docker(*restic, "dump", recovered, "/objects/sky") == "blue"


def test_of_a_log_whose_slot_was_lost_it_begins_anew(kept: Kept) -> None:
    before = kept.archive()
    kept.away()
    kept.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
    docker("start", kept.name)
    eventually(lambda: len(kept.epochs()) == len(before) + 1, 60)
    again = kept.write("again")
    assert len(spans(kept.archive())) == len(spans(before)) + 1
    kept.at(again)
    assert kept.runs().endswith("again")


def test_a_log_that_grows_too_large_ends_with_a_base_or_is_given_up(kept: Kept) -> None:
    docker("exec", kept.name, "sed", "-i", "s/^most_megabytes=.*/most_megabytes=40/", "/usr/local/lib/point-in-time")

    def grow() -> None:
        for _ in range(3):
            kept.sql("INSERT INTO runs VALUES ('more')")
            kept.sql("SELECT pg_switch_wal()")

    before = kept.epochs()
    grow()
    after = kept.archive()
    assert [len(after), len(spans(after))] == [len(before) + 1, len(spans(before))]
    grow()
    # As after an archiving that failed.
    kept.do("mend")
    found = kept.archive()
    assert [len(found), len(spans(found))] == [len(after) + 1, len(spans(after)) + 1]


def test_switched_off_it_keeps_nothing_back_in_postgres(kept: Kept) -> None:
    kept.away()
    kept.begin(ARCHIVER="")
    assert kept.epochs() == []
    eventually(lambda: kept.sql("SELECT count(*) FROM pg_replication_slots") == "0", 30)
    assert {"wal", "archived", "epoch", "cluster"}.isdisjoint(docker("exec", kept.name, "ls", HELD).split())
