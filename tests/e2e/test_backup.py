"""Backups, and what they are for: a stack that is gone with all its data comes back, its history included."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from time import sleep
from typing import Any, Final

import pytest

from tests.e2e.environment import NAMESPACE, Environment, docker, environment, eventually
from tests.receivers import Posts, posts

pytestmark = pytest.mark.xdist_group("backup")

OFFSET: Final = 2100
GREETINGS: Final = "greetings/test-deployment"
OBJECT: Final = "kept/by a backup/ŁÓDŹ+1.txt"
TYPE: Final = "application/json"
TEXT: Final = b"what must not be lost"
KEEP: Final = {"daily": 2, "weekly": 0, "monthly": 0}
DISK_MB: Final = 256
HELD: Final = "/var/lib/backup"
"""The container's own volume."""


@pytest.fixture(scope="module", name="target")
def _target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small disk of its own, where this is root's."""
    directory = tmp_path_factory.mktemp("target")
    if os.geteuid():
        yield directory
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture(scope="module", name="received")
def _received() -> Iterator[Posts]:
    with posts(docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")) as received:
        yield received


@pytest.fixture(scope="module", name="env")
def _env(tmp_path_factory: pytest.TempPathFactory, target: Path, received: Posts) -> Iterator[Environment]:
    settings: dict[str, Any] = {
        "profiles": {"cli": False},
        "backup": {"mode": "managed", "directory": str(target), "keep": KEEP},
        "alerts": {"patience_seconds": 10},
    }
    for env in environment(tmp_path_factory.mktemp("backup"), "backup", OFFSET, **settings):
        env.run("scripts/setup", "--yes", "--stack", env.stack)
        env.run("scripts/pulumi", "stack", "init", env.stack, "--non-interactive")
        env.pulumi("config", "set", "--secret", "--path", f"{NAMESPACE}:alerts.webhook", received.url)
        env.up()
        yield env


def inside(env: Environment, *words: str) -> str:
    """What a command in the container prints, with restic's password at hand."""
    return docker("exec", "-e", "RESTIC_PASSWORD_FILE=/root/backup-password", env.name("backup"), *words)


def listed(env: Environment) -> dict[str, str]:
    """Snapshot to its tag, as `scripts/backup --list` prints them, oldest first."""
    lines = env.run("scripts/backup", "--stack", env.stack, "--list").text
    return dict(re.findall(r"^([0-9a-f]{8})  .* (\S+)$", lines, re.MULTILINE))


def miss_a_night(env: Environment) -> None:
    """As after a day that the host was down."""
    inside(env, "touch", "-d", "2 days ago", f"{HELD}/attempt")


def test_a_night_that_was_missed_is_made_up_for(env: Environment, target: Path) -> None:
    none = env.run("scripts/backup", "--stack", env.stack, "--list", ok=False)
    assert none.code == 1
    assert f"there is no repository at {target}" in none.text
    miss_a_night(env)
    eventually(lambda: "every day" in docker("logs", env.name("backup")), 10)
    eventually(lambda: re.search("snapshot .* saved", docker("logs", env.name("backup"))), 120)
    assert list(listed(env).values()) == ["scheduled"]


def test_one_by_hand_says_what_it_saved(env: Environment) -> None:
    env.minio().put_object("flows", OBJECT, io.BytesIO(TEXT), len(TEXT), TYPE, {"team": "blue"})
    done = env.run("scripts/backup", "--stack", env.stack)
    for said in (r"database: \S+", r"objects: [1-9]\d*, \S+", r"snapshot [0-9a-f]{8} of backup"):
        assert re.search(said, done.text), done.text
    assert list(listed(env).values())[-1:] == ["manual"]
    files = inside(env, "restic", "ls", "--no-lock", "latest").splitlines()
    assert {"/database.dump", f"/objects/{OBJECT}", "/stack/state.json", "/stack/Pulumi.backup.yaml"} <= set(files)
    env.run("scripts/backup", "--stack", env.stack, "--check")
    seen = json.loads(env.run("scripts/status", "--stack", env.stack, "--json", ok=False).text)["backup"]
    assert datetime.now(UTC) - datetime.fromisoformat(seen["last"]) < timedelta(minutes=5)
    assert not seen["failed"]


def test_nothing_of_it_can_be_read_without_the_password(env: Environment, target: Path) -> None:
    stored = b"".join(path.read_bytes() for path in target.rglob("*") if path.is_file())
    assert stored
    assert not [word for word in (TEXT, b"PGDMP", b"greetings") if word in stored]
    saved = json.loads(inside(env, "restic", "dump", "--no-lock", "latest", "/stack/state.json"))
    assert saved["deployment"]["secrets_providers"]["type"] == "passphrase"
    assert env.secret("minio_root_password") not in json.dumps(saved)


def test_old_ones_go(env: Environment) -> None:
    old = [datetime.now(UTC) - timedelta(days=days) for days in (400, 40, 3)]
    for time in old:
        words = ["--host", env.name("backup"), "--tag", "scheduled", "--time", f"{time:%Y-%m-%d %H:%M:%S}"]
        inside(env, "restic", "backup", "--quiet", *words, "/etc/hostname")
    assert len(listed(env)) == 5
    miss_a_night(env)

    def kept() -> list[str]:
        snapshots = json.loads(inside(env, "restic", "snapshots", "--no-lock", "--json"))
        return [each["time"][:10] for each in snapshots if each["tags"] == ["scheduled"]]

    # Of a day the last one; one by hand is none of them.
    eventually(lambda: kept() == [f"{time:%Y-%m-%d}" for time in (old[-1], datetime.now(UTC))], 120)
    assert "manual" in listed(env).values()


def test_a_target_that_is_gone_is_no_backup(env: Environment, target: Path, received: Posts) -> None:
    away = target.with_name("away")
    shutil.copytree(target, away)
    before = listed(env)
    try:
        for path in target.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        done = env.run("scripts/backup", "--stack", env.stack, ok=False)
        assert done.code == 1
        assert f"the repository that was at {target} is gone" in done.text
        assert not list(target.iterdir())
        miss_a_night(env)
        eventually(lambda: env.health("backup") == "unhealthy", 180)
        eventually(lambda: received.about("[backup] the last backup failed"), 90)
    finally:
        shutil.copytree(away, target, dirs_exist_ok=True)
    env.run("scripts/backup", "--stack", env.stack)
    assert list(listed(env))[:-1] == list(before)
    eventually(lambda: env.health("backup") == "healthy", 60)
    eventually(lambda: received.about("[backup] over: the last backup failed"), 90)


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk that can be filled is mounted by root")
def test_a_full_target_is_no_backup(env: Environment, target: Path, received: Posts) -> None:
    before = listed(env)
    filler = target / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(target).f_bavail * os.statvfs(target).f_frsize
        os.posix_fallocate(file.fileno(), 0, free)
    try:
        env.minio().put_object("flows", "large", io.BytesIO(os.urandom(1_000_000)), 1_000_000)
        done = env.run("scripts/backup", "--stack", env.stack, ok=False)
        assert done.code == 1
        assert "no space left on device" in done.text
        eventually(lambda: received.about(f"[backup] low disk: {target}"), 90)
    finally:
        filler.unlink()
    assert listed(env) == before
    env.run("scripts/backup", "--stack", env.stack)
    env.run("scripts/backup", "--stack", env.stack, "--check")


def test_a_restore_that_fails_changes_no_database_and_names_the_way_back(env: Environment) -> None:
    half = "restic dump --no-lock latest /database.dump | head -c 300000 >database.dump"
    save = "restic backup --host $HOSTNAME --tag manual database.dump"
    inside(env, "sh", "-c", f"mkdir /tmp/half && cd /tmp/half && {half} && {save}")
    before = env.http("/flow_runs/count", {})
    done = env.run("scripts/restore", "--stack", env.stack, "--yes", ok=False)
    assert done.code == 1
    assert re.search(r"go back to what was there:\n  scripts/restore --stack backup --snapshot [0-9a-f]{8}", done.text)
    assert env.http("/flow_runs/count", {}) == before
    env.smoke()


def test_all_is_lost_and_comes_back(env: Environment) -> None:
    env.write_settings(alerts=None)  # Its secret is for the passphrase that will be lost.
    env.apply()
    flow_run = env.run_deployment(GREETINGS)
    assert flow_run["state_type"] == "COMPLETED"
    env.run("scripts/backup", "--stack", env.stack)
    password = env.secret("backup_password")
    before = env.http("/flow_runs/count", {})
    minio_password = env.secret("minio_root_password")

    env.down("--purge")
    assert not env.objects("volume")
    # Another machine has neither state nor passphrase.
    shutil.rmtree(env.home / "prefect-environment")
    shutil.rmtree(env.root / ".local")
    env.secrets.clear()
    env.up()
    assert env.secret("minio_root_password") != minio_password
    assert env.http("/flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}) == []

    refused = env.run("scripts/backup", "--stack", env.stack, ok=False)
    assert refused.code == 1
    assert "is encrypted with another password. Nothing was written" in refused.text
    assert env.run("scripts/restore", "--stack", env.stack, "--yes", ok=False).code == 1

    env.pulumi("config", "set", "--secret", "--path", f"{NAMESPACE}:backup.password", password)
    env.apply()
    done = env.run("scripts/restore", "--stack", env.stack, "--yes")

    assert env.http(f"/flow_runs/{flow_run['id']}")["state_type"] == "COMPLETED"
    assert env.http("/flow_runs/count", {}) == before
    assert env.minio().get_object("flows", OBJECT).data == TEXT
    kept = env.minio().stat_object("flows", OBJECT)
    assert (kept.content_type, (kept.metadata or {}).get("x-amz-meta-team")) == (TYPE, "blue")
    # The keys are new: so are the blocks that flows find their code and results by.
    env.smoke()
    assert "COMPLETED" in str(env.run_deployment(GREETINGS)["state_type"])

    # What was there before the restore is the way back from it.
    [way_back] = re.findall(r"scripts/restore --stack backup --snapshot ([0-9a-f]{8})", done.text)
    assert listed(env)[way_back] == "before-restore"


def test_the_database_comes_back_as_it_was_at_a_moment(env: Environment) -> None:
    def started() -> str:
        return docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", env.name("postgres"))

    before = started()
    # By itself: a password is beside it.
    env.pulumi("config", "set", "--path", f"{NAMESPACE}:backup.point_in_time", "true", "--type", "bool")
    env.apply()
    assert started() == before
    env.minio().put_object("flows", OBJECT, io.BytesIO(TEXT), len(TEXT), TYPE, {"team": "blue"})
    env.run("scripts/backup", "--stack", env.stack)
    env.minio().remove_object("flows", OBJECT)
    kept = env.run_deployment(GREETINGS)
    span = r"as it was at any moment from [0-9: -]{19} to [0-9: -]{19} UTC"
    eventually(lambda: re.search(span, env.run("scripts/backup", "--stack", env.stack, "--list").text), 120)
    sleep(2)
    moment = datetime.now(UTC)
    sleep(2)
    env.http(f"/flow_runs/{kept['id']}", method="DELETE")
    env.http("/variables/", {"name": "later", "value": 1})

    refused = env.run("scripts/restore", "--stack", env.stack, "--at", "2026-01-01", "--yes", ok=False)
    assert refused.code == 1
    assert "can't be had as it was at 2026-01-01 00:00:00 UTC. Nothing was changed" in refused.text
    east = moment.astimezone(timezone(timedelta(hours=9))).isoformat(sep=" ", timespec="seconds")
    env.run("scripts/restore", "--stack", env.stack, "--at", east, "--yes")
    assert env.http(f"/flow_runs/{kept['id']}")["state_type"] == "COMPLETED"
    assert env.http("/variables/filter", {}) == []
    assert env.minio().get_object("flows", OBJECT).data == TEXT
    seen = json.loads(env.run("scripts/status", "--stack", env.stack, "--json", ok=False).text)["backup"]
    assert datetime.now(UTC) - datetime.fromisoformat(seen["archived"]) < timedelta(minutes=3)
    # Nothing of it is in the way of what follows.
    assert list(listed(env).values())[-2:] == ["recovered", "before-restore"]


def test_a_bucket_as_target(env: Environment) -> None:
    env.minio().make_bucket("backups")
    s3 = {"endpoint": "http://minio:9000", "bucket": "backups", "prefix": "of/prefect", "access_key": "minio-root"}
    env.write_settings(backup={"mode": "managed", "s3": s3, "keep": KEEP})
    path = f"{NAMESPACE}:backup.s3.secret_key"
    env.pulumi("config", "set", "--secret", "--path", path, env.secret("minio_root_password"))
    env.apply()
    env.run("scripts/backup", "--stack", env.stack)
    assert list(listed(env).values()) == ["manual"]
    env.run("scripts/backup", "--stack", env.stack, "--check")
    names = [str(each.object_name) for each in env.minio().list_objects("backups", recursive=True)]
    assert "of/prefect/config" in names
    # Minute by minute no more, and Postgres keeps nothing for it.
    slots = ["psql", "-XAtw", "-U", "prefect", "-c", "SELECT count(*) FROM pg_replication_slots"]
    eventually(lambda: docker("exec", env.name("postgres"), *slots) == "0", 30)
