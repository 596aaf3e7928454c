"""Alerts: what is declared for them, what the monitor finds, and what it says how often."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.alerts import notices
from monitor.checks import Problem, Watch, late_archive, late_backups, low_disks
from monitor.limits import Limits
from monitor.outlets import Alert, merged
from scripts.lib import stacks
from settings import SettingsError, parse
from tests.unit.recorder import Recorded, is_secret, plain, record, revealed

pytestmark = pytest.mark.usefixtures("_project")

BUILD: Mapping[str, Any] = {"images": {"source": "build"}}
WEBHOOK = "https://hooks.example.com/services/T0/f4e1c0"
SMTP = {"host": "mail.example.com", "user": "robot", "password": "smtp-secret", "sender": "prefect@example.com"}
EMAIL = {"to": ["ops@example.com"], "smtp": SMTP}
ALERTS = {"webhook": WEBHOOK, "email": EMAIL}
GB = 10**9
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
LIMITS = Limits()


def declared(**settings: Any) -> dict[str, Recorded]:
    resources = record({**BUILD, "alerts": ALERTS, **settings}, secret=("alerts",))
    return {r.name: r for r in resources if r.kind in {"Automation", "Block", "Container", "GeneratedSecret"}}


def told(monitor: Recorded) -> tuple[dict[str, Any], dict[str, Any]]:
    """The monitor's configuration and its secrets."""
    files = {each["file"]: each["content"] for each in revealed(monitor.inputs)["uploads"]}
    return json.loads(files["/etc/monitor.json"]), json.loads(files["/root/monitor"])


def test_nobody_is_told_by_default() -> None:
    assert not [r.name for r in record(BUILD) if "alert" in r.name or "monitor" in r.name]


def test_the_monitor_has_its_secrets_in_a_file_alone() -> None:
    monitor = declared()["monitor"]
    _, secrets = told(monitor)
    assert secrets == {"token": "generated-monitor-token", "webhook": WEBHOOK, "smtp_password": "smtp-secret"}
    for secret in secrets.values():
        assert secret not in json.dumps(plain(monitor.inputs))
    [file] = [each for each in monitor.inputs["uploads"] if each["file"] == "/root/monitor"]
    assert is_secret(file["content"])


def test_the_monitor_reaches_prefect_alone_and_reads_nothing() -> None:
    monitor = declared()["monitor"]
    assert [n["name"] for n in monitor.inputs["networksAdvanced"]] == ["prefect-environment-test-prefect-network"]
    assert not monitor.inputs.get("ports")
    assert monitor.inputs["capabilities"] == {"drops": ["ALL"], "adds": ["CAP_SETGID", "CAP_SETUID"]}
    assert "setpriv --reuid 65534" in monitor.inputs["command"][-1]
    configuration, _ = told(monitor)
    assert configuration["disks"] == {"/": "containers and volumes"}
    assert configuration["backup"] is None
    assert configuration["doors"] == []
    assert configuration["prefect"] == "http://prefect-server:4200/api"
    assert configuration["mail"]["to"] == ["ops@example.com"]


def test_what_there_is_to_look_at() -> None:
    monitor = declared(
        backup={"mode": "managed", "directory": "/srv/backup"},
        minio={"data_directory": "/srv/minio"},
        proxy={"mode": "managed", "domain": "example.com", "address": "127.0.0.1", "https_port": 8443},
        alerts={**ALERTS, "certificate_days": 5, "backup_hours": 50, "disk_free_percent": 3},
    )["monitor"]
    configuration, _ = told(monitor)
    assert configuration["disks"] == {
        "/": "containers and volumes",
        "/var/lib/backup": "volumes",
        "/backups": "/srv/backup",
        "/objects": "/srv/minio",
    }
    assert configuration["backup"] == "/var/lib/backup"
    assert configuration["limits"] == {"disk_free_percent": 3, "certificate_days": 5, "backup_hours": 50}
    caddy = {"address": "prefect-environment-test-caddy", "port": 8443}
    names = ["tasks", "tasks-api", "storage", "storage-console"]
    assert configuration["doors"] == [{"host": f"{name}.example.com", **caddy} for name in names]
    assert all(volume["readOnly"] for volume in monitor.inputs["volumes"])
    assert "prefect-environment-test-caddy-network" in {n["name"] for n in monitor.inputs["networksAdvanced"]}


