"""Backup: what is declared for it, and how a snapshot is chosen."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from scripts.lib.backup import BEFORE_RESTORE, RECOVERED, Box, Epoch, Snapshot, ago, epochs, spans
from scripts.lib.restore import choose, choose_epoch, objects_at
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


def test_minute_by_minute_by_a_role_that_may_only_read() -> None:
    kept = {**TO_DIRECTORY, "point_in_time": True}
    box, env, files = declared(kept)
    assert env["ARCHIVER"] == "archiver"
    assert files["/root/backup-archiver-password"] == "generated-postgres-archiver-password"
    assert box.inputs["capabilities"] == {"drops": ["ALL"], "adds": ["CAP_SETGID", "CAP_SETUID"]}
    roles = [revealed(r.inputs) for r in record({"backup": kept}) if r.kind == "Role"]
    [archiver] = [each for each in roles if each["role"] == "archiver"]
    assert archiver["replicates"]
    assert "database" not in archiver
    assert not [each for each in roles if each["role"] != "archiver" and "replicates" in each]


def test_switching_it_on_or_off_leaves_postgres_as_it_is() -> None:
    def postgres(**backup: Any) -> object:
        [box] = [r for r in record({"backup": {**TO_DIRECTORY, **backup}}) if r.urn.endswith("Container::postgres")]
        return revealed(box.inputs)

    assert postgres() == postgres(point_in_time=True)
    assert "max_slot_wal_keep_size=1GB" in str(postgres())


def test_the_password_of_the_role_is_rotated_with_that_of_postgres() -> None:
    kept = {**TO_DIRECTORY, "point_in_time": True}
    made = {r.name: r.inputs for r in record({"backup": kept, "rotation": {"postgres": 3}})}
    assert made["postgres-archiver-password"]["version"] == made["postgres-password"]["version"] == 3


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
        ({"point_in_time": True}, "point_in_time: with mode none nothing is kept"),
    ],
)
def test_settings_that_cannot_work(backup: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse({"backup": backup}, "test")
    assert problem in str(error.value)


def test_the_write_ahead_log_of_another_server_is_not_for_the_stack() -> None:
    elsewhere = {"mode": "external", "external": {"host": "db.example.com", "password": "its-password"}}
    with pytest.raises(SettingsError, match=r"backup\.point_in_time: the stack has no Postgres of its own"):
        parse({"backup": {**TO_DIRECTORY, "point_in_time": True}, "postgres": elsewhere}, "test")


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


def entry(id_: str, kind: str, name: str, hour: float) -> dict[str, Any]:
    time = f"{NOW + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S}.123456789Z"
    return {"short_id": id_, "time": time, "tags": [kind, name, "postgres-15"]}


def at(hour: float) -> datetime:
    return NOW + timedelta(hours=hour)


KEPT = [
    entry("b1", "base", "one", 0),
    entry("w1-old", "wal", "one", 1),
    entry("w1", "wal", "one", 25),
    entry("b2", "base", "two", 24),
    entry("w2", "wal", "two", 30),
    entry("b3", "base", "without a log", 31),
    entry("w0", "wal", "of a base that has gone", -5),
    entry("b4", "base", "after a gap", 40),
    entry("w4", "wal", "after a gap", 41),
]


def test_a_base_and_the_last_of_its_logs_are_an_epoch() -> None:
    found = epochs(KEPT)
    assert found[0] == Epoch("b1", "w1", at(0), at(25))
    assert [each.base for each in found] == ["b1", "b2", "b4"]
    assert spans(found) == [(at(0), at(30)), (at(40), at(41))]


class FakeBox:
    """A backup container whose next archiving brings half an hour more."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.entries, self.did = entries, 0

    def epochs(self) -> list[Epoch]:
        return epochs(self.entries)

    def do(self, word: str) -> None:
        assert word == "archive"
        self.did += 1
        self.entries = [*self.entries, entry("w4-new", "wal", "after a gap", 41.5)]


@pytest.mark.parametrize(("hour", "base"), [(0, "b1"), (23, "b1"), (24.5, "b2"), (30, "b2"), (40.2, "b4")])
def test_a_moment_is_recovered_from_the_last_base_before_it(hour: float, base: str) -> None:
    box = FakeBox(KEPT)
    assert choose_epoch(cast("Box", box), at(hour)).base == base
    assert not box.did


def test_a_moment_of_just_now_is_fetched_first() -> None:
    box = FakeBox(KEPT)
    assert choose_epoch(cast("Box", box), at(41.2)).log == "w4-new"
    assert box.did == 1


@pytest.mark.parametrize("moment", [at(-1), at(35), at(42), datetime.now(UTC) + timedelta(days=1)])
def test_a_moment_that_is_not_kept_is_refused_with_those_that_are(moment: datetime) -> None:
    kept = "2026-03-04 12:00:00 to 2026-03-05 18:00:00 UTC and 2026-03-06 04:00:00 to"
    with pytest.raises(Failure, match=f"(?s)can't be had.*Nothing was changed.*{re.escape(kept)}"):
        choose_epoch(cast("Box", FakeBox(KEPT)), moment)


def test_where_no_moments_are_kept_the_setting_is_named() -> None:
    with pytest.raises(Failure, match=r"(?s)only backups.*backup\.point_in_time: true"):
        choose_epoch(cast("Box", FakeBox([])), NOW)


def test_objects_are_those_of_the_last_backup_before_a_moment() -> None:
    def made(id_: str, hour: float, tag: str) -> Snapshot:
        return Snapshot(id_, at(hour), tag)

    snapshots = [
        made("1", 1, "scheduled"),
        made("2", 2, BEFORE_RESTORE),
        made("3", 3, RECOVERED),
        made("4", 5, "manual"),
    ]
    found = [objects_at(snapshots, at(hour)) for hour in (0.5, 1, 4, 5.5)]
    assert [each and each.id for each in found] == [None, "1", "2", "4"]
    assert choose(snapshots[:3], "latest").id == "1"


def test_a_snapshot_as_restic_tells_of_it() -> None:
    entry = {"time": "2026-03-04T02:30:07.123456789Z", "short_id": "1a2b3c4d", "tags": ["scheduled"]}
    assert Snapshot.of(entry).line(NOW) == "1a2b3c4d  2026-03-04 02:30 UTC       9 h ago  scheduled"


@pytest.mark.parametrize(
    ("age", "text"),
    [(5, "5 s"), (150, "2 min"), (7300, "2 h"), (47 * 3600, "47 h"), (3 * 86400, "3 days")],
)
def test_ages(age: int, text: str) -> None:
    assert ago(timedelta(seconds=age)) == text
