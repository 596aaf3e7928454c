"""Backup: what is declared for it, and how a snapshot is chosen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts.lib.backup import BEFORE_RESTORE, Snapshot, ago
from scripts.lib.restore import choose
from scripts.lib.ui import Failure
from settings import SettingsError, parse
from tests.unit.recorder import Recorded, is_secret, plain, record, revealed

pytestmark = pytest.mark.usefixtures("_project")

TO_DIRECTORY = {"mode": "managed", "directory": "/srv/backup"}
S3 = {"endpoint": "https://s3.example.com", "bucket": "backups", "access_key": "id", "secret_key": "of-the-target"}
TO_S3 = {"mode": "managed", "s3": S3}
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def declared(backup: dict[str, Any], **settings: Any) -> tuple[Recorded, dict[str, str], dict[str, str]]:
    """The container, its environment and its secret files by name."""
    [box] = [
        r for r in record({"backup": backup, **settings}, secret=("backup",)) if r.urn.endswith("Container::backup")
    ]
    inputs = revealed(box.inputs)
    files = {each["file"]: each["content"] for each in inputs["uploads"]}
    return box, dict(line.split("=", 1) for line in inputs["envs"]), files


def test_no_backups_by_default() -> None:
    assert not [r for r in record() if "backup" in r.name]


def test_the_container_reaches_database_and_store_and_nothing_else() -> None:
    box, env, _ = declared(TO_DIRECTORY)
    names = {network["name"] for network in box.inputs["networksAdvanced"]}
    assert names == {"prefect-environment-test-minio-network", "prefect-environment-test-database-network"}
    assert not box.inputs.get("ports")
    assert box.inputs["capabilities"] == {"drops": ["ALL"], "adds": []}
    assert (env["PGHOST"], env["BUCKET"]) == ("postgres", "flows")
    assert {"containerPath": "/target", "hostPath": "/srv/backup"} in box.inputs["volumes"]
    assert (env["RESTIC_REPOSITORY"], env["BACKUP_TARGET"]) == ("/target", "/srv/backup")


def test_it_uses_the_key_that_may_touch_the_bucket_only() -> None:
    _, env, files = declared(TO_DIRECTORY)
    assert env["RCLONE_CONFIG_STORE_ACCESS_KEY_ID"] == "prefectuserkey"
    assert files["/root/backup-store-secret-key"] == "generated-prefect-user-key-secret"


def test_secrets_are_in_files_alone() -> None:
    box, _, files = declared({**TO_S3, "password": "a-long-password"})
    assert files == {
        "/root/backup-password": "a-long-password",
        "/root/backup-target-secret-key": "of-the-target",
        "/root/backup-database-password": "generated-postgres-password",
        "/root/backup-store-secret-key": "generated-prefect-user-key-secret",
    }
    for secret in files.values():
        assert secret not in str(plain(box.inputs))
        assert secret not in str(revealed(box.inputs["envs"]))
    assert all(is_secret(each["content"]) for each in box.inputs["uploads"])


@pytest.mark.parametrize(
    ("prefix", "repository"),
    [("", "s3:https://s3.example.com/backups"), ("here/there", "s3:https://s3.example.com/backups/here/there")],
)
def test_an_s3_target(prefix: str, repository: str) -> None:
    box, env, _ = declared({"mode": "managed", "s3": {**S3, "prefix": prefix}})
    assert env["RESTIC_REPOSITORY"] == repository
    assert not [volume for volume in box.inputs["volumes"] if "hostPath" in volume]


def test_the_generated_password_is_protected() -> None:
    [password] = [r for r in record({"backup": TO_DIRECTORY}) if r.name == "backup-password"]
    assert password.protect


def test_a_part_that_is_off_is_not_saved() -> None:
    _, env, files = declared(TO_DIRECTORY, profiles={"minio": False})
    assert "BUCKET" not in env
    assert "/root/backup-store-secret-key" not in files
    off = {"orion": False, "agent": False, "cli": False, "dask": False}
    _, env, files = declared(TO_DIRECTORY, profiles=off)
    assert "PGHOST" not in env
    assert "/root/backup-database-password" not in files


def test_a_database_elsewhere_is_asked_by_tls() -> None:
    elsewhere = {"mode": "external", "external": {"host": "db.example.com", "password": "its-password"}}
    [box] = [
        r
        for r in record({"backup": TO_DIRECTORY, "postgres": elsewhere}, secret=("postgres",))
        if r.urn.endswith("Container::backup")
    ]
    env = dict(line.split("=", 1) for line in revealed(box.inputs["envs"]))
    assert (env["PGHOST"], env["PGSSLMODE"]) == ("db.example.com", "verify-full")


@pytest.mark.parametrize(
    ("backup", "problem"),
    [
        ({"mode": "managed"}, "backup: directory, s3: backups go to one of them"),
        ({**TO_S3, "directory": "/srv/backup"}, "backup: directory, s3: backups go to one of them"),
        ({**TO_DIRECTORY, "directory": "backups"}, "must begin with /"),
        ({"mode": "managed", "s3": {**S3, "endpoint": "http://localhost:9000"}}, "container's own loopback"),
        ({"mode": "managed", "s3": {**S3, "endpoint": "s3.example.com/backups"}}, "is no endpoint"),
        ({**TO_DIRECTORY, "schedule": "24:00"}, "backup.schedule"),
        ({**TO_DIRECTORY, "keep": {"daily": 0}}, "backup.keep.daily"),
    ],
)
def test_settings_that_cannot_work(backup: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse({"backup": backup}, "test")
    assert problem in str(error.value)


def test_a_stack_without_data_has_nothing_to_save() -> None:
    off = dict.fromkeys(("orion", "agent", "cli", "minio", "dask"), False)
    with pytest.raises(SettingsError, match="nothing to save"):
        parse({"backup": TO_DIRECTORY, "profiles": off}, "test")


def test_plain_secrets_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"backup\.s3\.secret_key: it is in plain text"):
        record({"backup": TO_S3})


def snapshot(id_: str, tag: str = "scheduled") -> Snapshot:
    return Snapshot(id_, NOW, tag)


def test_latest_is_not_what_a_restore_saved() -> None:
    snapshots = [snapshot("11111111"), snapshot("22222222", "manual"), snapshot("33333333", BEFORE_RESTORE)]
    assert choose(snapshots, "latest").id == "22222222"
    assert choose(snapshots, "33333333").id == "33333333"
    with pytest.raises(Failure, match="no backup 44444444"):
        choose(snapshots, "44444444")
    with pytest.raises(Failure, match="no backup yet"):
        choose([snapshots[2]], "latest")


def test_a_snapshot_as_restic_tells_of_it() -> None:
    entry = {"time": "2026-03-04T02:30:07.123456789Z", "short_id": "1a2b3c4d", "tags": ["scheduled"]}
    assert Snapshot.of(entry).line(NOW) == "1a2b3c4d  2026-03-04 02:30 UTC       9 h ago  scheduled"


@pytest.mark.parametrize(
    ("age", "text"),
    [(5, "5 s"), (150, "2 min"), (7300, "2 h"), (47 * 3600, "47 h"), (3 * 86400, "3 days")],
)
def test_ages(age: int, text: str) -> None:
    assert ago(timedelta(seconds=age)) == text