def test_prefect_knows_the_monitor_and_not_the_webhook() -> None:
    resources = record({**BUILD, "alerts": ALERTS}, secret=("alerts",))
    [block] = [r for r in resources if r.name == "alerts" and r.kind == "Block"]
    data = revealed(block.inputs)["data"]
    assert data["url"] == "http://monitor:9095/"
    assert data["secrets"] == {"token": "generated-monitor-token"}
    assert is_secret(block.inputs["data"])
    for each in (r for r in resources if r.kind in {"Block", "Automation"}):
        assert "f4e1c0" not in json.dumps(revealed(each.inputs))
    # The server makes its encryption key with the first block: two at once collide.
    assert {r.urn for r in resources if r.kind == "Block" and r.name == "dask-block"} <= block.depends_on


def test_each_notice_names_the_stack_the_thing_its_link_and_what_to_do() -> None:
    automations = {name: revealed(r.inputs) for name, r in declared().items() if name.startswith("alert-")}
    assert sorted(automations) == ["alert-failed-run", "alert-late-run", "alert-no-worker"]
    for each in automations.values():
        [action] = each["actions"]
        assert action["type"] == "send-notification"
        assert action["block_document_id"] == "id-of-alerts"
        assert action["subject"].startswith("[test] ")
        assert "|ui_url }}" in action["body"]
        assert "\nFirst: " in action["body"]


def test_prefect_takes_triggers_and_texts() -> None:
    """As its server does when an automation is made: unknown filters and broken templates are refused."""
    from prefect.events.schemas.automations import AutomationCore
    from prefect.server.events.jinja_filters import all_filters
    from prefect.server.utilities.user_templates import register_user_template_filters, validate_user_template

    register_user_template_filters(all_filters)
    for notice in notices(180):
        AutomationCore.model_validate({"name": "n", "trigger": notice.trigger, "actions": [{"type": "do-nothing"}]})
        validate_user_template(notice.subject)
        validate_user_template(notice.body)


@pytest.mark.parametrize(
    "webhook", ["hooks.example.com/f4e1c0", "ftp://h/f4e1c0", "https://h/f4e1c0 ", "https://[f4e1c0"]
)
def test_what_is_no_url_is_refused_without_being_shown(webhook: str) -> None:
    with pytest.raises(SettingsError) as caught:
        record({**BUILD, "alerts": {"webhook": webhook}}, secret=("alerts",))
    assert "alerts.webhook: it is no URL" in str(caught.value)
    assert "f4e1c0" not in str(caught.value)


@pytest.mark.parametrize(
    ("alerts", "problem"),
    [
        ({"email": {**EMAIL, "to": []}}, "alerts.email.to"),
        ({"email": {**EMAIL, "to": ["ops"]}}, "alerts.email.to"),
        ({"email": {"to": ["ops@example.com"]}}, "alerts.email.smtp"),
        ({"disk_free_percent": 0}, "alerts.disk_free_percent"),
        ({"backup_hours": 24}, "alerts.backup_hours"),
    ],
)
def test_settings_that_cannot_work(alerts: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"alerts": alerts}, "test")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("alerts", "path"),
    [({"webhook": WEBHOOK}, r"alerts\.webhook"), ({"email": EMAIL}, r"alerts\.email\.smtp\.password")],
)
def test_secrets_in_plain_text_are_refused(alerts: dict[str, Any], path: str) -> None:
    with pytest.raises(SettingsError, match=f"{path}: it is in plain text"):
        record({**BUILD, "alerts": alerts})


def test_alerts_without_prefect_are_refused() -> None:
    profiles = {"orion": False, "agent": False, "cli": False}
    with pytest.raises(SettingsError, match="alerts: runs and workers are Prefect's to tell of"):
        record({**BUILD, "profiles": profiles, "alerts": ALERTS}, secret=("alerts",))


def test_status_judges_by_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"prefect-environment:alerts": {"certificate_days": 5, "webhook": {"secure": "v1:x"}}}
    monkeypatch.setattr(stacks, "configuration", lambda _: given)
    assert stacks.settings("test").limits == Limits(certificate_days=5)
    shipped = parse({}, "test").alerts
    assert Limits() == Limits(shipped.disk_free_percent, shipped.certificate_days, shipped.backup_hours)


@pytest.mark.parametrize(
    ("total", "free", "low"),
    [(100, 11, False), (100, 9, True), (1000, 21, False), (1000, 19, True), (10, 1.1, False), (10, 0.9, True)],
)
def test_a_disk_is_low_by_share_and_by_size(total: float, free: float, *, low: bool) -> None:
    assert LIMITS.disk_is_low(int(total * GB), int(free * GB)) is low
    assert not Limits(disk_free_percent=1).disk_is_low(int(total * GB), int(free * GB))


@pytest.mark.parametrize(
    ("left", "whole", "soon"),
    [(timedelta(days=15), timedelta(days=90), False), (timedelta(days=13), timedelta(days=90), True),
     (timedelta(hours=3), timedelta(hours=12), False), (timedelta(hours=2), timedelta(hours=12), True)],
)  # fmt: skip
def test_a_certificate_ends_soon_by_time_and_by_share(left: timedelta, whole: timedelta, *, soon: bool) -> None:
    assert LIMITS.ends_soon(left, whole) is soon


def marks(directory: Path, **ages: float) -> Path:
    """Marks of the backup, so many hours old."""
    for name, hours in ages.items():
        (directory / name).touch()
        then = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(directory / name, (then, then))
    return directory


@pytest.mark.parametrize(
    ("ages", "subject"),
    [
        ({}, None),  # It has not started yet.
        ({"attempt": 20}, None),
        ({"attempt": 40}, "no backup for 40 h"),
        ({"attempt": 2, "succeeded": 1}, None),
        ({"attempt": 2, "succeeded": 31}, "no backup for 31 h"),
        ({"attempt": 0, "succeeded": 25, "failed": 0}, "the last backup failed"),
    ],
)
def test_backups_that_are_told_of(tmp_path: Path, ages: dict[str, float], subject: str | None) -> None:
    found = list(late_backups(LIMITS, marks(tmp_path, **ages), NOW))
    assert [each.subject for each in found] == ([subject] if subject else [])


@pytest.mark.parametrize(("minutes", "late"), [(None, False), (9, False), (11, True)])
def test_a_write_ahead_log_that_does_not_arrive_is_told(tmp_path: Path, minutes: float | None, *, late: bool) -> None:
    ages = {} if minutes is None else {"archived": minutes / 60}
    found = list(late_archive(marks(tmp_path, **ages), NOW))
    assert [each.subject for each in found] == (["Postgres is not saved minute by minute"] if late else [])


def test_one_file_system_is_one_disk_and_a_lost_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    places = {str(tmp_path): "volumes", str(tmp_path / "there"): "/srv/minio", str(tmp_path / "gone"): "/srv/backup"}
    assert [each.subject for each in low_disks(Limits(disk_free_percent=0), places)] == ["lost disk: /srv/backup"]
    monkeypatch.setattr("monitor.limits.LOW_DISK_BYTES", 10**20)
    always = Limits(disk_free_percent=10**9)
    assert [each.subject for each in low_disks(always, places)] == ["low disk: volumes", "lost disk: /srv/backup"]


DISK = Problem("disk volumes", "low disk: volumes", "1 GB")
DOOR = Problem("a.test", "no certificate: a.test", "nobody")


def subjects(watch: Watch, seen: list[Problem], now: float) -> list[str]:
    return [subject for subject, _ in watch.news(seen, now)]


def test_what_lasts_is_told_once_and_again_after_a_day_and_when_it_is_over() -> None:
    watch = Watch(180)
    assert subjects(watch, [DISK], 0) == []
    assert subjects(watch, [DISK, DOOR], 170) == []
    assert subjects(watch, [DISK, DOOR], 180) == [DISK.subject]
    assert subjects(watch, [DISK], 400) == []
    assert subjects(watch, [DISK, DOOR], 410) == [], "it begins anew"
    assert subjects(watch, [DISK, DOOR], 600) == [DOOR.subject]
    assert subjects(watch, [DISK, DOOR], 180 + 86400) == [DISK.subject]
    assert subjects(watch, [DOOR], 190 + 86400) == [f"over: {DISK.subject}"]
    assert subjects(watch, [DOOR], 200 + 86400) == []


def test_a_thousand_alerts_are_one_message() -> None:
    assert merged([Alert("one", "text")]) == Alert("one", "text")
    many = merged([Alert(f"run {number}", "failed") for number in range(1000)])
    assert many.subject == "run 0, and 999 more"
    assert many.body.startswith("run 0\nfailed\n\nrun 1\nfailed\n\n")
    assert many.body.endswith("run 19\nfailed\n\nand 980 more")
